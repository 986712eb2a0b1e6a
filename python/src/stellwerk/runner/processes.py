"""Which processes belong to a script, and ending them all.

A process belongs to it if it descends from its guard, is of its session, carries the run's mark in its
environment, or is in its cgroup. So those are found too that forked twice, left the session or cleared
their environment. Needs no root.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

MARK = "STELLWERK_RUN_MARK"
_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36


class Family:
    """The processes of one script: descendants of `ancestors`, members of `sessions`, carriers of `mark`, inmates of `cgroup`."""

    def __init__(self, mark=None, ancestors=(), sessions=(), cgroup=None):
        self.mark = mark
        self.ancestors = set(ancestors)
        self.sessions = set(sessions)
        self.cgroup = cgroup
        self.spared = {os.getpid()}

    def members(self):
        """The ids of those alive."""
        table = _processes()
        found = set(self.cgroup.members()) if self.cgroup else set()
        mark = ("%s=%s" % (MARK, self.mark)).encode() if self.mark else None
        for pid, (_, _, session) in table.items():
            if session in self.sessions or (mark and _carries(pid, mark)):
                found.add(pid)
        parents = self.ancestors | found
        grown = True
        while grown:
            grown = False
            for pid, (parent, _, _) in table.items():
                if parent in parents and pid not in parents:
                    parents.add(pid)
                    found.add(pid)
                    grown = True
        return {pid for pid in found if pid not in self.spared and pid in table and table[pid][1] != "Z"}

    def signal(self, number):
        """Sends a signal to every member. Returns how many there were."""
        members = self.members()
        for pid in members:
            _signal(pid, number)
        return len(members)

    def kill(self, seconds=10.0):
        """Kills all members, and those they start meanwhile. Returns whether none is left."""
        until = time.monotonic() + seconds
        while True:
            if self.cgroup:
                self.cgroup.kill()
            if not self.signal(signal.SIGKILL):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.02)


class Cgroup:
    """A control group for one script, below our own; only where we may make one."""

    def __init__(self, path):
        self.path = path

    @classmethod
    def of(cls, mark):
        """The one that was made for a script, if it is still there."""
        above = _own_cgroup()
        path = above and os.path.join(above, "stellwerk-" + mark)
        return cls(path) if path and os.path.isdir(path) else None

    @classmethod
    def create(cls, mark):
        above = _own_cgroup()
        if not above:
            return None
        try:
            path = os.path.join(above, "stellwerk-" + mark)
            os.mkdir(path)
            with open(os.path.join(path, "cgroup.procs"), "a"):
                return cls(path)
        except OSError:
            return None

    def enter(self):
        """Puts the calling process in; used between fork and exec."""
        try:
            with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
                file.write("0")
        except OSError:
            pass

    def members(self):
        try:
            with open(os.path.join(self.path, "cgroup.procs")) as file:
                return [int(line) for line in file]
        except (OSError, ValueError):
            return []

    def kill(self):
        try:
            with open(os.path.join(self.path, "cgroup.kill"), "w") as file:
                file.write("1")
        except OSError:
            pass  # older kernels have no such file; the members are signalled one by one

    def remove(self):
        """Only an empty one can go; those that were killed leave it a moment later."""
        for _ in range(50):
            try:
                return os.rmdir(self.path)
            except FileNotFoundError:
                return None
            except OSError:
                time.sleep(0.02)


def sweep(mark, sessions=(), ancestors=()):
    """Kills whatever is left of a script, and takes its cgroup away."""
    cgroup = Cgroup.of(mark)
    Family(mark, ancestors, sessions, cgroup).kill()
    reap_orphans()
    if cgroup:
        cgroup.remove()


def start_time(pid):
    """When a process started, in the kernel's own count: with the id it names a process for good. None if it is gone."""
    if sys.platform.startswith("linux"):
        fields = _stat(pid)
        return int(fields[19]) if fields and fields[0] != "Z" else None
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return answer.stdout.decode("utf-8", "replace").strip() or None


def process_namespace():
    """What process ids mean something in, until the machine is started again. None where there is only one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def adopt_orphans():
    """From now on, descendants whose parent dies become our children, not those of init."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent():
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def reap_orphans(known=()):
    """Takes note of adopted children that have ended, so that they vanish from the process table."""
    for pid, (parent, state, _) in _processes().items():
        if parent == os.getpid() and state == "Z" and pid not in known:
            try:
                os.waitpid(pid, os.WNOHANG)
            except OSError:
                pass


def _prctl(option, value):
    if sys.platform.startswith("linux"):
        try:
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
        except (OSError, AttributeError):
            pass


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _processes():
    """Every process: id → (parent, state, session)."""
    if not sys.platform.startswith("linux"):
        return _processes_by_ps()
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(name)
            if fields:
                table[int(name)] = (int(fields[1]), fields[0], int(fields[3]))
    return table


def _stat(pid):
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:
            return file.read().rsplit(b")", 1)[1].decode("ascii").split()
    except (OSError, IndexError):
        return None


def _processes_by_ps():
    answer = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,pgid="], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    table = {}
    for line in answer.stdout.decode("ascii", "replace").splitlines():
        fields = line.split()
        if len(fields) == 4:  # the group stands in for the session, which ps of macOS does not tell
            table[int(fields[0])] = (int(fields[1]), fields[2][:1], int(fields[3]))
    return table


def _carries(pid, mark):
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def _own_cgroup():
    try:
        with open("/proc/self/cgroup") as file:
            own = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), None)
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file if " - cgroup2 " in line]
    except OSError:
        return None
    if own is None or not mounts:
        return None
    place, root = mounts[0][4], mounts[0][3]
    below = own[len(root) :] if root != "/" and own.startswith(root) else own
    path = os.path.join(place, below.lstrip("/"))
    return path if os.path.isdir(path) else None
