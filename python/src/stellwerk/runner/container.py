"""What two containers with a folder in common do for a job: `python3 -m stellwerk.runner.container <what> <folder>`.

`run [seconds]`: is the first process of one, with the runner as its child. If its place is taken from it (SIGTERM, which whoever takes it sends), the
script may write a checkpoint for so many seconds, then all ends. `keep`: stays in the other, so that what a dead runner left can be delivered from
there, for a day at most. `lives`: asked there, whether the other one does. `ask`, `kill`: said beside a `run`, to have its runner stop, or to end
the container at once with all in it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

_KEPT_SECONDS = 24 * 3600.0
_LISTENS_SECONDS = 10.0
_SIGNALS = {"ask": signal.SIGINT, "kill": signal.SIGQUIT}
_KILLED = 137


def _sign(folder):
    return os.path.join(folder, "alive")


def run(folder, seconds="0"):
    """With this process all others of the container end, whatever they have done. As long as it lives, it has the lock."""
    wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGQUIT}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    with open(_sign(folder), "w") as sign:
        fcntl.flock(sign, fcntl.LOCK_EX)
        runner = os.fork()
        if runner == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
            sign.close()
            os.execv(sys.executable, [sys.executable, "-S", "-m", "stellwerk.runner", os.path.join(folder, "job")])
        while True:
            number = signal.sigwait(wanted)
            if number in (signal.SIGQUIT, signal.SIGALRM):
                os._exit(_KILLED)
            elif number == signal.SIGINT:
                os.kill(runner, signal.SIGTERM)
            elif number == signal.SIGTERM:
                os.kill(runner, signal.SIGUSR1)
                signal.setitimer(signal.ITIMER_REAL, max(float(seconds), 0.001))
            else:
                code = _reaped(runner)
                if code is not None:
                    return code


def _reaped(runner):
    """Of all that has ended; the code of the runner once it has."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == runner:
            found = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def keep(folder):
    """Asked to stop, it stays until nothing is left to deliver: what is delivered goes through here."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    dead_since = None
    while True:
        has_begun = os.path.exists(_sign(folder))
        if _is_held(_sign(folder)):
            dead_since = None
        elif asked and not (has_begun and os.path.exists(os.path.join(folder, "job"))) and not _delivers():
            return 0
        elif has_begun:
            dead_since = dead_since or time.monotonic()
            if time.monotonic() - dead_since > _KEPT_SECONDS:
                return 0
        time.sleep(0.2)


def _delivers():
    """Whether somebody is at it here, in this moment."""
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % int(name), "rb") as file:
                if b"recover" in file.read().split(b"\0"):
                    return True
        except (OSError, ValueError):
            pass
    return False


def lives(folder):
    return 0 if _is_held(_sign(folder)) else 1


def _is_held(path):
    if not os.path.exists(path):
        return False
    with open(path) as sign:
        try:
            fcntl.flock(sign, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def tell(folder, number):
    """A first process that does not listen yet would not hear of it."""
    until = time.monotonic() + _LISTENS_SECONDS
    while not _is_held(_sign(folder)) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(1, number)


def main(arguments):
    what, folder, *more = arguments
    if what in _SIGNALS:
        tell(folder, _SIGNALS[what])
        return 0
    return {"run": run, "keep": keep, "lives": lives}[what](folder, *more)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
