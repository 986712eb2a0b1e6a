"""The ways to a server: over the network (TLS, proxies of the environment), by `unix:<path>`, a socket on this machine that leads there, or by
`relay:<file>`, a relay on another machine whose address and secret stand in the file, or a folder that both machines share.

Whoever carries what is said over such a socket may have to begin anew, with another one; then the path, a link, leads to that, or the file has another address.
"""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

_UNIX = "unix:"
_RELAY = "relay:"
_BLOCK = 256 * 1024
_CONNECT_SECONDS = 15.0


def way_to(url, ca_bundle=None):
    if url.startswith(_UNIX + "/"):
        return Socket(url)
    if url.startswith(_RELAY + "/"):
        return ByRelay(url)
    return Network(url, ca_bundle)


class Network:
    def __init__(self, url, ca_bundle):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("The server address %r must begin with http:// or https://." % _without_credentials(url))
        self.base = parts.path.rstrip("/")
        self._ca_bundle = ca_bundle
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        shown = "[%s]" % self._host if ":" in self._host else self._host
        self.authority = shown if parts.port is None else "%s:%d" % (shown, self._port)
        self.url = "%s://%s%s" % (parts.scheme, self.authority, self.base)
        self._context = None

    def connect(self, timeout):
        import http.client

        proxy = self._proxy()
        forward = {}
        host, port = (proxy.hostname, proxy.port or 80) if proxy else (self._host, self._port)
        if self._secure:
            connection = http.client.HTTPSConnection(host, port, timeout=min(timeout, _CONNECT_SECONDS), context=self._tls(), blocksize=_BLOCK)
            if proxy:
                connection.set_tunnel(self._host, self._port, headers=_proxy_credentials(proxy))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=min(timeout, _CONNECT_SECONDS), blocksize=_BLOCK)
            if proxy:
                forward = dict(_proxy_credentials(proxy), **{"Proxy-Connection": "keep-alive"})
        connection.stellwerk_forward = forward
        connection.connect()
        connection.sock.settimeout(timeout)
        return connection

    def wait(self, seconds):
        """Until it leads somewhere, for so long at most: only those that are laid for a run may not be there yet."""

    def still(self, connection):
        """Whether a connection that was kept is of use as far as the way is concerned."""
        return True

    def _proxy(self):
        if not any(name in os.environ for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
            return None
        from urllib.request import getproxies, proxy_bypass

        proxies = getproxies()
        address = proxies.get("https" if self._secure else "http") or proxies.get("all")
        if not address or proxy_bypass(self._host) or self._host in ("localhost", "127.0.0.1", "::1"):
            return None
        proxy = urlsplit(address if "://" in address else "http://" + address)
        return proxy if proxy.hostname else None

    def _tls(self):
        if self._context is None:
            import ssl

            self._context = ssl.create_default_context()
            if self._ca_bundle and "-----BEGIN" in self._ca_bundle:
                self._context.load_verify_locations(cadata=self._ca_bundle)
            elif self._ca_bundle:
                self._context.load_verify_locations(cafile=self._ca_bundle)
        return self._context


class Socket:
    base = ""
    authority = "localhost"

    def __init__(self, url):
        self.url = url
        self._path = url[len(_UNIX) :]

    def wait(self, seconds):
        _wait_for(self._path, seconds)

    def connect(self, timeout):
        import http.client
        import socket

        connection = http.client.HTTPConnection("localhost", blocksize=_BLOCK)
        connection.stellwerk_forward = {}
        connection.stellwerk_place = self._place()
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(min(timeout, _CONNECT_SECONDS))
            connection.sock.connect(connection.stellwerk_place)
        except OSError:
            connection.close()
            raise
        connection.sock.settimeout(timeout)
        return connection

    def still(self, connection):
        return connection.stellwerk_place == self._place()

    def _place(self):
        return os.path.realpath(self._path)


class ByRelay:
    base = ""
    authority = "localhost"

    def __init__(self, url):
        self.url = url
        self._file = url[len(_RELAY) :]
        self._folders = {}

    def wait(self, seconds):
        _wait_for(self._file, seconds)

    def connect(self, timeout):
        import http.client
        import socket

        place = self._place()
        if place is None:
            raise ConnectionRefusedError("There is no relay now.")
        connection = http.client.HTTPConnection("localhost", blocksize=_BLOCK)
        connection.stellwerk_forward = {}
        connection.stellwerk_place = place
        if "folder" in place:
            connection.sock = self._by_folder(place["folder"])
            connection.sock.settimeout(timeout)
            return connection
        connection.sock = socket.create_connection((place["host"], place["port"]), min(timeout, _CONNECT_SECONDS))
        try:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._introduce(connection.sock, place["secret"])
        except (OSError, ValueError):
            connection.close()
            raise ConnectionRefusedError("The relay at %s does not know us." % place["host"]) from None
        connection.sock.settimeout(timeout)
        return connection

    def still(self, connection):
        return connection.stellwerk_place == self._place()

    def _place(self):
        import json

        try:
            with open(self._file, encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def _by_folder(self, path):
        from stellwerk._shared_folder import SharedFolder

        own = (os.getpid(), path)  # a forked child has none of its parent's threads
        if own not in self._folders:
            self._folders = {own: SharedFolder(path)}
        return self._folders[own].connect()

    @staticmethod
    def _introduce(sock, secret):
        """Each side shows that it knows the secret, before anything else is said."""
        import hmac

        theirs, ours = _line(sock), os.urandom(16).hex()
        sock.sendall(("%s %s\n" % (ours, proof_of(secret, "node", theirs, ours))).encode())
        if not hmac.compare_digest(_line(sock), proof_of(secret, "relay", ours, theirs)):
            raise ConnectionRefusedError


def _wait_for(path, seconds):
    import time

    until = time.monotonic() + seconds
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)


def proof_of(secret, who, *numbers):
    import hmac

    return hmac.new(secret.encode(), " ".join((who,) + numbers).encode(), "sha256").hexdigest()


def _line(sock):
    """Byte by byte, so that nothing of what follows is taken."""
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte or len(line) > 200:
            raise ConnectionResetError
        line += byte
    return line.decode("ascii").strip()


def _proxy_credentials(proxy):
    if not proxy.username:
        return {}
    import base64

    pair = "%s:%s" % (unquote(proxy.username), unquote(proxy.password or ""))
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")}


def _without_credentials(url):
    return url.rsplit("@", 1)[-1] if "@" in url else url
