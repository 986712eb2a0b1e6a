"""Our own package on a machine that is reached from elsewhere, once per content, in the folder of an installation: `python3 -m stellwerk.runner.bundles <what> <folder>`.

`prune` removes those beside this one that no job says it runs from. `forget` removes the whole folder, unless a job is left in it, or another target of the same
installation is connected; `--relay` names the socket of the one that leaves. The answer says what was removed, a line each.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import sys

import stellwerk
from stellwerk._files import write_whole

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(stellwerk.__file__)))
_NAME = re.compile(r"[0-9a-f]{24}")
_RECORD = "bundle"
_SAY_SO = (_RECORD, "batch.sh")  # a batch job names it in its script


def write_down(job):
    """That what runs in the folder of a job runs from this one."""
    write_whole(os.path.join(job, _RECORD), _OWN)


def prune(folder):
    others = [name for name in _listed(folder, "bundles") if _NAME.fullmatch(name) and name != os.path.basename(_OWN)]
    said = [_said(os.path.join(folder, "jobs", job)) for job in _listed(folder, "jobs")]
    if "" in said:
        return []  # of a job that does not say it, nothing is known
    unused = [os.path.join(folder, "bundles", name) for name in others if not any(name in words for words in said)]
    for bundle in unused:
        shutil.rmtree(bundle, ignore_errors=True)
    return unused


def forget(folder, relay):
    relays = [os.path.join(folder, "relay", name) for name in _listed(folder, "relay")]
    if _listed(folder, "jobs") or any(_answers(path) for path in relays if path != relay):
        return []
    shutil.rmtree(folder, ignore_errors=True)
    return [folder]


def _said(job):
    found = ""
    for name in _SAY_SO:
        try:
            with open(os.path.join(job, name), encoding="utf-8", errors="replace") as file:
                found += file.read()
        except OSError:
            continue
    return found


def _listed(*parts):
    try:
        return os.listdir(os.path.join(*parts))
    except FileNotFoundError:
        return []


def _answers(path):
    """Of an earlier connection, nobody does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        try:
            connection.connect(path)
            return True
        except OSError:
            return False


def main():
    parser = argparse.ArgumentParser(prog="python -m stellwerk.runner.bundles", description=__doc__)
    parser.add_argument("what", choices=("prune", "forget"))
    parser.add_argument("folder")
    parser.add_argument("--relay", metavar="SOCKET", help="of the connection that asks")
    given = parser.parse_args()
    for path in prune(given.folder) if given.what == "prune" else forget(given.folder, given.relay):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
