"""Collects what a script leaves in `outputs/`, `logs/` and `checkpoints/` of its working directory as files of the run."""

from __future__ import annotations

import os
import time

from stellwerk._files import flaw_of_path
from stellwerk._transport import ServiceError
from stellwerk._uploads import put_run_file
from stellwerk.runner.shipping import transient

FOLDERS = ("outputs", "logs", "checkpoints")
_LIVE_BYTES = 8 * 1024 * 1024
_SETTLED_SECONDS = 2.0
_LIVE_SECONDS = 10.0


class Outputs:
    def __init__(self, transport, workspace, run, attempt, work, tell):
        self._transport = transport
        self._names = (workspace, run)
        self._attempt = attempt
        self._work = os.path.realpath(work)
        self._tell = tell
        self._done = {}
        self._passed = set()
        self._live_at = time.monotonic()

    def collect(self):
        """Uploads all that has changed. Raises if the server does not answer; what cannot be a file of a run is told and passed over."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda found: self._put(*found), list(self._changed(FOLDERS))):
                pass

    def collect_live(self):
        """Now and then while the script runs, what is not being written this moment: small files in `logs/`, and all checkpoints."""
        if time.monotonic() - self._live_at < _LIVE_SECONDS:
            return False
        self._live_at = time.monotonic()
        for name, path, mark in self._changed(("logs", "checkpoints")):
            if (mark[0] <= _LIVE_BYTES or name.startswith("checkpoints/")) and time.time() - mark[1] / 1e9 > _SETTLED_SECONDS:
                self._put(name, path, mark)
        return False

    def _put(self, name, path, mark):
        try:
            put_run_file(self._transport, self._names[0], self._names[1], name, path, self._attempt)
        except ServiceError as error:
            if transient(error) or error.status in (401, 403, 404) or error.reason == "run.attempt-superseded":
                raise
            self._tell("The file %r could not be collected: %s" % (name, error))
        except OSError as error:
            self._tell("The file %r could not be collected: %s" % (name, error))
        self._done[name] = mark

    def _changed(self, folders):
        for folder in folders:
            for place, below, names in os.walk(os.path.join(self._work, folder)):
                below.sort()
                for name in sorted(names):
                    found = self._look(os.path.join(place, name))
                    if found and self._done.get(found[0]) != found[2]:
                        yield found

    def _look(self, path):
        name = os.path.relpath(path, self._work).replace(os.sep, "/")
        why = flaw_of_path(name)
        real = os.path.realpath(path)
        if not why and os.path.islink(path) and not real.startswith(self._work + os.sep):
            why = "it is a link that leads out of the working directory"
        if why:
            if path not in self._passed:
                self._passed.add(path)
                self._tell("The file %r cannot be collected: %s." % (name, why))
            return None
        try:
            status = os.stat(real)
        except OSError:
            return None
        return (name, real, (status.st_size, status.st_mtime_ns)) if os.path.isfile(real) else None
