"""Starts a script and sees to it that nothing of it outlives its runner.

The guard is the script's parent. It holds one end of a pipe to the runner: when the runner dies, however it
dies, the pipe closes and the guard kills every process of the script. It needs no root. Commands come in as
JSON lines (`start`, `signal`, `warn`, `kill`, `leave`), what happens goes out as JSON lines (`started`, `ended`, `left`).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys

from stellwerk.runner.processes import Cgroup, Family, adopt_orphans, die_with_parent


class Guard:
    def __init__(self, commands, events):
        self.commands = commands
        self.events = events
        self.script = None
        self.family = None
        self.cgroup = None
        self.buffer = b""
        self.over = False

    def serve(self):
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        while not self.over:
            readable = select.select([self.commands, wake_read], [], [], 5.0)[0]
            if wake_read in readable:
                os.read(wake_read, 4096)
            self.reap()
            if self.commands in readable:
                self.hear()
        if self.cgroup:
            self.reap()
            self.cgroup.remove()

    def hear(self):
        data = os.read(self.commands, 1024 * 1024)
        if not data:  # the runner is gone
            self.over = True
            if self.family:
                self.family.kill()
            return
        self.buffer += data
        while b"\n" in self.buffer:
            line, self.buffer = self.buffer.split(b"\n", 1)
            command = json.loads(line.decode("utf-8"))
            getattr(self, "do_" + command.pop("do"))(**command)

    def do_start(self, argv, env, cwd, mark, output):
        self.cgroup = Cgroup.create(mark)
        self.family = Family(mark, ancestors=[os.getpid()], cgroup=self.cgroup)
        self.family.spared.add(os.getppid())
        adopt_orphans()
        try:
            process = subprocess.Popen(
                argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, preexec_fn=self.become_script,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self.tell(error=str(error))
            return
        finally:
            os.close(output)
        self.script = process
        self.family.sessions.add(process.pid)
        self.tell(started=process.pid)

    def become_script(self):
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if self.cgroup:
            self.cgroup.enter()

    def do_signal(self, number):
        self.tell(left=self.family.signal(number) if self.family else 0)

    def do_warn(self, number):
        if self.script and self.script.returncode is None:
            os.kill(self.script.pid, number)

    def do_count(self):
        self.tell(left=len(self.family.members()) if self.family else 0)

    def do_kill(self):
        if self.family:
            self.family.kill()
        self.reap()
        self.tell(left=len(self.family.members()) if self.family else 0)

    def do_leave(self):
        self.over = True

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.script and pid == self.script.pid:
                self.script.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self.tell(ended=self.script.returncode)

    def tell(self, **event):
        try:
            os.write(self.events, (json.dumps(event) + "\n").encode())
        except OSError:
            pass  # nobody listens any more; the closed pipe of commands will be seen


if __name__ == "__main__":
    Guard(int(sys.argv[1]), int(sys.argv[2])).serve()
