"""Files on this disk: paths that a run may have, copies that are safe from later changes, writing in one piece, folders of ours."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile

_CLONE = 0x40049409  # FICLONE: a copy that shares its blocks until one of the two changes


def flaw_of_path(path):
    """Why a path is refused, or None. The same rule as the server's."""
    if path == "":
        return "it is empty"
    if len(path) > 5000:
        return "it is longer than 5000 characters"
    if path.startswith("/"):
        return "it is absolute"
    if re.match(r"[A-Za-z]:", path):
        return "it begins with a drive letter"
    if "\\" in path:
        return "it has a backslash"
    if "\0" in path:
        return "it has a NUL character"
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    for part in path.split("/"):
        if part == "":
            return "it has an empty part"
        if part in (".", ".."):
            return "it has the part `%s`" % part
        if len(part.encode("utf-8")) > 255:
            return "it has a part longer than 255 bytes"
    return None


def legible(path):
    """A path for eyes: what steers a terminal or breaks a line is written out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in path)


def run_path(name):
    """The path of a file of a run as the user gives it: `./` and this system's separators are understood."""
    path = str(name)
    if os.sep != "/":
        path = path.replace(os.sep, "/")
    while path.startswith("./"):
        path = path[2:]
    path = re.sub(r"/{2,}", "/", path).rstrip("/")
    flaw = flaw_of_path(path)
    if flaw:
        raise ValueError("The path %r is not allowed: %s." % (str(name), flaw))
    return path


def safe_join(folder, path):
    """Where a relative path of the server's lies below a folder; refused if it would lead out of it."""
    flaw = flaw_of_path(path)
    if flaw:
        raise ValueError("The path %r is not allowed: %s." % (path, flaw))
    return os.path.join(folder, *path.split("/"))


def digest_of(path):
    """The digest and size of a file's content."""
    hasher = hashlib.sha256()
    size = 0
    with open(path, "rb", buffering=0) as file:
        while True:
            data = file.read(1024 * 1024)
            if not data:
                return "sha256:" + hasher.hexdigest(), size
            hasher.update(data)
            size += len(data)


def stage_copy(source, folder):
    """Copies a file into a folder under the name of its digest. Returns digest and size."""
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".copy-")
    try:
        with os.fdopen(handle, "wb") as target, open(source, "rb", buffering=0) as file:
            if _clone(target, file):
                digest, size = digest_of(temporary)
            else:
                hasher, size = hashlib.sha256(), 0
                for data in iter(lambda: file.read(1024 * 1024), b""):
                    hasher.update(data)
                    target.write(data)
                    size += len(data)
                digest = "sha256:" + hasher.hexdigest()
        os.replace(temporary, os.path.join(folder, digest[7:]))
        return digest, size
    except BaseException:
        os.unlink(temporary)
        raise


def write_whole(path, text, mode=0o600):
    """Writes a file in one piece: a reader sees the old or the new content, never a part."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".write-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path, value):
    write_whole(path, json.dumps(value))


def read_json(path, default=None):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return default
    except ValueError:
        return default


def folder_name(text):
    """A name for a folder made from free text, such as a run id: readable, short and unmistakable."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:60]
    return "%s-%s" % (slug or "run", hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12])


def cache_folder():
    """Where what can be made again is kept for this user."""
    given = os.environ.get("STELLWERK_CACHE_FOLDER")
    return given or os.path.join(_user_folder("XDG_CACHE_HOME", ".cache", "Library/Caches", "LOCALAPPDATA"), "stellwerk")


def runs_folder():
    """Where the folders of this user's local, interactive and offline runs are."""
    given = os.environ.get("STELLWERK_RUNS_FOLDER")
    return given or os.path.join(
        _user_folder("XDG_DATA_HOME", ".local/share", "Library/Application Support", "LOCALAPPDATA"), "stellwerk-runs"
    )


def _user_folder(variable, below_home, on_macos, on_windows):
    if os.environ.get(variable):
        return os.environ[variable]
    if os.name == "nt" and os.environ.get(on_windows):
        return os.environ[on_windows]
    home = os.path.expanduser("~")
    if home in ("~", "/", ""):  # a user without a home
        home = os.path.join(tempfile.gettempdir(), "stellwerk-%s" % (os.getuid() if hasattr(os, "getuid") else "user"))
    return os.path.join(home, *(on_macos if sys.platform == "darwin" else below_home).split("/"))


def _clone(target, source):
    try:
        import fcntl

        fcntl.ioctl(target.fileno(), _CLONE, source.fileno())
        return True
    except (ImportError, OSError):
        return False
