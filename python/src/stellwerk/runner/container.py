"""What two containers with a folder in common do for a job: `python3 -m stellwerk.runner.container <what> <folder>`.

`run`: is the first process of one, with the runner as its child; `keep`: stays in the other, so that what a dead runner left can be delivered
from there, for a day at most; `ask`, `kill`: said beside a `run`, to have its runner stop, or to end the container at once with all in it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

_KEPT_SECONDS = 24 * 3600.0
_SIGNALS = {"ask": signal.SIGTERM, "kill": signal.SIGQUIT}
_KILLED = 137


def _sign(folder):
    return os.path.join(folder, "alive")


def run(folder):
    """With this process all others of the container end, whatever they have done. As long as it lives, it has the lock."""
    with open(_sign(folder), "w") as sign:
        fcntl.flock(sign, fcntl.LOCK_EX)
        wanted = {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGQUIT}
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        runner = os.fork()
        if runner == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
            sign.close()
            os.execv(sys.executable, [sys.executable, "-S", "-m", "stellwerk.runner", os.path.join(folder, "job")])
        while True:
            number = signal.sigwait(wanted)
            if number == signal.SIGQUIT:
                os._exit(_KILLED)
            if number != signal.SIGCHLD:
                os.kill(runner, number)
                continue
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
    """Asked to stop, it stays until the runner has gone: what that delivers goes through here."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    dead_since = None
    while True:
        if not os.path.exists(_sign(folder)):
            if asked:
                return 0
        elif _is_held(_sign(folder)):
            dead_since = None
        else:
            dead_since = dead_since or time.monotonic()
            if asked or time.monotonic() - dead_since > _KEPT_SECONDS:
                return 0
        time.sleep(0.5)


def _is_held(path):
    with open(path) as sign:
        try:
            fcntl.flock(sign, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def main(arguments):
    what, folder = arguments
    if what in _SIGNALS:
        os.kill(1, _SIGNALS[what])
        return 0
    return {"run": run, "keep": keep}[what](folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
