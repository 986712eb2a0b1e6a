"""A run of this machine in a container of the Docker that is here, by its own program `docker`.

The run's folder, our package and a cache lie there under the same paths, and the network is that of the machine: so it is the same runner that does
the same. It is the user's own `docker` and what that is signed in to. The process of `docker` counts as the runner: signals go through it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess

from stellwerk._files import cache_folder, folder_name

class NoContainer(OSError):
    """There is no Docker here, or it cannot do what the run asks for."""


def image_of(configuration):
    """The image that a run is to be in, or None."""
    return (configuration.get("container") or {}).get("image")


def describe_image(image, package):
    """As `describe_machine` does, of what is in an image. It is pulled if it is not there."""
    if not _answered(["image", "inspect", image]):
        _asked(["pull", "--quiet", image], "the container image %s" % image)
    ours = [*_mount(package, True), "--env", "PYTHONPATH=" + package, "--entrypoint", "python3"]
    words = ["run", "--rm", "--network", "none", *ours, image, "-S", "-m", "stellwerk.runner", "--machine"]
    return json.loads(_asked(words, "what the container image %s has (Python 3.8 or newer must be in it, as python3)" % image))


def contained(job, folder, package):
    """The command that runs the runner of a job in its container. The job gets a cache that is only of this image."""
    image = image_of(job["configuration"])
    digest = _asked(["image", "inspect", "--format", "{{.Id}}", image], "the container image %s" % image).strip()
    cache = os.path.join(cache_folder(), "containers", folder_name(digest))
    os.makedirs(cache, mode=0o700, exist_ok=True)
    job["cacheFolder"] = cache
    words = ["run", "--rm", "--network", "host", "--entrypoint", "python3", "--workdir", "/"]
    words += [*_mount(folder), *_mount(cache), *_mount(package, True), *_mount(job.get("caBundle"), True)]
    words += ["--env", "PYTHONPATH=" + package, "--env", "HOME=/tmp"]
    return [_docker(), *words, *_user(), *_limits(job["resources"]), image, "-S", "-m", "stellwerk.runner", folder]


def _mount(path, is_read_only=False):
    """The same path there; written as a line of CSV, since it may have commas and colons."""
    if not path:
        return []
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", "source=" + path, "target=" + path] + (["readonly"] if is_read_only else []))
    return ["--mount", line.getvalue()]


def _user():
    """Files are to be the user's; where Docker runs without root, its root is the user."""
    is_rootless = "rootless" in _asked(["info", "--format", "{{.SecurityOptions}}"], "its state")
    return [] if is_rootless else ["--user", "%d:%d" % (os.getuid(), os.getgid())]


def _limits(resources):
    words = []
    if resources.get("cpus"):
        words += ["--cpus", str(resources["cpus"])]
    if resources.get("memoryBytes"):
        words += ["--memory", str(resources["memoryBytes"]), "--memory-swap", str(resources["memoryBytes"])]
    if resources.get("gpus"):
        words += ["--gpus", str(resources["gpus"])]
    return words


def _docker():
    found = shutil.which("docker")
    if not found:
        raise NoContainer("The run names a container image, but there is no `docker` on the PATH. Install Docker, or submit to another target.")
    return found


def _answered(words):
    return subprocess.run([_docker(), *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def _asked(words, what):
    done = subprocess.run([_docker(), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["exit code %d" % done.returncode]
        raise NoContainer("Docker could not tell or get %s: %s" % (what, told[-1]))
    return done.stdout.decode("utf-8", "replace")
