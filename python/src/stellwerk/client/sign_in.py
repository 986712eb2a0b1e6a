"""Who calls which server: from STELLWERK_URL and STELLWERK_TOKEN, or as `stellwerk login` kept it.

The file belongs to its user alone (0600) and is shared with the command line:
`{"servers": {"<url>": {"token": "...", "caBundle": "..."}}, "current": "<url>"}`.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Dict, NamedTuple, Optional

from .._transport import StellwerkError


class SignInNeeded(StellwerkError):
    """No server, or no token for it, is known on this machine."""


class Credentials(NamedTuple):
    url: str
    token: Optional[str]
    ca_bundle: Optional[str] = None


def credentials_path() -> str:
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(configuration, "stellwerk", "credentials.json")


def _kept() -> Dict[str, Any]:
    try:
        with open(credentials_path(), encoding="utf-8") as file:
            kept = json.load(file)
    except FileNotFoundError:
        kept = {}
    except ValueError as error:
        raise SignInNeeded("%s is not readable (%s); sign in again with `python -m stellwerk login`." % (credentials_path(), error))
    return kept if isinstance(kept.get("servers"), dict) else dict(kept, servers={})


def _keep(kept: Dict[str, Any]) -> None:
    folder = os.path.dirname(credentials_path())
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=folder, prefix=".credentials-")  # mkstemp makes it 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=2)
    os.replace(partial, credentials_path())


def plain_url(url: str) -> str:
    return url.rstrip("/")


def find_credentials(url: Optional[str] = None, token: Optional[str] = None) -> Credentials:
    """For this server, or the current one. What is given wins over the environment, and that over what is kept."""
    kept = _kept()
    chosen = url or os.environ.get("STELLWERK_URL") or kept.get("current")
    if not chosen:
        raise SignInNeeded(
            "No server is known here. Sign in with `python -m stellwerk login <url>`, or set STELLWERK_URL and STELLWERK_TOKEN."
        )
    chosen = plain_url(chosen)
    of_environment = plain_url(os.environ.get("STELLWERK_URL") or chosen) == chosen
    entry = kept["servers"].get(chosen, {})
    found = token or (os.environ.get("STELLWERK_TOKEN") if of_environment else None) or entry.get("token")
    bundle = (os.environ.get("STELLWERK_CA_BUNDLE") if of_environment else None) or entry.get("caBundle")
    if not found:
        raise SignInNeeded(
            "You are not signed in to %s. Sign in with `python -m stellwerk login %s`, or set STELLWERK_TOKEN." % (chosen, chosen)
        )
    return Credentials(chosen, found, bundle)


def keep_credentials(credentials: Credentials) -> None:
    """Keeps them for this user and makes the server the current one."""
    kept = _kept()
    entry = {"token": credentials.token}
    if credentials.ca_bundle:
        entry["caBundle"] = os.path.abspath(credentials.ca_bundle)
    kept["servers"][plain_url(credentials.url)] = entry
    kept["current"] = plain_url(credentials.url)
    _keep(kept)


def forget_credentials(url: str) -> bool:
    """Forgets the server; False if it was not known."""
    kept = _kept()
    known = kept["servers"].pop(plain_url(url), None) is not None
    if kept.get("current") == plain_url(url):
        kept.pop("current")
    _keep(kept)
    return known
