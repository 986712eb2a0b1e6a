"""A part of a file on its way up: the kernel sends it where it can, so that it does not pass through this process."""

from __future__ import annotations

_SENT_AT_ONCE = 8 * 1024 * 1024


class FilePart:
    """A part of an open file as the body of a request. `on_sent` hears how much of the part is sent."""

    def __init__(self, file, start, size, on_sent=None):
        self.file = file
        self.start = start
        self.size = size
        self._on_sent = on_sent

    def send(self, socket):
        sent = 0
        while sent < self.size:
            some = socket.sendfile(self.file, self.start + sent, min(_SENT_AT_ONCE, self.size - sent))
            if not some:
                raise FileShrunk()
            sent += some
            if self._on_sent:
                self._on_sent(sent)


class FileShrunk(Exception):
    """The file has become shorter than the part that was announced."""
