"""The git state of the directory that a run is submitted from: commit, branch, remote without credentials, and whether it is dirty."""

from __future__ import annotations

import re
import subprocess
import threading


def git_state(directory):
    """As the contract has it, or None where there is no git or no commit."""
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return None
    state = {"commit": commit, "dirty": _git(directory, "status", "--porcelain", "--untracked-files=normal", "--", ".") != ""}
    branch = _git(directory, "symbolic-ref", "--short", "-q", "HEAD")
    remote = _git(directory, "config", "--get", "remote.origin.url")
    if branch:
        state["branch"] = branch[:256]
    if remote:
        state["remote"] = without_credentials(remote)[:2000]
    return state


class GitState:
    """The same, asked for while something else is done."""

    def __init__(self, directory):
        self._value = None
        self._thread = threading.Thread(target=self._ask, args=(directory,), name="git", daemon=True)
        self._thread.start()

    def _ask(self, directory):
        self._value = git_state(directory)

    def value(self):
        self._thread.join()
        return self._value


def without_credentials(remote):
    remote = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@", r"\1", remote)
    return re.sub(r"([?&](?:[a-z_]*token|password|key)=)[^&]*", r"\1***", remote, flags=re.I)


def _git(directory, *arguments):
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
