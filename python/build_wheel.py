"""Builds the wheel of the Python package: `python3 python/build_wheel.py [folder]`, or through pip as an in-tree PEP 517 backend.

The same sources give the same bytes, on any machine and day. Standard library only. The wheel needs no other package: PyYAML's pure Python
part is taken from its wheel on the package index, pinned by hash, and lies in it as `stellwerk._vendor.yaml` with its licence.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(HERE, "src")
DIST = os.path.join(HERE, "dist")
YAML = "PyYAML==6.0.3"
YAML_HASH = "sha256:b8bb0864c5a28024fac8a632c443c87c5aa6f215c0b126c449ae1a150412f31d"
# One certain file whatever this machine is: only its Python sources are taken, which are the same everywhere.
YAML_PLATFORM = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", "manylinux2014_x86_64"]
SUMMARY = "Train, log, compare, register, build images and deploy with an open, self-hosted machine-learning service."


def version():
    with open(os.path.join(HERE, "..", "cli", "package.json"), encoding="utf-8") as file:
        return json.load(file)["version"]


def pip():
    """This Python's pip; Debian's system Python has none, but can make a virtual environment that has."""
    if subprocess.call([sys.executable, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
        return [sys.executable, "-m", "pip"]
    venv = os.path.join(DIST, "pip")
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(python):
        subprocess.check_call([sys.executable, "-m", "venv", venv])
    return [python, "-m", "pip"]


def pinned(requirement, digest, options=()):
    """The path of a wheel from the package index, downloaded once and checked against its hash every time."""
    folder = os.path.join(DIST, "vendor")
    os.makedirs(folder, exist_ok=True)
    wheel = find_wheel(folder, digest)
    if wheel is None:
        with tempfile.TemporaryDirectory() as scratch:
            wanted = os.path.join(scratch, "requirements.txt")
            with open(wanted, "w", encoding="utf-8") as file:
                file.write("%s --hash=%s\n" % (requirement, digest))
            given = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", *options]
            # The number, as sys.stderr may be a buffer in this process that another one cannot write to.
            subprocess.check_call([*pip(), "download", *given, "--dest", scratch, "-r", wanted], stdout=2)
            name = next(name for name in os.listdir(scratch) if name.endswith(".whl"))
            partial = os.path.join(folder, ".%s.%d" % (name, os.getpid()))
            with open(os.path.join(scratch, name), "rb") as source, open(partial, "wb") as copy:
                copy.write(source.read())
            os.replace(partial, os.path.join(folder, name))
        wheel = find_wheel(folder, digest)
    if wheel is None:
        raise SystemExit("%s could not be had with the hash that this build pins." % requirement)
    return wheel


def find_wheel(folder, digest):
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            if name.endswith(".whl") and "sha256:" + hashlib.sha256(file.read()).hexdigest() == digest:
                return os.path.join(folder, name)
    return None


def yaml_wheel():
    return pinned(YAML, YAML_HASH, YAML_PLATFORM)


def vendored():
    with zipfile.ZipFile(yaml_wheel()) as archive:
        for name in archive.namelist():
            # cyaml would load the C parser of whatever PyYAML the user has.
            if name.startswith("yaml/") and name.endswith(".py") and name != "yaml/cyaml.py":
                yield "stellwerk/_vendor/" + name, archive.read(name)
            elif name.endswith("/LICENSE"):
                yield "stellwerk/_vendor/yaml/LICENSE", archive.read(name)
    yield "stellwerk/_vendor/__init__.py", b""


def sources():
    for folder, folders, names in os.walk(os.path.join(SOURCES, "stellwerk")):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "_vendor"))
        for name in sorted(names):
            if not name.endswith((".pyc", ".pyo")) and name != "_version.py":
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    yield os.path.relpath(path, SOURCES).replace(os.sep, "/"), file.read()
    yield "stellwerk/_version.py", ('VERSION = "%s"\n' % version()).encode()


def metadata():
    lines = ["Metadata-Version: 2.1", "Name: stellwerk", "Version: " + version(), "Summary: " + SUMMARY]
    lines += ["License: Apache-2.0", "License-File: LICENSE", "Requires-Python: >=3.8", ""]
    return "\n".join(lines).encode()


WHEEL = b"Wheel-Version: 1.0\nGenerator: stellwerk\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write(folder, files):
    """A wheel of these files: sorted, without times, with its record."""
    name = "stellwerk-%s" % version()
    info = name + ".dist-info/"
    entries = dict(files)
    entries.update({info + "METADATA": metadata(), info + "WHEEL": WHEEL})
    with open(os.path.join(HERE, "..", "LICENSE"), "rb") as file:
        entries[info + "LICENSE"] = file.read()
    record = []
    for path in sorted(entries):
        digest = base64.urlsafe_b64encode(hashlib.sha256(entries[path]).digest()).rstrip(b"=").decode()
        record.append("%s,sha256=%s,%d\n" % (path, digest, len(entries[path])))
    entries[info + "RECORD"] = ("".join(record) + info + "RECORD,,\n").encode()
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, name + "-py3-none-any.whl")
    partial = "%s.%d" % (target, os.getpid())
    with zipfile.ZipFile(partial, "w") as archive:
        for path in sorted(entries):
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            # Stored: a compressor's version may change the bytes; and scripts import the package straight from this file.
            archive.writestr(entry, entries[path])
    os.replace(partial, target)
    return target


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return os.path.basename(write(wheel_directory, {**dict(sources()), **dict(vendored())}))


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return os.path.basename(write(wheel_directory, {"stellwerk.pth": (SOURCES + "\n").encode()}))


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else DIST
    print(os.path.join(chosen, build_wheel(chosen)))
