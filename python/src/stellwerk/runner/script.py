"""A running script: started through its guard, waited for, stopped with a grace period, nothing left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time

from stellwerk.runner.output import Capture
from stellwerk.runner.processes import Cgroup, Family, sweep


def package_root():
    """What has to be on PYTHONPATH for our own package to be found: a folder or a wheel."""
    import stellwerk

    return os.path.dirname(os.path.dirname(os.path.abspath(stellwerk.__file__)))


class Guard:
    """The process that will be the script's parent, started beforehand. `output` is where it is to let the script print."""

    def __init__(self):
        commands_read, self.commands = os.pipe()
        self.events, events_write = os.pipe()
        self.printed, self.output = os.pipe()
        # It needs nothing but Python's own library; what else is installed would have it wait.
        command = [sys.executable, "-S", "-m", "stellwerk.runner.guard", str(commands_read), str(events_write)]
        self._process = subprocess.Popen(
            command, env=dict(_guard_environment(), PYTHONPATH=package_root()), stdin=subprocess.DEVNULL,
            pass_fds=(commands_read, events_write, self.output), start_new_session=True, cwd="/",
        )  # fmt: skip
        os.close(commands_read)
        os.close(events_write)
        self._used = False

    def taken(self):
        """From now on it is the script that closes what belongs to it."""
        self._used = True
        return self

    def leave(self):
        """Lets one go that was not needed."""
        if not self._used:
            for end in (self.commands, self.events, self.printed, self.output):
                os.close(end)
            self._process.wait()

    @property
    def pid(self):
        return self._process.pid

    def wait(self):
        self._process.wait()


class Script:
    def __init__(self, guard, argv, env, cwd, mark, log, secrets):
        self.mark = mark
        self.code = None  # the exit code, or minus the signal
        self.error = None  # why it could not be started
        self.left = None
        self._buffer = b""
        self._guard = guard.taken()
        self._commands, self._events = guard.commands, guard.events
        self.pid = None
        self.capture = Capture(guard.printed, log, secrets)
        self.capture.start()
        self._say(do="start", argv=argv, env=env, cwd=cwd, mark=mark, output=guard.output)
        os.close(guard.output)
        while self.pid is None and self.code is None and self.error is None:
            self.poll(1.0)

    def poll(self, seconds):
        """Waits at most so long for news. Returns whether the script has ended."""
        if self._events is not None and select.select([self._events], [], [], seconds)[0]:
            data = os.read(self._events, 65536)
            if not data:
                self._lost_guard()
            self._buffer += data
            while b"\n" in self._buffer:
                line, self._buffer = self._buffer.split(b"\n", 1)
                self._note(json.loads(line.decode("utf-8")))
        return self.code is not None or self.error is not None

    def stop(self, grace):
        """Asks all processes of the script to end; after the grace period they are killed."""
        until = time.monotonic() + grace
        if self._count("signal", number=int(signal.SIGTERM)):
            while time.monotonic() < until:
                self.poll(0.05)
                if not self._count("count"):
                    break
        self._count("kill")
        while self.code is None and self.error is None and self._events is not None:
            self.poll(0.1)

    def family(self):
        """Its processes, its guard not among them."""
        return Family(ancestors=[self._guard.pid], sessions=[self.pid], cgroup=Cgroup.of(self.mark))

    def warn(self, number):
        """Sends the script itself a signal, and none of what it started."""
        self._say(do="warn", number=int(number))

    def leftovers(self):
        """How many processes of the script are alive."""
        return self._count("count")

    def close(self):
        """To be called when the script has ended and been swept: the last of its output is read, the guard leaves."""
        self._say(do="leave")
        self._guard.wait()
        self.capture.join(5.0)
        self.capture.stopped.set()
        self.capture.join()
        os.close(self._commands)
        if self._events is not None:
            os.close(self._events)

    def _count(self, command, **arguments):
        self.left = None
        self._say(do=command, **arguments)
        until = time.monotonic() + 30
        while self.left is None and self._events is not None and time.monotonic() < until:
            self.poll(0.5)
        return self.left or 0

    def _note(self, event):
        self.pid = event.get("started", self.pid)
        self.error = event.get("error", self.error)
        self.left = event.get("left", self.left)
        if "ended" in event:
            self.code = event["ended"]

    def _say(self, **command):
        try:
            data = (json.dumps(command) + "\n").encode()
            while data:
                data = data[os.write(self._commands, data) :]
        except OSError:
            pass  # a dead guard is noticed by its closed pipe

    def _lost_guard(self):
        """The guard itself was killed: what it guarded is killed by us."""
        os.close(self._events)
        self._events = None
        sweep(self.mark, [self.pid] if self.pid else [], [os.getpid()])
        if self.code is None:
            self.code = -int(signal.SIGKILL)


def _guard_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("STELLWERK_RUN_", "PYTHON"))}
