"""Bytes on their way from the server: read them like a file, iterate over them, or save them.

A download that can be resumed goes on where it was cut; what was saved is complete, or the file is not there.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Iterator, Optional

from .._transport import Unreachable

PART = 1 << 18
TRIES = 6


class Download:
    """Opened at the first read."""

    def __init__(self, open_at: Callable[[int], Any], start: int = 0, resumes: bool = False) -> None:
        self._open_at = open_at
        self._resumes = resumes
        self._stream: Any = None
        self._cuts = 0
        self.position = start

    @property
    def size_bytes(self) -> Optional[int]:
        """How many bytes are to come in all, where the server says it."""
        length = self._opened().headers.get("Content-Length")
        return None if length is None else int(length)

    def _opened(self) -> Any:
        if self._stream is None:
            self._stream = self._open_at(self.position)
        return self._stream

    def read1(self, size: int = PART) -> bytes:
        """The next bytes that are there; empty at the end. Goes on after a cut where that is possible."""
        while True:
            try:
                part = self._opened().read1(size)
                self.position += len(part)
                self._cuts = 0 if part else self._cuts
                return part
            except Unreachable:
                self.close()
                if not self._resumes or self._cuts >= TRIES:
                    raise
                time.sleep(0.1 * 2**self._cuts)
                self._cuts += 1

    def read(self, size: int = -1) -> bytes:
        parts, wanted = [], size
        while size < 0 or wanted > 0:
            part = self.read1(PART if size < 0 else min(wanted, PART))
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def text(self) -> str:
        return self.read().decode("utf-8", "replace")

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read1, b"")

    def lines(self) -> Iterator[str]:
        """Lines of text as they arrive, without their ends."""
        rest = b""
        for part in self:
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def save(self, path: "os.PathLike[str] | str", progress: Optional[Callable[[int], Any]] = None) -> str:
        """Writes all of it to a file, in place only when complete; `progress` hears the bytes of each part."""
        target = os.fspath(path)
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        partial = "%s.%d.part" % (target, os.getpid())
        try:
            with open(partial, "wb") as file:
                for part in self:
                    file.write(part)
                    if progress:
                        progress(len(part))
            os.replace(partial, target)
        finally:
            self.close()
            if os.path.exists(partial):
                os.remove(partial)
        return target

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __enter__(self) -> "Download":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
