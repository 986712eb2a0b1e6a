"""The way to a server that cannot be reached from here, for as long as somebody holds our standard input and output: `python3 -m stellwerk.runner.relay <link>`.

Runs beside a runner, started by a server over whatever carries a program's input and output (an exec into a container, a login). Listens on a
Unix socket of its own, to which `<link>` leads from then on; what is said there goes over standard output as frames, and the answers come
over standard input. The newest relay has the link; when the input ends, or nothing comes over it for a minute, the socket is taken away.

A frame: connection (4 bytes), kind (1), length (4), and so many bytes. Each side sends no more of a connection than the other has granted.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import sys
import time

GREETING = b"\nstellwerk relay 1\n"
HEAD = struct.Struct(">IBI")
OPEN, DATA, END, RESET, GRANT, PING = range(6)
WINDOW = 256 * 1024
_BLOCK = 64 * 1024
_FULL = 1024 * 1024
_LONGEST = 1024 * 1024
_SILENT_SECONDS = 60.0


class Connection:
    """One that was made to our socket: what it says is read as far as the other side grants, what it is told waits until it takes it."""

    def __init__(self, number, sock):
        self.number = number
        self.sock = sock
        self.granted = WINDOW
        self.waiting = bytearray()
        self.heard_all = False  # it will say nothing more
        self.told_all = False  # it will be told nothing more
        self.closed_to = False


class Relay:
    def __init__(self, listener, given, taken):
        self.listener = listener
        self.given = given
        self.taken = taken
        self.out = bytearray(GREETING)
        self.buffer = bytearray()
        self.connections = {}
        self.last = 0
        self.over = False
        self.heard_at = time.monotonic()
        self.selector = selectors.DefaultSelector()
        self.watched = {}

    def serve(self):
        for descriptor in (self.given, self.taken):
            os.set_blocking(descriptor, False)
        self.listener.setblocking(False)
        while not self.over:
            self._watch_all()
            ready = self.selector.select(5.0)
            for key, events in ready:
                key.data(events)
            if time.monotonic() - self.heard_at > _SILENT_SECONDS:
                return

    def _watch_all(self):
        room = len(self.out) < _FULL
        self._watch(self.given, selectors.EVENT_READ, self._hear)
        self._watch(self.taken, selectors.EVENT_WRITE if self.out else 0, self._say)
        self._watch(self.listener, selectors.EVENT_READ, self._accept)
        for one in self.connections.values():
            wanted = selectors.EVENT_READ if room and one.granted > 0 and not one.heard_all else 0
            wanted |= selectors.EVENT_WRITE if one.waiting else 0
            self._watch(one.sock, wanted, lambda events, one=one: self._serve(one, events))

    def _watch(self, what, events, act):
        before = self.watched.get(what, 0)
        if events == before:
            return
        self.watched[what] = events
        if not events:
            self.selector.unregister(what)
        elif before:
            self.selector.modify(what, events, act)
        else:
            self.selector.register(what, events, act)

    def _hear(self, _):
        try:
            data = os.read(self.given, 4 * _BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            self.over = True
            return
        self.heard_at = time.monotonic()
        self.buffer += data
        at = 0
        while len(self.buffer) - at >= HEAD.size:
            number, kind, length = HEAD.unpack_from(self.buffer, at)
            if length > _LONGEST:
                raise ValueError("What comes over standard input is not for a relay.")
            if len(self.buffer) - at - HEAD.size < length:
                break
            at += HEAD.size
            self._take(number, kind, bytes(self.buffer[at : at + length]))
            at += length
        del self.buffer[:at]

    def _take(self, number, kind, content):
        if kind == PING:
            self._send(0, PING)
        one = self.connections.get(number)
        if one is None:
            return  # it is gone, which the other side hears of
        if kind == DATA:
            one.waiting += content
        elif kind == GRANT:
            one.granted += struct.unpack(">I", content)[0]
        elif kind == END:
            one.told_all = True
        elif kind == RESET:
            self._forget(one)
            return
        self._finish(one)

    def _accept(self, _):
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self.last = self.last % 0xFFFFFFFF + 1
        self.connections[self.last] = Connection(self.last, sock)
        self._send(self.last, OPEN)

    def _serve(self, one, events):
        if self.connections.get(one.number) is not one:
            return
        try:
            if events & selectors.EVENT_WRITE and one.waiting:
                sent = one.sock.send(one.waiting[:_BLOCK])
                del one.waiting[:sent]
                self._send(one.number, GRANT, struct.pack(">I", sent))
            if events & selectors.EVENT_READ:
                data = one.sock.recv(min(_BLOCK, one.granted))
                one.granted -= len(data)
                one.heard_all = not data
                self._send(one.number, DATA if data else END, data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._send(one.number, RESET)
            self._forget(one)
            return
        self._finish(one)

    def _finish(self, one):
        """Passes on an end once all before it was told; a connection that both sides have ended is closed."""
        if one.told_all and not one.waiting and not one.closed_to:
            one.closed_to = True
            try:
                one.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is gone, which is seen when it is read
        if one.closed_to and one.heard_all:
            self._forget(one)

    def _forget(self, one):
        self._watch(one.sock, 0, None)
        self.watched.pop(one.sock, None)
        self.connections.pop(one.number, None)
        one.sock.close()

    def _send(self, number, kind, content=b""):
        self.out += HEAD.pack(number, kind, len(content)) + content

    def _say(self, _):
        try:
            sent = os.write(self.taken, self.out[: 4 * _BLOCK])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.over = True
            return
        del self.out[:sent]


def listen(link):
    """A socket of our own beside the link, which leads to it from now on. Those of earlier relays are taken away: who still speaks over one may go on."""
    folder, name = os.path.split(os.path.abspath(link))
    own = "%s-%s" % (os.path.join(folder, name), os.urandom(4).hex())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(own)
    finally:
        os.umask(before)
    listener.listen(4096)  # whoever finds the line full is refused at once
    made = own + ".link"
    os.symlink(own, made)
    os.replace(made, link)
    for other in os.listdir(folder):
        path = os.path.join(folder, other)
        if other.startswith(name + "-") and path != own and not other.endswith(".link"):
            _remove(path)
    return listener, own


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def main(arguments):
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m stellwerk.runner.relay <link>\n")
        return 2
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        listener, own = listen(arguments[0])
    except OSError as error:
        sys.stderr.write("No socket can be laid at %s: %s\n" % (arguments[0], error))
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        Relay(listener, sys.stdin.fileno(), sys.stdout.fileno()).serve()
    finally:
        _remove(own)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
