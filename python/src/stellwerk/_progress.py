"""Progress bars of uploads and downloads: on standard error, and only where somebody looks (a terminal or a notebook)."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, Optional

WIDTH = 30


def watched() -> bool:
    shell = sys.modules.get("IPython")
    in_notebook = shell is not None and type(getattr(shell, "get_ipython", lambda: None)()).__name__ == "ZMQInteractiveShell"
    return in_notebook or (hasattr(sys.stderr, "isatty") and sys.stderr.isatty() and os.environ.get("TERM") != "dumb")


def size_text(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return "%d %s" % (size, unit) if unit == "B" else "%.1f %s" % (size, unit)
        size /= 1000
    return ""


class Progress:
    """A bar of bytes. Call it with the bytes that were moved; may be called from several threads."""

    def __init__(self, label: str, total: Optional[int] = None, show: bool = True) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._show = show and watched()
        self._drawn_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, size: int) -> None:
        with self._lock:
            self.done += size
            now = time.monotonic()
            if self._show and now - self._drawn_at > 0.1:
                self._drawn_at = now
                self._draw()

    def _draw(self, end: str = "") -> None:
        label = "".join(letter if letter.isprintable() else "?" for letter in self.label)
        if self.total:
            share = min(self.done / self.total, 1.0)
            filled = int(share * WIDTH)
            bar = "#" * filled + "-" * (WIDTH - filled)
            line = "%s [%s] %3d %% of %s" % (label, bar, share * 100, size_text(self.total))
        else:
            line = "%s %s" % (label, size_text(self.done))
        sys.stderr.write("\r" + line + end)
        sys.stderr.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._show and self._drawn_at:
            self._draw("\n")
