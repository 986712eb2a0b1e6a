"""The Python interpreters of this machine, by minor version. What one answered is remembered until its file changes."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys

from stellwerk._files import cache_folder, read_json, write_json
from stellwerk.runner.programs import answer_of

_ASK = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable); print('%d.%d.%d' % sys.version_info[:3])"


def ask(command):
    """(minor, path, full version) of an interpreter, or None if it does not run."""
    answer = answer_of([command, "-c", _ASK])
    lines = answer.splitlines() if answer else []
    return tuple(lines[-3:]) if len(lines) >= 3 and re.match(r"3\.\d+$", lines[-3]) else None


class _Remembered:
    """Answers of interpreters, by their paths; kept in the cache folder."""

    def __init__(self):
        self._file = os.path.join(cache_folder(), "pythons.json")
        self._answers = read_json(self._file, {})
        self._changed = False

    def ask(self, command):
        path = shutil.which(command) or ""
        try:
            status = os.stat(path)
        except OSError:
            return None
        key = [status.st_ino, status.st_size, status.st_mtime_ns]
        known = self._answers.get(path)
        if known and known[0] == key:
            return tuple(known[1]) if known[1] else None
        answer = ask(path)
        if os.sep + "shims" + os.sep not in path:  # a shim answers differently from folder to folder
            self._answers[path], self._changed = [key, answer], True
        return answer

    def save(self):
        if self._changed:
            try:
                write_json(self._file, self._answers)
            except OSError:
                pass  # it is only a cache


def find(minor):
    """The path of an interpreter of that minor, or None."""
    remembered = _Remembered()
    for command in _candidates("python" + minor, minor):
        found = remembered.ask(command)
        if found and found[0] == minor:
            remembered.save()
            return found[1]
    return None


def find_all():
    """Minor → path, of all that are found; the one behind `python3` first."""
    found, remembered = {}, _Remembered()
    commands = ["python3", sys.executable]
    for minor in range(6, 30):
        commands += _candidates("python3.%d" % minor, "3.%d" % minor)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(remembered.ask, [command for command in dict.fromkeys(commands) if command]):
            if answer:
                found.setdefault(answer[0], answer[1])
    remembered.save()
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
    commands = [command for command in dict.fromkeys(commands) if command]
    shims = [command for command in commands if os.sep + "shims" + os.sep in command]
    return [command for command in commands if command not in shims] or shims
