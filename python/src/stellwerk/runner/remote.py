"""What a server that reaches this machine from elsewhere asks about a job here: `python3 -m stellwerk.runner.remote <what> <folder>`.

`start` (the job comes on standard input) · `place` (the same, but somebody else starts the runner) · `look` · `ask` (the runner to stop) · `kill` (all that the job ever started) · `recover` (deliver
what a dead runner left) · `clean` (remove all of it); `describe` tells what the machine has. Each may be asked again at any time. `--relay` names the socket by which the server is
reached now: the job's own name for it, `relay` in its folder, leads there from then on. The answer is one line of JSON.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from stellwerk._files import read_json, write_json
from stellwerk.runner import bundles
from stellwerk.runner.processes import start_time

MARK = "STELLWERK_REMOTE_JOB"
_GUARD_SECONDS = 5.0
_LEAST_FREE_BYTES = 16 * 1024 * 1024


class Job:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.written = os.path.join(self.folder, "process.json")
        self.placed = os.path.join(self.folder, "placed")

    def start(self, job, relay):
        """Once, however often it is asked for: whoever comes second finds what the first started."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        with self._locked():
            self.lead(relay)
            if self.runner() is None:
                self._put(job)
                write_json(self.written, self._identity(self._spawn()))
        return self.look()

    def place(self, job, relay):
        """For a runner that is started by something else, with `enter`."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        with self._locked():
            self.lead(relay)
            if not os.path.exists(self.placed):
                self._put(job)
                write_json(self.placed, {})
        return self.look()

    def enter(self):
        """This process is to be the job's runner: returns its environment, or None if it has a runner already, or is gone."""
        if not os.path.exists(self.placed):
            return None
        with self._locked():
            if self.runner() is not None:
                return None
            write_json(self.written, self._identity(os.getpid()))
        return dict(os.environ, **{MARK: self.folder})

    def _locked(self):
        lock = open(os.path.join(self.folder, "start.lock"), "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _put(self, job):
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < _LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.folder)
        bundles.write_down(self.folder)
        write_json(os.path.join(self.folder, "job.json"), job)

    def lead(self, relay):
        if relay is None or not os.path.isdir(self.folder):
            return
        link = os.path.join(self.folder, "relay")
        if os.path.islink(link) and os.readlink(link) == relay:
            return
        made = "%s.%d" % (link, os.getpid())
        os.symlink(relay, made)
        os.replace(made, link)

    def runner(self):
        """The one that was started here, alive or not. If its start was not written down, it is the oldest process with the mark."""
        found = read_json(self.written)
        if found is None:
            marked = sorted((start_time(pid) or 0, pid) for pid in self.marked())
            found = self._identity(marked[0][1]) if marked else None
        return found

    def look(self):
        runner = self.runner()
        if runner is None:
            if os.path.exists(self.placed):
                return {"state": "waiting", "reason": "Its runner has not been started yet."}
            gone = not os.path.isdir(self.folder)
            return dict({"state": "ended"}, **({"reason": "Its folder is not on the machine any more."} if gone else {}))
        if runner["bootId"] != _boot_id():
            return {"state": "ended", "cause": "node-lost", "reason": "Its machine was restarted while the run was on it."}
        if not self._is_alive(runner):
            return dict({"state": "ended"}, **(read_json(os.path.join(self.folder, "end.json")) or {}))
        waiting = read_json(os.path.join(self.folder, "waiting.json"))
        return dict({"state": "waiting"}, **waiting) if waiting else {"state": "running"}

    def ask(self):
        runner = self.runner()
        if self._is_alive(runner):
            _signal(runner["pid"], signal.SIGTERM)
        return self.look()

    def kill(self):
        """The runner first: its guard, which sees it gone, ends all that descends from it, also what has cleared its environment."""
        runner = self.runner()
        if self._is_alive(runner):
            _signal(runner["pid"], signal.SIGKILL)
            until = time.monotonic() + _GUARD_SECONDS
            while self.marked() and time.monotonic() < until:
                time.sleep(0.02)
        while True:
            left = self.marked()
            if not left:
                self._end_application()
                return self.look()
            for pid in left:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _end_application(self):
        """What the job has on a cluster, and is not a process here."""
        if (read_json(os.path.join(self.folder, "job.json")) or {}).get("spark"):
            from stellwerk.runner.yarn import end

            end(self.folder)

    def recover(self):
        self.kill()
        if not os.path.exists(os.path.join(self.folder, "job.json")):
            return {"state": "ended"}
        command = [sys.executable, "-S", "-m", "stellwerk", "recover", self.folder]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
        if done.returncode != 0:
            told = done.stdout.decode("utf-8", "replace").strip().splitlines()
            raise OSError(told[-1] if told else "exit code %d" % done.returncode)
        return {"state": "ended"}

    def clean(self):
        self.kill()
        for _ in range(5):  # what was killed may have been writing
            shutil.rmtree(self.folder, ignore_errors=True)
            if not os.path.exists(self.folder):
                return {"state": "ended"}
            time.sleep(0.1)
        raise OSError("The folder %s could not be removed." % self.folder)

    def marked(self):
        mark = ("%s=%s" % (MARK, self.folder)).encode()
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid() and _carries(name, mark)]

    def _spawn(self):
        env = dict(os.environ, **{MARK: self.folder})
        with open(os.path.join(self.folder, "runner.log"), "ab") as output:
            os.chmod(output.name, 0o600)
            process = subprocess.Popen(
                [sys.executable, "-S", "-m", "stellwerk.runner", self.folder],
                env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        process.returncode = 0  # it outlives us, and nobody here waits for it
        return process.pid

    @staticmethod
    def _identity(pid):
        return {"pid": pid, "startTime": start_time(pid), "bootId": _boot_id()}

    @staticmethod
    def _is_alive(runner):
        if runner is None or runner["bootId"] != _boot_id() or runner["startTime"] is None:
            return False
        return start_time(runner["pid"]) == runner["startTime"]


def describe():
    from stellwerk.runner.machine import describe_machine

    command = ["nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
        lines = told.stdout.decode("utf-8", "replace").splitlines() if told.returncode == 0 else []
    except (OSError, subprocess.SubprocessError):
        lines = []  # no driver, no GPUs
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memoryBytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [dict(zip(("uuid", "type"), line.split(", ", 1))) for line in lines],
        "platform": describe_machine(),
    }


def _boot_id():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _carries(pid, mark):
    try:
        with open("/proc/%s/environ" % pid, "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def main():
    parser = argparse.ArgumentParser(prog="python -m stellwerk.runner.remote", description=__doc__)
    parser.add_argument("what", choices=("start", "place", "look", "ask", "kill", "recover", "clean", "describe"))
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--relay", metavar="SOCKET", help="how the server is reached now")
    given = parser.parse_args()
    if given.what == "describe":
        print(json.dumps(describe()))
        return 0
    job = Job(given.folder)
    if given.what in ("start", "place"):
        answer = getattr(job, given.what)(json.load(sys.stdin), given.relay)
    else:
        job.lead(given.relay)
        answer = getattr(job, given.what)()
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as failure:
        sys.stderr.write("%s\n" % failure)
        sys.exit(1)
