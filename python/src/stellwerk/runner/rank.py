"""One of several processes of a script: `python3 -m stellwerk.runner.rank <program> …`, started on every node by what starts them there (srun, mpirun, `ranks`).

The program gets its place among all in the variables that PyTorch and TensorFlow expect: MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE, NODE_RANK and TF_CONFIG. What the run configuration sets itself is left as it is. What it prints goes where all print, and into a
log of its own; the first on each node samples what all there take of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import zlib

from stellwerk._files import read_json, write_json
from stellwerk.runner.output import Capture, Log
from stellwerk.runner.processes import Family
from stellwerk.runner.rank_files import RankFiles
from stellwerk.runner.usage import sampled

_FIRST_PORT = 20000
_PORTS = 10000
_PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_DRAINS_SECONDS = 5.0  # what a rank left in the background may hold its output open
_PR_SET_PDEATHSIG = 1


def place_of(environ, hosts):
    """The variables of one process, from those of whoever started it."""
    def first(*names):
        return next((int(environ[name]) for name in names if environ.get(name, "").isdigit()), None)

    rank = first("OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "STELLWERK_RANK")
    size = first("OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "STELLWERK_RANKS")
    if rank is None or size is None:
        return {}
    local = first("OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID") or 0
    each = first("OMPI_COMM_WORLD_LOCAL_SIZE") or max(1, size // max(1, len(hosts)))
    name = "%s.%s" % (environ.get("SLURM_JOB_ID", ""), environ.get("STELLWERK_ATTEMPT", ""))
    port = _FIRST_PORT + zlib.crc32(name.encode()) % _PORTS  # the same on all nodes, another one for each job
    workers = ["%s:%d" % (host, port + 1 + of) for host in hosts for of in range(each)]
    cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
    return {
        "MASTER_ADDR": hosts[0] if hosts else "localhost", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": str(each), "NODE_RANK": str(rank // each), "TF_CONFIG": json.dumps(cluster),
    }  # fmt: skip


def hosts_of(environ):
    """The names of the nodes, first to last."""
    listed = environ.get("STELLWERK_HOSTS") or environ.get("SLURM_JOB_NODELIST", "")
    if "[" not in listed:
        return [name for name in listed.split(",") if name]
    told = subprocess.run(["scontrol", "show", "hostnames", listed], stdout=subprocess.PIPE, check=True)
    return told.stdout.decode("ascii", "replace").split()


def main(command):
    env = dict(os.environ)
    place = place_of(env, hosts_of(env))
    env.update({name: value for name, value in place.items() if name not in os.environ})
    env.pop("PYTHONPATH", None)
    own = env.pop("STELLWERK_RANK_PYTHONPATH", None)
    if own:
        env["PYTHONPATH"] = own
    watched = place and _watched(place, os.path.dirname(os.environ["STELLWERK_RUN_FOLDER"]))
    if not watched:
        os.execvpe(command[0], command, env)
    _end_as(watched(command, env))


def _watched(place, job_folder):
    """How to run the program with its own log; nothing where that folder is not to be written to, as on a node without the others' disk."""
    files = RankFiles(job_folder)
    rank, node = int(place["RANK"]), int(place["NODE_RANK"])
    job = read_json(os.path.join(job_folder, "job.json"))
    if not job:
        return None
    log = _Passed(Log(files.log(rank)))
    secrets = [*job["secrets"].values(), *job["vaultSecrets"].values()]

    def run(command, env):
        passed = env.pop("STELLWERK_RANK_SIGNALS", "").split(",")
        printed, output = os.pipe()
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, preexec_fn=_end_with_parent)
        os.close(output)
        for number in _PASSED:  # whoever sends one sends it to all processes of the rank, or has said which are for us to pass on
            signal.signal(number, lambda number, _: process.send_signal(number) if str(number) in passed else None)
        capture = Capture(printed, log, secrets)
        capture.start()
        usage = None
        if place["LOCAL_RANK"] == "0":  # for all ranks of this node: what started us started them
            usage = sampled(job, files.samples(node), Family(ancestors=[os.getppid()]), "node%d." % node if node else "")
        code = process.wait()
        if usage:
            write_json(files.total(node), usage.finish() or {})
        capture.join(_DRAINS_SECONDS)
        capture.stopped.set()
        capture.join()
        return code

    return run


class _Passed:
    """A log of one rank, all of whose lines are printed, too."""

    def __init__(self, log):
        self._log = log

    def write(self, text):
        if text:
            self._log.write(text)
            data = text.encode("utf-8", "replace")
            while data:
                data = data[os.write(1, data) :]


def _end_with_parent():
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_as(code):
    """Ends as the program did, by its signal if it was one."""
    sys.stdout.flush()
    if code < 0:
        if -code in _PASSED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
