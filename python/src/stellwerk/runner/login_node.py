"""What a server asks about the folder of a job on a cluster, at its login node: `python3 -m stellwerk.runner.login_node <what> <folder>`.

`place` (job and script come on standard input) · `look` · `recover` (deliver what a dead runner left) · `clean` (remove it) · `beside` (starts what is
said on a line beside the script of a running job, with its input and output). The folder lies on the disk that the
whole cluster shares; the job itself is submitted, looked at and ended by Slurm. Each may be asked again at any time. The answer is one line of JSON, but to `beside`.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time

from stellwerk._files import write_json, write_whole
from stellwerk.runner.beside import end_when_unheard
from stellwerk.runner.processes import die_with_parent

_LEAST_FREE_BYTES = 16 * 1024 * 1024


class Folder:
    def __init__(self, path):
        self.path = os.path.abspath(path)

    def place(self, given):
        """Once: whoever comes second finds what the first placed, and which job took it up."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        with open(self._at("start.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._job() is None:
                self._need_room()
                write_json(self._at("job.json"), given["job"])
                write_whole(self._at("batch.sh"), given["script"])
        return self.look()

    def look(self):
        return {"there": os.path.isdir(self.path), "job": self._job(), "tail": self._tail()}

    def recover(self):
        if os.path.exists(self._at("job.json")):
            command = [sys.executable, "-S", "-m", "stellwerk", "recover", self.path]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
            if done.returncode != 0:
                told = done.stdout.decode("utf-8", "replace").strip().splitlines()
                raise OSError(told[-1] if told else "exit code %d" % done.returncode)
        return self.look()

    def clean(self):
        for _ in range(20):  # what was killed may have been writing; a shared disk learns of it late
            shutil.rmtree(self.path, ignore_errors=True)
            if not os.path.exists(self.path):
                return self.look()
            time.sleep(0.25)
        raise OSError("The folder %s could not be removed." % self.path)

    def beside(self, words):
        """A step of the job, on the first of its nodes; it ends with the job, or when nobody takes what it says any more."""
        job = self._job()
        if job is None:
            raise OSError("The script does not run.")
        step = ["--jobid=" + job, "--overlap", "--nodes=1", "--ntasks=1", "--relative=0", "--mpi=none", "--unbuffered", "--quiet"]
        process = subprocess.Popen(["srun", *step, "bash", "-l", self._at("batch.sh"), *words], cwd="/", preexec_fn=die_with_parent)
        threading.Thread(target=end_when_unheard, args=(process.terminate,), daemon=True).start()
        return process.wait()

    def _job(self):
        """The number of the job that took the folder up, if one has."""
        try:
            with open(self._at("jobid")) as file:
                return file.read().strip() or None
        except OSError:
            return None

    def _tail(self):
        """The last that was said before or by the runner, where it never came to speak to the server."""
        try:
            with open(self._at("runner.log"), "rb") as file:
                file.seek(max(0, os.path.getsize(file.name) - 2000))
                return file.read().decode("utf-8", "replace").strip().splitlines()[-5:]
        except OSError:
            return []

    def _need_room(self):
        disk = os.statvfs(self.path)
        if disk.f_bavail * disk.f_frsize < _LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)

    def _at(self, name):
        return os.path.join(self.path, name)


def main():
    parser = argparse.ArgumentParser(prog="python -m stellwerk.runner.login_node", description=__doc__)
    parser.add_argument("what", choices=("place", "look", "recover", "clean", "beside"))
    parser.add_argument("folder")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    folder = Folder(given.folder)
    if given.what == "beside":
        return folder.beside(given.words)
    print(json.dumps(folder.place(json.load(sys.stdin)) if given.what == "place" else getattr(folder, given.what)()))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as failure:
        sys.stderr.write("%s\n" % failure)
        sys.exit(1)
