"""Whether the kernel killed a process of the script because memory was used up: by the counters of our control group, and of the machine."""

from __future__ import annotations

import os


class MemoryKills:
    """Counts from when it is made."""

    def __init__(self):
        self._group = _kills_in_group()
        self._machine = _kills_on_machine()

    def explain(self, code):
        """Whether they explain an exit code. What the whole machine counts may be about others: it does only where the script itself was killed."""
        if code is None or code == 0:
            return False
        if _kills_in_group() > self._group:
            return True
        return code == -9 and _kills_on_machine() > self._machine

    def reason(self, used):
        """A sentence for the user."""
        limit = _limit()
        peak = (used or {}).get("peakMemoryBytes")
        seen = " At most %s were in use when it was looked at." % _words(peak) if peak else ""
        within = "the %s that it may have" % _words(limit) if limit else "the memory of the machine"
        return "The script ran out of memory: %s was used up, and the kernel killed it or one of its processes.%s" % (within, seen)


def _words(size):
    return "%.1f GB" % (size / 1e9) if size >= 1e9 else "%.0f MB" % (size / 1e6)


def _kills_in_group():
    found = 0
    for folder, name in _files(("memory.events", "memory.oom_control")):
        found = max(found, _value(os.path.join(folder, name), "oom_kill"))
    return found


def _kills_on_machine():
    return _value("/proc/vmstat", "oom_kill")


def _limit():
    for folder, name in _files(("memory.max", "memory.limit_in_bytes")):
        try:
            with open(os.path.join(folder, name)) as file:
                size = int(file.read())
        except (OSError, ValueError):  # "max"
            continue
        if size < 1 << 60:
            return size
    return None


def _files(names):
    """In the folder of our own control group for memory, of either version; inside a container it is at the top."""
    for folder in _folders():
        for name in names:
            if os.path.exists(os.path.join(folder, name)):
                yield folder, name


def _folders():
    try:
        with open("/proc/self/cgroup") as file:
            rows = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    found = []
    for _, controllers, path in rows:
        if controllers == "" or "memory" in controllers.split(","):
            above = "/sys/fs/cgroup" if controllers == "" else "/sys/fs/cgroup/memory"
            found += [os.path.join(above, path.lstrip("/")), above]
    return found


def _value(path, name):
    try:
        with open(path) as file:
            for line in file:
                key, _, number = line.partition(" ")
                if key == name:
                    return int(number)
    except (OSError, ValueError):
        pass
    return 0
