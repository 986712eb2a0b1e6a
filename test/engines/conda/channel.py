"""Makes a channel of conda packages in a folder: `python` out of this machine's Python, and small ones with versions, dependencies and a link script."""

import hashlib
import io
import json
import os
import sys
import tarfile

MINOR = "%d.%d" % sys.version_info[:2]
VERSION = "%d.%d.%d" % sys.version_info[:3]
LIBRARY = os.path.dirname(os.__file__)
LEFT_OUT = {"__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "dist-packages", "EXTERNALLY-MANAGED", "sitecustomize.py"}

WHERE_PACKAGES_LIE = b"""import os, site, sys
site.addsitedir(os.path.join(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages"))
"""


def python_files():
    """A distribution may have changed where packages lie; conda's Python has them where its authors put them."""
    with open(os.path.realpath(sys.executable), "rb") as file:
        yield "bin/python" + MINOR, file.read(), 0o755
    for link in ("bin/python", "bin/python3"):
        yield link, "python" + MINOR, None
    for folder, folders, files in os.walk(LIBRARY):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        for name in sorted(set(files) - LEFT_OUT):
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                content = file.read()
            if name == "sysconfig.py":
                content = content.replace(b"prefix_scheme = 'posix_local'", b"prefix_scheme = 'posix_prefix'")
            yield "lib/python%s/%s" % (MINOR, os.path.relpath(path, LIBRARY)), content, 0o644
    yield "lib/python%s/site-packages/README.txt" % MINOR, b"for packages\n", 0o644
    yield "lib/python%s/sitecustomize.py" % MINOR, WHERE_PACKAGES_LIE, 0o644


def write(channel, subdir, name, version, files, depends=(), noarch=None):
    index = {
        "name": name, "version": version, "build": "0", "build_number": 0, "depends": list(depends),
        "arch": None if subdir == "noarch" else "x86_64", "platform": None if subdir == "noarch" else "linux", "subdir": subdir,
    }  # fmt: skip
    if noarch:
        index["noarch"] = noarch
    files = list(files)
    paths = []
    for path, content, mode in files:
        data = content.encode() if isinstance(content, str) else content
        kind = "softlink" if mode is None else "hardlink"
        paths.append({"_path": path, "path_type": kind, "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)})
    files += [
        ("info/index.json", json.dumps(index), 0o644), ("info/paths.json", json.dumps({"paths": paths, "paths_version": 1}), 0o644),
        ("info/files", "".join(entry["_path"] + "\n" for entry in paths), 0o644),
    ]  # fmt: skip
    if noarch == "python":
        files.append(("info/link.json", json.dumps({"noarch": {"type": "python", "entry_points": []}, "package_metadata_version": 1}), 0o644))
    os.makedirs(os.path.join(channel, subdir), exist_ok=True)
    file = "%s-%s-0.tar.bz2" % (name, version)
    place = os.path.join(channel, subdir, file)
    with tarfile.open(place, "w:bz2", compresslevel=1) as archive:
        for path, content, mode in files:
            entry = tarfile.TarInfo(path)
            if mode is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
                continue
            data = content.encode() if isinstance(content, str) else content
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    with open(place, "rb") as archive:
        whole = archive.read()
    return file, dict(index, md5=hashlib.md5(whole).hexdigest(), sha256=hashlib.sha256(whole).hexdigest(), size=len(whole))


def module(name, version, body=""):
    text = "version = %r\n%s" % (version, body)
    return [("site-packages/%s.py" % name, text, 0o644)]


def main(channel):
    linked = "#!/bin/sh\nid -u > \"$PREFIX/linked-by\"\n"
    noarch = [
        write(channel, "noarch", "signals", "1.0", module("signals", "1.0"), ["python"], "python"),
        write(channel, "noarch", "signals", "2.0", module("signals", "2.0"), ["python"], "python"),
        write(channel, "noarch", "railway", "1.0", module("railway", "1.0", "import signals\n"), ["python", "signals <2"], "python"),
    ]
    native = [
        write(channel, "linux-64", "python", VERSION, python_files()),
        write(channel, "linux-64", "libpoints", "3.1", [("lib/libpoints.txt", "points", 0o644), ("bin/.libpoints-post-link.sh", linked, 0o755)]),
    ]
    for subdir, packages in (("noarch", noarch), ("linux-64", native)):
        with open(os.path.join(channel, subdir, "repodata.json"), "w", encoding="utf-8") as file:
            json.dump({"info": {"subdir": subdir}, "packages": dict(packages), "packages.conda": {}, "repodata_version": 1}, file)


if __name__ == "__main__":
    main(sys.argv[1])
