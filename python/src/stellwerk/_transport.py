"""How the SDK and the runner speak to a server: HTTP with keep-alive, TLS, proxies and retries.

The token goes only to the server it is for: redirects are never followed, and no message holds it.
A request is sent again only where that is harmless: when it cannot have been acted on, or when the verb
may be repeated. What the server refuses is a ServiceError; a server that does not answer is Unreachable.
One Transport may be used by many threads, and after a fork.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from urllib.parse import quote, urlencode

from stellwerk._file_part import FilePart, FileShrunk
from stellwerk._ways import way_to

PREFIX = "/api/v1"
CHUNK = 1024 * 1024
_REPEATABLE = frozenset(("GET", "HEAD", "PUT", "DELETE"))
_BUSY = frozenset((429, 502, 503, 504))
_IDLE_KEPT = 8
_BYTES = (bytes, bytearray, memoryview)


class StellwerkError(Exception):
    """Anything that Stellwerk reports to its user. As text it steers no terminal, whatever paths and names it is about."""

    def __str__(self):
        return harmless(Exception.__str__(self))


# Control characters but line ends and tabs, those that turn the direction of what follows, and bytes of a path that are no UTF-8.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def harmless(text):
    """With what would steer a terminal written as an escape."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


class ServiceError(StellwerkError):
    """The server refused: `reason` is stable and specific, `hint` says what to do about it."""

    def __init__(self, code, reason, message, hint="", details=None, status=0, incident=None):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.hint = hint
        self.details = details or {}
        self.status = status
        self.incident = incident

    def __str__(self):
        text = self.message
        if self.hint:
            text += " " + self.hint
        if self.incident:
            text += " (incident %s)" % self.incident
        return harmless(text)


class Unreachable(StellwerkError):
    """The server did not answer; whether it acted on the request is not known. `final`: trying again is no use."""

    final = False


def path_of(template, **fields):
    """Fills the `{field}` parts of a verb's path."""
    return template.format(**{name: quote(str(value), safe="") for name, value in fields.items()})


def query_of(fields):
    """Encodes what is not in the path; absent values are left out, lists repeat their name."""
    pairs = []
    for name, value in fields.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                pairs.append((name, ("true" if item else "false") if isinstance(item, bool) else item))
    return urlencode(pairs)


class Answer:
    """The answer to a request, read as it arrives. Give it back with `close()` or by reading it to its end."""

    def __init__(self, transport, connection, response):
        self._transport = transport
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers = response.headers

    def read(self, size=-1):
        if size is None or size < 0:
            data = self._taken(self._response.read)
            self._finish()
            return data
        return self._taken(self._response.read, size)

    def readinto(self, buffer):
        """Fills a buffer; returns how much of it, 0 at the end."""
        return self._taken(self._response.readinto, buffer)

    def read1(self, size):
        """What has arrived, at most so many bytes, for streams that are followed; empty at the end."""
        return self._taken(self._response.read1, size)

    def readline(self):
        """One line, for event streams."""
        return self._taken(self._response.readline)

    def _taken(self, read, *arguments):
        try:
            taken = read(*arguments)
        except Exception as error:
            self.close()
            raise self._transport.unreachable(error) from None
        if not taken and self._response.length:
            self.close()
            raise self._transport.unreachable(ConnectionError("the answer was cut"))
        if not taken:
            self._finish()
        return taken

    def __iter__(self):
        while True:
            data = self.read(CHUNK)
            if not data:
                return
            yield data

    def _finish(self):
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._response.isclosed() and not self._response.will_close:
                self._transport._keep(connection)
            else:
                connection.close()

    def close(self):
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Transport:
    """A server, and who calls it."""

    def __init__(self, url, token=None, ca_bundle=None, timeout=60.0, attempts=5, user_agent="stellwerk-python"):
        self.token = token
        self.ca_bundle = ca_bundle
        self.timeout = timeout
        self.attempts = attempts
        self._way = way_to(url, ca_bundle)
        self._base = self._way.base + PREFIX
        self._agent = user_agent
        self.url = self._way.url
        self._lock = threading.Lock()
        self._idle = []
        self._pid = os.getpid()

    def call(self, method, path, body=None, query=None, **options):
        """A verb that takes and gives JSON."""
        headers = dict(options.pop("headers", None) or {})
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=True, allow_nan=False).encode("ascii")
            headers["Content-Type"] = "application/json"
        return self._json(method, path, data, query, headers=headers, **options)

    def upload(self, method, path, data, query=None, **options):
        """A verb that takes bytes (bytes, a FilePart, a seekable file, or an iterable) and gives JSON."""
        headers = dict(options.pop("headers", None) or {})
        headers.setdefault("Content-Type", "application/octet-stream")
        return self._json(method, path, data, query, headers=headers, **options)

    def _json(self, *arguments, **options):
        answer = self.request(*arguments, whole=True, **options)
        return json.loads(answer.decode("utf-8")) if answer else {}

    def request(
        self, method, path, data=None, query=None, headers=None, idempotent=None, attempts=None, timeout=None, whole=False
    ):
        """Sends a request, again if need be, and returns the Answer (its bytes with `whole`); raises ServiceError or Unreachable."""
        target = self._base + path
        if query:
            encoded = query_of(query)
            target += "?" + encoded if encoded else ""
        repeatable = method in _REPEATABLE if idempotent is None else idempotent
        if data is not None and not isinstance(data, (*_BYTES, FilePart)) and not hasattr(data, "seek"):
            repeatable, attempts = False, 1  # an iterable can be read once only
        left = attempts or self.attempts
        pause = 0.2
        while True:
            left -= 1
            sent = [False]
            wait = None
            try:
                answer = self._send(method, target, data, headers or {}, timeout or self.timeout, sent)
                if answer.status < 300:
                    return answer.read() if whole else answer
                error = self._refusal(answer)
                if answer.status not in _BUSY or left <= 0:
                    raise error
                wait = _retry_after(answer.headers.get("Retry-After"))
            except Unreachable as error:
                if left <= 0 or error.final or (sent[0] and not repeatable):
                    raise
            time.sleep(wait if wait is not None else pause * (0.5 + random.random()))
            pause = min(pause * 2, 8.0)

    def await_way(self, seconds=5.0):
        """A way that is being laid is there in a moment; who asks too early, asks again a while later only."""
        self._way.wait(seconds)

    def close(self):
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self):
        if getattr(self, "_idle", None) and self._pid == os.getpid():
            self.close()

    def unreachable(self, error):
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        unreachable = Unreachable("The server %s cannot be reached: %s." % (self.url, self._clean(str(reason)).rstrip(".")))
        unreachable.final = type(error).__name__ == "SSLCertVerificationError"
        return unreachable

    def _send(self, method, target, data, headers, timeout, sent):
        from http.client import HTTPException

        all_headers = {"Host": self._way.authority, "User-Agent": self._agent, "Accept": "*/*"}
        if self.token:
            all_headers["Authorization"] = "Bearer " + self.token
        all_headers.update(headers)
        if data is None and method in ("POST", "PUT", "PATCH"):
            data = b""
        if hasattr(data, "seek"):
            data.seek(0, os.SEEK_END)
            all_headers["Content-Length"] = str(data.tell())
            data.seek(0)
        part, data = (data, None) if isinstance(data, FilePart) else (None, data)
        if part:
            all_headers["Content-Length"] = str(part.size)
        chunked = data is not None and not isinstance(data, _BYTES) and not hasattr(data, "seek")
        if chunked:
            all_headers["Transfer-Encoding"] = "chunked"
        connection = None
        try:
            connection = self._connection(timeout)
            if connection.stellwerk_forward:
                target = "http://%s%s" % (self._way.authority, target)
                all_headers.update(connection.stellwerk_forward)
            sent[0] = True
            try:
                connection.request(method, target, data, all_headers, encode_chunked=chunked)
                if part:
                    part.send(connection.sock)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server may have answered without reading everything
            return Answer(self, connection, connection.getresponse())
        except FileShrunk:
            connection.close()
            raise
        except (OSError, HTTPException, ValueError) as error:
            if connection is not None:
                connection.close()
            if not isinstance(error, (OSError, HTTPException)):  # a ValueError's message would show what is wrong, maybe the token
                message = "The address, the token or a header of the request has a character that HTTP does not allow."
                raise ServiceError("invalid-argument", "request.invalid", message) from None
            raise self.unreachable(error) from None

    def _connection(self, timeout):
        import select

        with self._lock:
            if self._pid != os.getpid():  # a forked child must not share sockets with its parent
                self._pid, self._idle = os.getpid(), []
            while self._idle:
                connection = self._idle.pop()
                try:
                    unusable = connection.sock is None or not self._way.still(connection)
                    stale = unusable or select.select([connection.sock], [], [], 0)[0]
                except (OSError, ValueError):
                    stale = True
                if not stale:
                    connection.sock.settimeout(timeout)
                    return connection
                connection.close()
        return self._way.connect(timeout)

    def _keep(self, connection):
        with self._lock:
            if self._pid == os.getpid() and len(self._idle) < _IDLE_KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _refusal(self, answer):
        status = answer.status
        try:
            body = json.loads(answer.read().decode("utf-8"))
            body = body.get("error", body) if isinstance(body.get("error", None), dict) else body
            return ServiceError(
                body["code"], body["reason"], self._clean(str(body["message"])), str(body.get("hint") or ""),
                body.get("details"), status, body.get("incident"),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, Unreachable):
            answer.close()
        if 300 <= status < 400:
            message = "The server %s answered with a redirect, which is never followed with a token." % self.url
            hint = "Use the address that the server itself names."
            return ServiceError("invalid-argument", "request.unknown-route", message, hint, None, status)
        code = {401: "unauthenticated", 403: "permission-denied", 404: "not-found", 413: "too-large"}.get(status)
        message = "The server %s answered with status %d." % (self.url, status)
        return ServiceError(code or ("unavailable" if status in _BUSY else "internal"), "server.unexpected", message, "", None, status)

    def _clean(self, text):
        return text.replace(self.token, "***") if self.token else text


def _retry_after(value):
    try:
        return min(max(float(value), 0.0), 60.0)
    except (TypeError, ValueError):
        return None
