"""Makes the environment of a run as its plan says; built once on a machine and shared by all runs that have the same plan.

An environment lies in a folder named by the plan's key and is complete only when its marker lies in it. A
lock on the file beside it makes sure that one run builds while the others wait; what a killed run left is made anew.
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from urllib.parse import unquote

from stellwerk._files import read_json, write_json, write_whole
from stellwerk.runner import pythons
from stellwerk.runner.programs import PreparationFailed, answer_of

_MARKER = ".stellwerk.json"
_CONDAS = ("micromamba", "mamba", "conda")


class Environment:
    """A Python to start scripts with. `folder` is None for one that the user manages."""

    def __init__(self, python, version, folder=None, notices=()):
        self.python = python
        self.version = version
        self.folder = folder
        self.notices = list(notices)

    def has(self, package):
        """Whether the environment, one that was built, brings a package. Looked up, since asking its Python takes longer than all else."""
        return bool(glob.glob(os.path.join(glob.escape(self.folder), "lib", "python*", "site-packages", package, "__init__.py")))


def make_environment(plan, indexes, cache, work, private, programs, for_others=False):
    """`private` is a folder for files that hold credentials. `for_others`: for users who may not change it, and whose code is not executed."""
    if plan["kind"] == "user-managed":
        return _user_managed(plan, work)
    there = plan["key"] if read_json(os.path.join(cache, "environments", plan["key"], _MARKER)) else None
    base, notices = (None, list(plan["notices"])) if plan.get("conda") or there else _base_python(plan)
    key = plan["key"] if base is None or base[0] == plan["pythonMinor"] else "%s-python%s" % (plan["key"], base[0])
    folder = os.path.join(cache, "environments", key)
    marker = os.path.join(folder, _MARKER)
    ready = read_json(marker)
    if not ready:
        with _locked(folder + ".lock", programs, "Another run is building this environment; waiting for it."):
            ready = read_json(marker)
            if not ready:
                started = time.monotonic()
                if os.path.isdir(folder):
                    shutil.rmtree(folder)
                env = _index_environment(indexes, cache, private)
                ready = {"version": _build(plan, base, folder, env, cache, private, programs, for_others)}
                write_json(marker, ready)
                os.chmod(marker, 0o644)
                programs.tell("The environment was built in %.1f s." % (time.monotonic() - started))
    else:
        programs.tell("The environment %s is there already." % key[:12])
    with suppress(PermissionError):  # it may be another user's
        os.utime(marker)
    return Environment(os.path.join(folder, "bin", "python"), ready["version"], folder, notices)


def _user_managed(plan, work):
    wanted = plan.get("interpreterPath") or "python3"
    command = os.path.join(work, wanted) if os.sep in wanted and not os.path.isabs(wanted) else wanted
    answer = pythons.ask(command)
    if not answer:
        raise PreparationFailed("The Python %r of the run configuration does not run on this machine. Name one that does." % wanted)  # fmt: skip
    return Environment(shutil.which(command) or command, answer[2], None, plan["notices"])


def _base_python(plan):
    wanted, notices = plan["pythonMinor"], list(plan["notices"])
    path = pythons.find(wanted)
    if path:
        return (wanted, path), notices
    found = pythons.find_all()
    other = pythons.nearest_newer(wanted, found) if plan["pythonFallback"] else None
    if not other:
        raise PreparationFailed(
            "Python %s is not on this machine; there are %s. Install it, name one that is there, or set `pythonFallback`."
            % (wanted, ", ".join(sorted(found, key=pythons._key)) or "none")
        )
    notices.append("Python %s is not on this machine; Python %s, the nearest newer one, is used instead." % (wanted, other))
    return (other, found[other]), notices


def _build(plan, base, folder, env, cache, private, programs, for_others):
    """Returns the version of its Python."""
    uv = _uv(cache, env, programs)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    python = os.path.join(folder, "bin", "python")
    if plan.get("conda"):
        _conda(plan["conda"], folder, env, cache, programs)
    else:
        programs.run([uv, "venv", "--quiet", "--python", base[1], folder], env, "make a virtual environment")
    version = pythons.ask(python)[2]  # now, while no package can have a say in what that does
    if plan["lockText"].strip():
        lock = os.path.join(private, "requirements.lock")
        write_whole(lock, plan["lockText"])
        install = [uv, "pip", "install", *plan["installFlags"], "-r", lock, "--python"]
        if for_others:
            _install_apart(install, folder, base, env, private, programs)
        else:
            programs.run([*install, python], env, "install the packages of the environment")
    if for_others:
        _open_to_others(folder, base[1] if base else python, env, programs)
    return version


def _install_apart(install, folder, base, env, private, programs):
    """Wheels are unpacked. For a package that has none, the environment is made with a Python that builds in a box, where this machine can make one."""
    python = os.path.join(folder, "bin", "python")
    try:
        return programs.run([*install, python, "--no-build"], env, "install the packages of the environment")
    except PreparationFailed as failure:
        from stellwerk.runner.build_box import make_boxed_python

        boxed = make_boxed_python(private, base[1] if base else python, env["UV_CACHE_DIR"]) if "--no-build" in str(failure) else None
        if not boxed:
            raise
    programs.tell("A package has no wheel; it is built in a box, in which it sees nothing of this machine.")
    env = dict(env, UV_LINK_MODE="copy", UV_NO_SOURCES="1")
    building = folder if base else os.path.join(private, "built")
    venv = [install[0], "venv", "--quiet", building, "--python"]
    programs.run([*venv, boxed, "--clear"], env, "make a virtual environment to build in")
    programs.run([*install, os.path.join(building, "bin", "python")], env, "build the packages of the environment")
    if base:
        programs.run([*venv, base[1], "--allow-existing"], env, "give the environment its own Python")
    else:  # conda's own: what was built is in the cache by now
        programs.run([*install, python], env, "install the packages of the environment")


def _open_to_others(folder, python, env, programs):
    """To be read and executed. Compiled here, since they cannot; by a Python that does not look into the folder for what to execute."""
    no_tests = ["-x", "/site-packages/.*/tests?/"]  # half of all, and hardly ever imported
    compiling = [python, "-I", "-S", "-m", "compileall", "-q", "-q", "-j", "0", *no_tests, os.path.join(folder, "lib")]
    with suppress(PreparationFailed):  # some packages have files that are no Python, as examples
        programs.run(compiling, env, "compile the packages of the environment")
    programs.run(["chmod", "-R", "a+rX,go-w,ug-s", folder], env, "make the environment readable")


def _conda(conda, folder, env, cache, programs):
    tool = next((shutil.which(name) for name in _CONDAS if shutil.which(name)), None)
    if not tool:
        raise PreparationFailed("The environment asks for conda packages, and this machine has none of conda, mamba and micromamba. Install one of them.")  # fmt: skip
    channels = [part for channel in conda["channels"] for part in ("--channel", channel)]
    command = [tool, "create", "--yes", "--prefix", folder, *(["--override-channels"] if channels else []), *channels, *conda["packages"]]
    programs.run(command, _conda_environment(env, cache), "install the conda packages of the environment")


def conda_packages(folder):
    """What conda wrote down of what it installed: addresses with checksums, without credentials."""
    about = os.path.join(folder, "conda-meta") if folder else None
    if not about or not os.path.isdir(about):
        return []
    records = [read_json(os.path.join(about, name)) or {} for name in sorted(os.listdir(about)) if name.endswith(".json")]
    known = [(record["url"], record["md5"]) for record in records if record.get("url") and record.get("md5")]
    return ["%s#%s" % (re.sub(r"^(\w+://)(?:[^/@]*@)?([^/]*/)(?:t/[^/]+/)?", r"\1\2", url), md5) for url, md5 in known]


def _conda_environment(env, cache):
    """Without access to the package indexes, which conda does not ask: it executes what packages bring. Downloads lie beside the environments."""
    closed = {name: value for name, value in env.items() if not name.startswith(("UV_", "PIP_")) and name != "NETRC"}
    closed.setdefault("CONDA_PKGS_DIRS", os.path.join(cache, "conda-packages"))
    return closed


def _index_environment(indexes, cache, private):
    env = clean_environment()
    env.update(indexes.get("environment") or {})
    if indexes.get("netrc"):
        env["NETRC"] = os.path.join(private, "netrc")
        write_whole(env["NETRC"], indexes["netrc"])
    if indexes.get("caBundle"):
        env["SSL_CERT_FILE"] = os.path.join(private, "certificates.pem")
        write_whole(env["SSL_CERT_FILE"], _trusted_already() + "\n" + indexes["caBundle"])
    env.setdefault("UV_CACHE_DIR", os.path.join(cache, "uv-cache"))
    env.setdefault("UV_PYTHON_DOWNLOADS", "never")
    env["UV_NO_PROGRESS"] = "1"
    return env


def credentials_of(indexes):
    """What must not be seen in what uv and pip print."""
    values = [word for line in (indexes.get("netrc") or "").splitlines() for word in line.split()[-1:]]
    for value in (indexes.get("environment") or {}).values():
        for address in value.split():
            if "://" in address and "@" in address:
                values.append(address.split("://", 1)[1].rsplit("@", 1)[0].split(":", 1)[-1])
    return [value for given in values for value in (given, unquote(given)) if len(value) > 3]


def _trusted_already():
    """A bundle adds to what the machine trusts: the public index must stay within reach."""
    usual = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    for path in (os.environ.get("SSL_CERT_FILE"), *usual):
        try:
            with open(path or "", encoding="ascii", errors="replace") as file:
                return file.read()
        except OSError:
            pass
    return ""


def clean_environment():
    """This process's environment without what binds it to a certain Python or run."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "STELLWERK_TOKEN")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("STELLWERK_RUN_", "AZUREML_"))
    }


def _uv(cache, env, programs):
    """Where uv is: named, on the PATH, or in the cache, where it is put if need be."""
    named = os.environ.get("STELLWERK_UV") or shutil.which("uv")
    if named:
        return named
    folder = os.path.join(cache, "uv")
    uv = os.path.join(folder, "bin", "uv")
    if _runs(uv):
        return uv
    with _locked(folder + ".lock", programs, "Another run is installing uv; waiting for it."):
        if not _runs(uv):
            shutil.rmtree(folder, ignore_errors=True)
            _install_uv(folder, _pip_environment(env), programs)
    return uv


def _install_uv(folder, env, programs):
    python = sys.executable or "python3"
    if answer_of([python, "-c", "import ensurepip, venv; print(1)"]):
        programs.run([python, "-m", "venv", folder], env, "make the virtual environment that uv lies in")
        install = [os.path.join(folder, "bin", "python"), "-m", "pip", "install", "--quiet", "uv"]
    elif answer_of([python, "-m", "pip", "--version"]):
        install = [python, "-m", "pip", "install", "--quiet", "--target", folder, "uv"]
    else:
        raise PreparationFailed("uv, which makes environments, is not on this machine, and %s has neither venv nor pip to install it. Install uv, or Python's venv (Debian: python3-venv)." % python)  # fmt: skip
    programs.run(install, env, "install uv")


def _runs(uv):
    return os.access(uv, os.X_OK) and answer_of([uv, "--version"]) is not None


def _pip_environment(env):
    """What uv is told about indexes, in pip's words."""
    told = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS": "PIP_FIND_LINKS"}
    told["SSL_CERT_FILE"] = "PIP_CERT"
    both = dict(env, PIP_DISABLE_PIP_VERSION_CHECK="1")
    for ours, pips in told.items():
        if env.get(ours) and pips not in both:
            both[pips] = env[ours]
    return both


@contextmanager
def _locked(path, programs, waiting):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                programs.check()
                if not told:
                    programs.tell(waiting)
                told = True
                time.sleep(0.2)
        yield
