"""What a script prints, on its way to the log on disk: secrets masked, progress bars reduced to their last state.

Memory is bounded whatever is printed: lines without end are written in pieces. The log is valid UTF-8.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import threading
import time

MASK = b"***"
_LIVE_SECONDS = 15.0
_LONGEST_LINE = 64 * 1024
LARGEST_LOG = 1024 * 1024 * 1024


class Masker:
    """Replaces secrets in a stream of bytes, also where they are split over chunks."""

    def __init__(self, secrets):
        values = set()
        for secret in secrets:
            values.add(secret)
            values.update(line.strip() for line in secret.splitlines() if len(line.strip()) >= 8)
        encoded = sorted({value.encode("utf-8", "surrogatepass") for value in values if value}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(value) for value in encoded)) if encoded else None
        self._prefixes = {value[:length] for value in encoded for length in range(1, len(value))} if encoded else set()
        self._longest = len(encoded[0]) - 1 if encoded else 0
        self._held = b""

    def feed(self, data):
        if self._pattern is None:
            return data
        data = self._held + data
        hold = len(data)
        for start in range(max(0, len(data) - self._longest), len(data)):
            if data[start:] in self._prefixes:
                hold = start
                break
        parts, done = [], 0
        for match in self._pattern.finditer(data):
            if match.start() >= hold:
                break
            parts += (data[done : match.start()], MASK)
            done = match.end()
        hold = max(hold, done)
        parts.append(data[done:hold])
        self._held = data[hold:]
        return b"".join(parts)

    def flush(self):
        held, self._held = self._held, b""
        return self._pattern.sub(MASK, held) if held else held


def masked(text, secrets):
    masker = Masker(secrets)
    return (masker.feed(text.encode("utf-8", "replace")) + masker.flush()).decode("utf-8", "replace")


class Lines:
    """Turns a stream of text into that of a log: what a carriage return overwrote is left out."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._pending = ""  # the line that has not ended
        self._begun = False  # whether a part of that line has been written
        self._progress = False  # whether a carriage return has overwritten something in it
        self._live = ""
        self._live_at = clock()

    def feed(self, text):
        text = self._pending + text
        if "\r" not in text and not self._progress:
            end = text.rfind("\n") + 1
            self._pending = text[end:]
            if end:
                self._begun = False
            return text[:end] + self._overlong()
        *ended, last = text.split("\n")
        written = "".join([self._end(line) for line in ended])
        self._pending = self._reduce(last)
        return written + self._overlong()

    def idle(self):
        """To be called now and then: a line that does not end becomes visible."""
        if not self._pending:
            return ""
        if not self._progress and not self._pending.endswith("\r"):
            text, self._pending, self._begun = self._pending, "", True
            return text
        self._progress = True
        state = self._pending.rstrip("\r")
        if self._clock() - self._live_at < _LIVE_SECONDS or state == self._live or not state:
            return ""
        self._live, self._live_at = state, self._clock()
        return self._break() + state + "\n"

    def flush(self):
        if not self._pending:
            return ""
        return self._end(self._pending) if self._progress else self._pending

    def _end(self, line):
        state = self._reduce(line).rstrip("\r")
        shown = self._progress and state == self._live
        text = "" if shown else (self._break() if self._progress else "") + state + "\n"
        self._begun = self._progress = False
        self._live, self._live_at = "", self._clock()
        return text

    def _reduce(self, line):
        """What is left of a line after its carriage returns; one at its end stays, since a line feed may follow."""
        if "\r" not in line:
            return line
        body = line.rstrip("\r")
        if "\r" in body:
            self._progress = True
            body = body[body.rfind("\r") + 1 :]
        return body + ("\r" if line.endswith("\r") else "")

    def _break(self):
        begun, self._begun = self._begun, False
        return "\n" if begun else ""

    def _overlong(self):
        if len(self._pending) < _LONGEST_LINE:
            return ""
        text, self._pending, self._begun = self._pending, "", True
        return text


class Log:
    """A log file that is appended to. A full disk loses output, counted, and nothing else."""

    def __init__(self, path, largest=LARGEST_LOG):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.path = path
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._left = largest - os.fstat(self._fd).st_size
        self._lost = 0
        self._lock = threading.Lock()

    def write(self, text):
        if not text:
            return
        data = text.encode("utf-8", "replace")
        with self._lock:
            if self._lost and self._left > 0:
                data = b"\n[stellwerk: %d bytes of output could not be written here]\n" % self._lost + data
            if len(data) > self._left:
                if self._left > 0:
                    self._append(b"\n[stellwerk: the log is full; what follows is left out]\n")
                self._left = 0
                return
            self._append(data)

    def _append(self, data):
        try:
            while data:
                written = os.write(self._fd, data)
                self._left -= written
                data = data[written:]
            self._lost = 0
        except OSError:
            self._lost += len(data)

    def last_lines(self, count=20):
        return last_lines(self.path, count)

    def close(self):
        os.close(self._fd)


def last_lines(path, count=20):
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line[:1900] for line in text.rstrip("\n").split("\n")[-count:]] if text.strip() else []


class Capture(threading.Thread):
    """Reads what a script prints from a pipe into a log, until the pipe is closed."""

    def __init__(self, fd, log, secrets):
        super().__init__(name="output", daemon=True)
        self._fd = fd
        self._log = log
        self._masker = Masker(secrets)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines = Lines()
        self.stopped = threading.Event()

    def run(self):
        idle_at = time.monotonic()
        while not self.stopped.is_set():
            if select.select([self._fd], [], [], 0.3)[0]:
                data = os.read(self._fd, 256 * 1024)
                if not data:
                    break
                self._log.write(self._lines.feed(self._decoder.decode(self._masker.feed(data))))
            if time.monotonic() - idle_at > 0.3:
                idle_at = time.monotonic()
                self._log.write(self._lines.idle())
        rest = self._decoder.decode(self._masker.flush(), True)
        self._log.write(self._lines.feed(rest) + self._lines.flush())
        os.close(self._fd)
