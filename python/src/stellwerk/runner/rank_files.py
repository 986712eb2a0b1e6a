"""What the processes of a script on several nodes leave beside it, in the folder `ranks` of its attempt: of each rank what it printed, and of each
node what it takes of its machine. Written on the node (see `rank`), shipped from where the runner is."""

from __future__ import annotations

import os
import re

from stellwerk._files import read_json, write_whole

_LOG = re.compile(r"rank-[0-9]+\.txt$")
_SAMPLES = re.compile(r"node-[0-9]+\.jsonl$")


class RankFiles:
    def __init__(self, job_folder):
        self.folder = os.path.join(job_folder, "ranks")

    def log(self, rank):
        return self._at("rank-%d.txt" % rank)

    def samples(self, node):
        """A journal of entries `u`."""
        return self._at("node-%d.jsonl" % node)

    def total(self, node):
        """What it took in all: the contract's `Usage` as JSON."""
        return self._at("node-%d.json" % node)

    def tell_out_of_memory(self, reason):
        """Of the machine of another rank, which ended all of them."""
        os.makedirs(self.folder, exist_ok=True)
        write_whole(self._at("out-of-memory"), reason)

    def out_of_memory(self):
        """The reason, if that is what they ended for."""
        try:
            with open(self._at("out-of-memory"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def found(self):
        """The names of the logs, and of the journals, that there are by now."""
        names = sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []
        return [name for name in names if _LOG.match(name)], [name for name in names if _SAMPLES.match(name)]

    def finish(self):
        """What all nodes took together; of memory what the one took that took most. None where no node has told. For when all ranks have ended."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        told = [read_json(self._at(name)) or {} for name in names if name.endswith(".json")]
        used = {
            "cpuSeconds": sum(one.get("cpuSeconds", 0) for one in told),
            "peakMemoryBytes": max((one.get("peakMemoryBytes", 0) for one in told), default=0),
        }
        return {name: value for name, value in used.items() if value} or None

    def _at(self, name):
        return os.path.join(self.folder, name)
