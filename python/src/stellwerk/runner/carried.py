"""What a batch job does that brought all it needs with it: `python3 -m stellwerk.runner.carried <what> <folder> [<more>]`, on a node of a cluster whose login node nobody reaches.

`run`: executes the run in the folder, and removes the folder once all is delivered · `recover` (deliver what a dead runner left) · `clean` (remove the folder) · `describe` (what
the node has) · `reach` (whether a server, by its address and its authority's certificate, is reached from the node). What these find out, or why they failed, is written into the job's own comment, which Slurm tells.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from stellwerk.runner.attempt import SUPERSEDED
from stellwerk.runner.login_node import Folder
from stellwerk.runner.remote import describe as describe_machine
from stellwerk.runner.way_back import why_not

_LONGEST_COMMENT = 4_000


def run(folder):
    """The runner is a child of this process: it could not remove what it is executed from."""
    asked = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, _: asked.append(number))
    with open(os.path.join(folder, "runner.log"), "ab") as output:
        process = subprocess.Popen([sys.executable, "-S", "-m", "stellwerk.runner", folder], cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    while process.poll() is None:
        for number in asked[:]:
            asked.remove(number)
            process.send_signal(number)
        time.sleep(0.05)
    if process.returncode in (0, SUPERSEDED):
        clean(folder)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def recover(folder):
    Folder(folder).recover()


def clean(folder):
    Folder(folder).clean()


def describe(_):
    told = subprocess.run(["srun", "--mpi=list"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return json.dumps({"platform": describe_machine()["platform"], "hasPmix": b"pmix" in told.stdout})


def reach(_, *server):
    reason = why_not(*server)
    if reason:
        raise OSError(reason)


def main(arguments):
    what, folder, *more = arguments
    if what == "run":
        return run(folder)
    try:
        told, code = {"recover": recover, "clean": clean, "describe": describe, "reach": reach}[what](folder, *more), 0
    except OSError as error:
        told, code = str(error), 1
    if told:
        subprocess.run(["scontrol", "update", "JobId=" + os.environ["SLURM_JOB_ID"], "Comment=" + told[:_LONGEST_COMMENT]], check=True, stdout=subprocess.DEVNULL)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
