"""Asks a web service for a prediction. The key goes to that address only; redirects are not followed."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, Optional, Union
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from .exceptions import WebserviceException


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def ask(uri: str, data: Union[str, bytes], key: Optional[str] = None, ca_bundle: Optional[str] = None, timeout: float = 300) -> Any:
    """The answer: JSON as its value, anything else as text."""
    body = data.encode("utf-8") if isinstance(data, str) else data
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = "Bearer " + key
    here = urlsplit(uri).hostname in ("localhost", "127.0.0.1", "::1")
    context = tls(ca_bundle) if uri.startswith("https:") else None
    opener = build_opener(ProxyHandler({} if here else None), _NoRedirects(), HTTPSHandler(context=context))
    try:
        with opener.open(Request(uri, body, headers, method="POST"), timeout=timeout) as answer:
            content, kind = answer.read(), answer.headers.get_content_type()
    except HTTPError as error:
        raise WebserviceException(
            "The web service answered with status %d: %s" % (error.code, message_of(error.read())), error.code
        ) from None
    except (URLError, OSError, http.client.HTTPException) as error:
        raise WebserviceException(
            "The web service at %s cannot be reached: %s." % (uri, getattr(error, "reason", error))
        ) from None
    text = content.decode("utf-8", "replace")
    return json.loads(text) if kind == "application/json" and text else text


def tls(ca_bundle: Optional[str]) -> ssl.SSLContext:
    """Trusts what the machine trusts, and the certificates (PEM, or a file of them) that the server was signed in to with."""
    context = ssl.create_default_context()
    if ca_bundle and "-----BEGIN" in ca_bundle:
        context.load_verify_locations(cadata=ca_bundle)
    elif ca_bundle:
        context.load_verify_locations(cafile=ca_bundle)
    return context


def message_of(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        return str(found.get("message", text)) if isinstance(found, dict) else text
    except ValueError:
        return text[:2000]
