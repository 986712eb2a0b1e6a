"""Builds source distributions without trust in what their authors wrote.

uv runs build backends with the Python that it was told to use. It is told to use one made here, which enters a box each time it is
started: in namespaces of its own it sees the system's programs, that Python, the source, and uv's folders for this one build, and nothing
else of the machine; it has no network, no privilege, a /tmp of its own, limits, and none of the environment's variables but those that builds need.
uv itself stays outside: it fetches what a build requires, with the credentials of the package indexes, which nothing inside can see.
When uv ends, or a build takes too long, all that was started in the box ends too.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

_NOBODY = 65534
_SECONDS = 3600
_SHARED = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")
_KEPT = re.compile(r"^(PATH|LANG|LC_\w+|TZ|VIRTUAL_ENV|SOURCE_DATE_EPOCH|PYTHONHASHSEED|C(XX|PP)?FLAGS|LDFLAGS|CC|CXX|MAKEFLAGS)$")
_LIMITS = {
    "RLIMIT_CORE": 0, "RLIMIT_CPU": _SECONDS, "RLIMIT_NOFILE": 4096, "RLIMIT_NPROC": 4096,
    "RLIMIT_DATA": 8 * 1024**3, "RLIMIT_FSIZE": 8 * 1024**3,
}  # fmt: skip

# Arguments: the box's root, then triples (how, from, to) up to `--`, then the last step.
_MOUNTS = """
set -eu
umask 022
root=$1; shift
mount --make-rprivate /
mount -t tmpfs -o size=16m,mode=755,nosuid tmpfs "$root"
mkdir "$root/dev" "$root/proc" "$root/tmp"
for device in null zero full random urandom; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o size=2g,mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
while [ "$1" != -- ]; do
  case $1 in
    link) ln -s "$2" "$root$3" ;;
    hide) if [ -e "$root$3" ]; then mount -t tmpfs -o size=64k,mode=755,nosuid,nodev tmpfs "$root$3"; fi ;;
    *)
      if [ -d "$2" ]; then mkdir -p "$root$3"; else mkdir -p "$root${3%/*}"; [ -e "$root$3" ] || : > "$root$3"; fi
      mount --bind "$2" "$root$3"
      mount -o remount,bind,"$1",nosuid,nodev "$root$3" ;;
  esac
  shift 3
done
shift
mount -o remount,bind,ro,nosuid "$root"
cd /
"$@" &&:
exit $?
"""

# The program's own environment appears only here, where it can do no harm to what built the box.
_LAUNCH = """
import json, os, resource, sys
given = json.loads(sys.argv[1])
for name, value in given["limits"].items():
    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
os.chdir(given["cwd"])
os.execve(given["argv"][0], given["argv"], given["env"])
"""


def make_boxed_python(folder, python, cache, hidden=()):
    """A Python below `folder` for uv with the cache `cache`. None if this machine refuses to make boxes."""
    executable, prefix = _facts(python)
    program = os.path.join(folder, "boxed", "bin", os.path.basename(executable))
    if os.path.join(prefix, "bin", os.path.basename(executable)) != executable:
        return None  # a build of Python that lies in folders of its own kind
    os.makedirs(os.path.dirname(program))
    os.makedirs(os.path.join(folder, "box"))
    settings = {
        "folder": os.path.realpath(folder), "executable": executable, "prefix": prefix,
        "cache": os.path.realpath(cache), "hidden": [os.path.realpath(path) for path in hidden],
    }  # fmt: skip
    # The package that this module is in, also where that lies in a wheel.
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(program, "w", encoding="utf-8") as file:
        file.write("#!%s -I\nimport sys\nsys.path.insert(0, %r)\nfrom stellwerk.runner.build_box import enter\n" % (executable, ours))
        file.write("sys.exit(enter(%r, sys.argv))\n" % json.dumps(settings))
    os.chmod(program, 0o755)
    tried = subprocess.run([program, "-c", "print(1)"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return program if tried.returncode == 0 else None


def _facts(python):
    question = "import json, os, sys; print(json.dumps([os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)]))"
    return json.loads(subprocess.run([python, "-I", "-c", question], stdout=subprocess.PIPE, check=True).stdout)


def enter(settings, argv):
    """Runs the Python inside, as it was called outside. Returns its exit code."""
    given = json.loads(settings)
    as_root = os.getuid() == 0
    cwd = os.path.realpath(".")
    work = _work(given["cache"], cwd, argv)
    environment = _environment_of(argv[0], work)
    if as_root:
        _give_to_nobody([*work, *environment])
    inside = {"limits": _LIMITS, "cwd": cwd if _is_in(cwd, work) else "/tmp", "argv": argv, "env": _environment()}
    command = [
        "unshare", *([] if as_root else ["--user", "--map-root-user"]),
        "--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child",
        "sh", "-c", _MOUNTS, "box", os.path.join(given["folder"], "box"), *_mounts(given, work, environment), "--",
        *_without_privilege(as_root, os.path.join(given["folder"], "box")),
        given["executable"], "-I", "-S", "-c", _LAUNCH, json.dumps(inside),
    ]  # fmt: skip
    try:
        return _watched(command)
    finally:
        _remove_traps(work, given["folder"])


def _work(cache, cwd, argv):
    """What uv uses for this call, all of it in its cache: where the source lies, and temporary folders that the arguments name."""
    temporary = re.compile(re.escape(cache) + r"(?:/[\w.-]+){0,2}?/\.tmp\w+")
    named = {os.path.realpath(path) for argument in argv for path in temporary.findall(argument)}
    kept = {path for path in named | {cwd} if path.startswith(cache + "/") and os.path.isdir(path)}
    return sorted(path for path in kept if not _is_in(path, kept - {path}))


def _environment_of(program, work):
    """The virtual environment that is to be installed into, if the call is for one; it is made for that alone."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(program)))
    is_further = os.path.isfile(os.path.join(folder, "pyvenv.cfg")) and not _is_in(os.path.realpath(folder), work)
    return [folder] if is_further else []


def _is_in(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _mounts(given, work, environment):
    mounts = []
    for path in _SHARED:
        if os.path.islink(path) and os.path.isdir(path):
            mounts += ["link", os.readlink(path), path]
        elif os.path.exists(path):
            mounts += ["ro", path, path]
    if not _is_in(given["prefix"], ["/usr"]):
        mounts += ["ro", given["prefix"], given["prefix"]]
    for path in given["hidden"]:
        mounts += ["hide", "", path]
    mounts += ["ro", given["prefix"], os.path.join(given["folder"], "boxed")]
    for path in environment:
        mounts += ["ro", path, path]
    for path in work:
        mounts += ["rw", path, path]
    return mounts


def _without_privilege(as_root, root):
    if as_root:
        kept = "--bounding-set=-all,+sys_chroot,+setuid,+setgid"
        return [
            "setpriv", kept, "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs",
            "chroot", "--userspec=%d:%d" % (_NOBODY, _NOBODY), "--groups=", root,
        ]  # fmt: skip
    maps = ["--map-user=%d" % _NOBODY, "--map-group=%d" % _NOBODY]
    return ["setpriv", "--no-new-privs", "unshare", "--user", *maps, "--root=%s" % root, "--wd=/"]


def _give_to_nobody(work):
    """Links are not followed. Nothing in these folders is shared with others: uv copies what it puts there."""
    for path in work:
        os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)
        for above, folders, files in os.walk(path):
            for name in folders + files:
                os.chown(os.path.join(above, name), _NOBODY, _NOBODY, follow_symlinks=False)


def _remove_traps(work, own):
    """What would lead uv, which reads what a build leaves, to a file that the build could not read, or would make it wait."""
    for path in work:
        for above, folders, files in os.walk(path):
            for name in folders + files:
                entry = os.path.join(above, name)
                if os.path.islink(entry):
                    trap = not _is_in(os.path.realpath(entry), [*work, own])
                else:
                    trap = not (os.path.isdir(entry) or os.path.isfile(entry))
                if trap:
                    os.unlink(entry)


def _environment():
    env = {name: value for name, value in os.environ.items() if _KEPT.match(name)}
    return dict(env, HOME="/tmp", TMPDIR="/tmp")


def _watched(command):
    parent = os.getppid()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={"PATH": os.environ.get("PATH", os.defpath)})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: process.kill())
    end = time.monotonic() + _SECONDS
    while True:
        try:
            code = process.wait(0.2)
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            if os.getppid() != parent or time.monotonic() > end:
                process.kill()


def main():
    import argparse

    parser = argparse.ArgumentParser(prog="python -m stellwerk.runner.build_box", description=__doc__)
    parser.add_argument("folder", help="where the boxed Python is made")
    parser.add_argument("--python", required=True)
    parser.add_argument("--cache", required=True, help="uv's cache folder")
    parser.add_argument("--hide", action="append", default=[], help="a folder that builds must not see")
    given = parser.parse_args()
    print(make_boxed_python(given.folder, given.python, given.cache, given.hide) or "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
