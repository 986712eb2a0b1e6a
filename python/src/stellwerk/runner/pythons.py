"""The Python interpreters of this machine, by minor version."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys

from stellwerk.runner.programs import answer_of

_ASK = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable); print('%d.%d.%d' % sys.version_info[:3])"


def ask(command, env=None):
    """(minor, path, full version) of an interpreter, or None if it does not run."""
    answer = answer_of([command, "-c", _ASK], env)
    lines = answer.splitlines() if answer else []
    return tuple(lines[-3:]) if len(lines) >= 3 and re.match(r"3\.\d+$", lines[-3]) else None


def find(minor):
    """The path of an interpreter of that minor, or None."""
    for command in _candidates("python" + minor, minor):
        found = ask(command)
        if found and found[0] == minor:
            return found[1]
    return None


def find_all():
    """Minor → path, of all that are found; the one behind `python3` first."""
    found = {}
    commands = ["python3", sys.executable]
    for minor in range(6, 30):
        commands += _candidates("python3.%d" % minor, "3.%d" % minor)
    for command in dict.fromkeys(commands):
        answer = ask(command) if command else None
        if answer:
            found.setdefault(answer[0], answer[1])
    return found


def nearest_newer(minor, found):
    """The lowest minor above the wanted one, or None."""
    newer = [other for other in found if _key(other) > _key(minor)]
    return min(newer, key=_key) if newer else None


def _key(minor):
    return tuple(int(part) for part in minor.split("."))


def _candidates(name, minor):
    commands = [shutil.which(name)]
    if "%d.%d" % sys.version_info[:2] == minor:
        commands.append(sys.executable)
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    places = [os.path.join(pyenv, "versions", minor + ".*", "bin"), "/usr/bin", "/usr/local/bin", "/opt/python/*/bin"]
    for place in places:
        commands += sorted(glob.glob(os.path.join(place, name)), reverse=True)
    return [command for command in dict.fromkeys(commands) if command]
