"""What the processes of a script take of their machine, sampled beside it: CPUs, memory, disk, network and GPUs.

Only its own processes and its own GPUs count. Memory is what each process has for itself, and once what they share. The network is that of the
script's network namespace: where it has none of its own, that of the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

from stellwerk._journal import Lines

EVERY_SECONDS = 5.0
_FIRST_SECONDS = 0.5
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_GPU_QUERY = ["nvidia-smi", "--query-gpu=uuid,utilization.gpu,memory.used,power.draw", "--format=csv,noheader,nounits"]


def sampled(job, path, family, prefix=""):
    """What these processes of a job take, from now on."""
    usage = Usage(path, family, job.get("gpus"), job["resources"].get("gpus", 0), prefix)
    usage.start()
    return usage


class Usage(threading.Thread):
    """Writes samples to the journal at `path`; `gpus` names those of the run, or is None where all that are to be seen are its own.
    `prefix` comes before the name of each series."""

    def __init__(self, path, family, gpus=None, gpu_count=0, prefix=""):
        super().__init__(name="usage", daemon=True)
        self._lines = Lines(path)
        self._family = family
        self._prefix = prefix
        self._gpus = gpus
        self._has_gpus = bool(gpus) or (gpus is None and gpu_count > 0)
        self._over = threading.Event()
        self._before = None
        self._cpu_ticks = 0
        self._peak_memory = 0

    def run(self):
        if not sys.platform.startswith("linux"):
            return
        pause = _FIRST_SECONDS
        while not self._over.wait(pause):
            pause = min(pause * 2, EVERY_SECONDS)
            try:
                self._sample()
            except Exception as error:  # what cannot be measured is no reason to stop anything
                self._note_once(error)

    def finish(self):
        """A last sample; then what it took in all, in the words of the contract's `Usage`."""
        self._over.set()
        if self.is_alive():
            self.join()
        if sys.platform.startswith("linux"):
            self._count(time.monotonic())
        self._lines.close()
        used = {"cpuSeconds": self._cpu_ticks / _TICKS, "peakMemoryBytes": self._peak_memory}
        return {name: value for name, value in used.items() if value} or None

    def _sample(self):
        now = time.monotonic()
        found = self._count(now)
        if found:
            self._write(found)
        if self._has_gpus:
            self._write(self._sampled_gpus())

    def _count(self, now):
        """Values at this moment; rates since the moment before."""
        members = self._family.members()
        # What has ended is counted by the parent that waited for it: at last the guard.
        ticks = sum(_cpu_ticks(pid) for pid in members | self._family.ancestors)
        self._cpu_ticks = max(self._cpu_ticks, ticks)
        memory = _memory_bytes(members)
        self._peak_memory = max(self._peak_memory, memory)
        moved = {"read": 0, "written": 0, **_network(members)}
        for pid in members | self._family.ancestors:
            for name, count in _disk(pid).items():
                moved[name] += count
        before, self._before = self._before, (now, ticks, moved)
        if not members:
            return None
        found = {"memoryBytes": memory}
        if before and now > before[0]:
            seconds = now - before[0]
            found["cpus"] = max(0, ticks - before[1]) / _TICKS / seconds
            for name, count in moved.items():
                found[name + "BytesPerSecond"] = max(0, count - before[2].get(name, count)) / seconds
        return found

    def _write(self, found):
        at = round(time.time(), 3)
        lines = [json.dumps(["u", self._prefix + name, round(value, 3), at], separators=(",", ":")) + "\n" for name, value in found.items()]
        if lines:
            self._lines.append("".join(lines).encode("ascii"))

    def _sampled_gpus(self):
        told = subprocess.run(_GPU_QUERY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
        found = {}
        rows = [[part.strip() for part in line.split(",")] for line in told.stdout.decode("utf-8", "replace").splitlines()]
        own = [row for row in rows if len(row) == 4 and (self._gpus is None or row[0] in self._gpus)]
        for number, (_, use, megabytes, watts) in enumerate(own):
            for name, text, factor in (("use", use, 0.01), ("memoryBytes", megabytes, 1024 * 1024), ("powerWatts", watts, 1)):
                try:
                    found["gpu%d.%s" % (number, name)] = float(text) * factor
                except ValueError:
                    pass  # "[N/A]": this GPU does not tell
        return found

    def _note_once(self, error):
        if not self._over.is_set():
            from stellwerk.runner.place import say

            say("What the run takes of its machine could not be sampled: %s" % error)


def _fields(pid):
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return None


def _cpu_ticks(pid):
    """Of itself and of those it has waited for."""
    fields = _fields(pid)
    return sum(int(one) for one in fields[11:15]) if fields else 0


def _memory_bytes(pids):
    own, shared = 0, 0
    for pid in pids:
        try:
            with open("/proc/%d/statm" % pid) as file:
                _, resident, common = file.read().split()[:3]
        except (OSError, ValueError):
            continue
        own += int(resident) - int(common)
        shared = max(shared, int(common))
    return (own + shared) * _PAGE


def _disk(pid):
    try:
        with open("/proc/%d/io" % pid) as file:
            told = dict(line.split(": ") for line in file.read().splitlines())
        return {"read": int(told["read_bytes"]), "written": int(told["write_bytes"])}
    except (OSError, ValueError, KeyError):
        return {}


def _network(pids):
    for pid in pids:
        try:
            with open("/proc/%d/net/dev" % pid) as file:
                rows = [line.split(":") for line in file.read().splitlines()[2:]]
        except OSError:
            continue
        counts = [numbers.split() for name, numbers in rows if name.strip() != "lo"]
        return {"received": sum(int(one[0]) for one in counts), "sent": sum(int(one[8]) for one in counts)}
    return {}
