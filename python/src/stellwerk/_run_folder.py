"""The folder of a run on this disk: who it is (`run.json`), its journal, the files it staged, and its children.

Children of any depth lie side by side in `children/` of the root's folder and name their parent. Making one
needs no network: whoever ships the root creates its children on the server, parents first.
"""

from __future__ import annotations

import os
import socket
import time
from datetime import datetime, timezone

from stellwerk._files import folder_name, read_json, write_json
from stellwerk._journal import FILES, MAIN, Journal

RECORD = "run.json"
CHILDREN = "children"


def now():
    """The time as the server writes it."""
    return iso_time(datetime.now(timezone.utc))


def iso_time(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (moment.microsecond // 1000)


class RunFolder:
    """A run on disk. `record` holds id, workspace, experiment, parent and what it was started with."""

    def __init__(self, path, record=None):
        self.path = os.path.abspath(path)
        self.record = record if record is not None else read_json(os.path.join(self.path, RECORD))
        if not self.record or "id" not in self.record:
            raise FileNotFoundError("There is no run in the folder %s." % self.path)
        self._journal = None

    @classmethod
    def create(cls, path, **record):
        """Makes the folder of a run; `record` takes the names of the contract's `runs.start`."""
        kept = {name: value for name, value in record.items() if value is not None}
        kept.setdefault("startedAt", now())
        kept.setdefault("host", socket.gethostname()[:256])
        os.makedirs(path, mode=0o700, exist_ok=True)
        write_json(os.path.join(path, RECORD), kept)
        return cls(path, kept)

    @property
    def id(self):
        return self.record["id"]

    @property
    def journal(self):
        if self._journal is None:
            self._journal = Journal(self.path)
        return self._journal

    @property
    def root(self):
        """The folder of the outermost run."""
        above = os.path.dirname(self.path)
        return os.path.dirname(above) if os.path.basename(above) == CHILDREN else self.path

    def child(self, id=None, **record):
        """Makes a child run below this one, of the same experiment."""
        id = id or new_child_id(self.id)
        place = os.path.join(self.root, CHILDREN, folder_name(id))
        for name in ("workspace", "experiment", "host"):
            record.setdefault(name, self.record.get(name))
        record["madeNs"] = time.time_ns()  # several are made in a millisecond, and keep their order; stays on this disk
        return RunFolder.create(place, id=id, parent=self.id, **record)

    def children(self):
        """The folders of all descendants; of the whole tree, if this is the root."""
        place = os.path.join(self.root, CHILDREN)
        found = []
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
            record = read_json(os.path.join(place, name, RECORD))
            if record and "id" in record:
                found.append(RunFolder(os.path.join(place, name), record))
        return found

    def file(self, name):
        return os.path.join(self.path, name)

    @property
    def main_file(self):
        return self.file(MAIN)

    @property
    def files_file(self):
        return self.file(FILES)

    def ended(self):
        """The state that the journal says the run has ended in, or None."""
        try:
            with open(self.main_file, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 256 * 1024))
                tail = file.read()
        except FileNotFoundError:
            return None
        found = tail.rfind(b'["state","')
        return tail[found + 10 :].split(b'"', 1)[0].decode("ascii", "replace") if found >= 0 else None


def new_run_id(experiment):
    """A run id that nobody else makes: readable, unmistakable."""
    slug = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in experiment)[:40].strip("-")
    return "%s-%s-%s" % (slug or "run", datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S"), os.urandom(4).hex())


def new_child_id(parent):
    return "%s.%s" % (parent.split(".", 1)[0][:200], os.urandom(6).hex())
