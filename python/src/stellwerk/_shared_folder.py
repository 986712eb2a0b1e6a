"""Connections through a folder that two machines share, where neither can connect to the other: what one side says are small files that the other takes away.

A connection is a word that nobody else has; each side writes its blocks as `<connection>.<side>.<number>`, whole by a rename, and an empty one is its end. Who
comes to the folder is told by its rights alone (0700). Only so many blocks lie there untaken; a folder on a network disk is asked by listing it, which no cache delays.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import threading
import time

_BLOCK = 512 * 1024
_UNTAKEN_BLOCKS = 8
_SHORTEST_PAUSE, _LONGEST_PAUSE, _IDLE_PAUSE = 0.005, 0.25, 30.0
_PATIENCE_SECONDS = 120.0
_NAME = re.compile(r"([0-9a-f]{16})\.(near|far)\.(\d+)$")


class SharedFolder:
    """One side of all connections of this process through a folder. `accept` gives the socket that a connection of the other side is to lead to."""

    def __init__(self, path, accept=None):
        self.path = path
        self._accept = accept
        self._own, self._other = ("far", "near") if accept else ("near", "far")
        self._connections = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._over = False
        threading.Thread(target=self._serve, name="shared-folder", daemon=True).start()

    def connect(self):
        """A socket that leads to the other side."""
        if not os.path.isdir(self.path):
            raise ConnectionRefusedError("There is no folder %s now." % self.path)
        ours, theirs = socket.socketpair()
        with self._lock:
            if self._over:
                theirs.close()
            else:
                self._connections[os.urandom(8).hex()] = _Connection(ours)
                self._wake.send(b"x")
        return theirs

    def _serve(self):
        pause = _SHORTEST_PAUSE
        try:
            while True:
                ready = {key.data for key, _ in self._selector.select(pause)}
                if None in ready:
                    self._woken.recv(4096)
                moved = self._moved(ready)
                if moved or pause == _IDLE_PAUSE:
                    pause = _SHORTEST_PAUSE
                elif self._accept or self._connections:
                    pause = min(pause * 1.5, _LONGEST_PAUSE)
                else:
                    pause = _IDLE_PAUSE
        except OSError:
            pass  # the folder is gone, and with it who was to answer
        with self._lock:
            self._over = True
            for connection in self._connections.values():
                connection.socket.close()
            self._connections.clear()

    def _moved(self, ready):
        """Whether anything went either way."""
        waiting, untaken = self._listed()
        with self._lock:
            if self._accept:
                for name in waiting:
                    if name not in self._connections and 0 in waiting[name]:
                        self._connections[name] = _Connection(self._accepted())
            known = list(self._connections.items())
        moved = False
        for name, connection in known:
            try:
                taken = self._take(name, connection, waiting.get(name, ()))
                given = self._give(name, connection, untaken.get(name, 0), name in ready)
            except OSError:
                self._end(name, connection)
                taken = given = True
            if taken or given or untaken.get(name, 0) == 0:
                connection.moved_at = time.monotonic()
            moved = moved or taken or given
            if connection.is_over or time.monotonic() - connection.moved_at > _PATIENCE_SECONDS:
                self._drop(name, connection)
        return moved

    def _listed(self):
        """The numbers of the other side's blocks that lie there, and how many of ours do, by connection."""
        waiting, untaken = {}, {}
        for file in os.listdir(self.path):
            match = _NAME.match(file)
            if match and match.group(2) == self._other:
                waiting.setdefault(match.group(1), set()).add(int(match.group(3)))
            elif match:
                untaken[match.group(1)] = untaken.get(match.group(1), 0) + 1
        return waiting, untaken

    def _take(self, name, connection, numbers):
        moved = False
        while not connection.has_taken_all:
            if not connection.pending:
                if connection.taken not in numbers:
                    break
                path = self._at(name, self._other, connection.taken)
                with open(path, "rb") as file:
                    connection.pending = memoryview(file.read())
                os.unlink(path)
                connection.taken += 1
                moved = True
                if not connection.pending:
                    connection.has_taken_all = True
                    connection.socket.shutdown(socket.SHUT_WR)
                    break
            try:
                sent = connection.socket.send(connection.pending)
            except BlockingIOError:
                break
            connection.pending = connection.pending[sent:]
            moved = True
        return moved

    def _give(self, name, connection, untaken, is_ready):
        may_read = untaken < _UNTAKEN_BLOCKS and not connection.has_given_all
        if may_read != connection.is_watched:
            connection.is_watched = may_read
            if may_read:
                self._selector.register(connection.socket, selectors.EVENT_READ, name)
            else:
                self._selector.unregister(connection.socket)
        if not may_read or not is_ready:
            return False
        self._write(name, connection, connection.socket.recv(_BLOCK))
        return True

    def _write(self, name, connection, data):
        making = os.path.join(self.path, "%s.%s.making" % (name, self._own))
        with open(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        os.rename(making, self._at(name, self._own, connection.given))
        connection.given += 1
        connection.has_given_all = not data

    def _end(self, name, connection):
        """It cannot go on here; the other side is told, if it can be."""
        try:
            if not connection.has_given_all:
                self._write(name, connection, b"")
        except OSError:
            pass
        connection.has_taken_all = connection.has_given_all = True

    def _accepted(self):
        try:
            return self._accept()
        except OSError:  # as if it had ended at once
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours

    def _drop(self, name, connection):
        """What the other side has not taken yet stays for it, but for somebody who is gone."""
        with self._lock:
            del self._connections[name]
        if connection.is_watched:
            self._selector.unregister(connection.socket)
        connection.socket.close()
        if not connection.is_over:
            for file in os.listdir(self.path):
                if file.startswith(name):
                    os.unlink(os.path.join(self.path, file))

    def _at(self, name, side, number):
        return os.path.join(self.path, "%s.%s.%d" % (name, side, number))


class _Connection:
    def __init__(self, sock):
        sock.setblocking(False)
        self.socket = sock
        self.is_watched = False
        self.given = self.taken = 0
        self.pending = memoryview(b"")
        self.has_given_all = self.has_taken_all = False
        self.moved_at = time.monotonic()

    @property
    def is_over(self):
        return self.has_given_all and self.has_taken_all
