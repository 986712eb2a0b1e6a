"""Runs the programs that prepare a run (uv, pip, conda), told line by line, ended when the run is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
import threading


class PreparationFailed(Exception):
    """The run cannot start; the message says why and what to do."""


class Cancelled(Exception):
    """The run was cancelled before its script started."""


class Programs:
    def __init__(self, tell, cancelled):
        self.tell = tell
        self.cancelled = cancelled

    def check(self):
        if self.cancelled.is_set():
            raise Cancelled()

    def run(self, argv, env, what, cwd=None):
        """Runs a program to its end; `what` finishes the sentence "could not …" if it fails."""
        self.check()
        try:
            process = subprocess.Popen(
                argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise PreparationFailed("%s could not be started to %s: %s." % (argv[0], what, error.strerror)) from None
        over = threading.Event()
        watcher = threading.Thread(target=self._end_when_cancelled, args=(process, over), daemon=True)
        watcher.start()
        last = []
        try:
            for line in process.stdout:
                text = line.decode("utf-8", "replace").rstrip()
                self.tell(text)
                last = (last + [text])[-12:]
            code = process.wait()
        finally:
            over.set()
        self.check()
        if code != 0:
            raise PreparationFailed("It was not possible to %s: %s" % (what, "\n".join(last) or "exit code %d." % code))

    def _end_when_cancelled(self, process, over):
        while not over.wait(0.1):
            if self.cancelled.is_set():
                for number, pause in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 0)):
                    try:
                        os.killpg(process.pid, number)
                    except OSError:
                        return
                    if over.wait(pause):
                        return


def answer_of(argv, env=None, seconds=20):
    """What a program prints, or None if it fails."""
    try:
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
