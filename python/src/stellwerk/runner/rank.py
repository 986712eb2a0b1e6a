"""One of several processes of a script: `python3 -m stellwerk.runner.rank <program> …`, started on every node by what starts them there (srun, mpirun, `ranks`).

The program gets its place among all in the variables that PyTorch and TensorFlow expect: MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE, NODE_RANK and TF_CONFIG. What the run configuration sets itself is left as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib

_FIRST_PORT = 20000
_PORTS = 10000


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
    env.update({name: value for name, value in place_of(env, hosts_of(env)).items() if name not in os.environ})
    env.pop("PYTHONPATH", None)
    own = env.pop("STELLWERK_RANK_PYTHONPATH", None)
    if own:
        env["PYTHONPATH"] = own
    os.execvpe(command[0], command, env)


if __name__ == "__main__":
    main(sys.argv[1:])
