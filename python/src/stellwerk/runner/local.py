"""Starts a runner on this machine that outlives whoever starts it: `python3 -m stellwerk.runner --start -`.

Starting the same attempt of the same run again finds the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from stellwerk._files import folder_name, runs_folder, write_json
from stellwerk.runner.local_container import contained, describe_image, image_of
from stellwerk.runner.machine import describe_machine
from stellwerk.runner.place import Place
from stellwerk.runner.processes import start_time
from stellwerk.runner.script import package_root


def take_up(client, workspace, run):
    """Starts a run that was submitted to the local computer, here."""
    try:
        machine = machine_for(run.get("configuration") or {})
        start_local(client.runs.get_job(workspace, run["id"], machine=machine))
    except Exception:
        client.runs.cancel(workspace, run["id"])  # what nobody will ever start must not wait for ever
        raise


def start_local(job, below=None):
    """Starts a run on this machine. Returns the folder that it has here."""
    command = [sys.executable or "python3", "-m", "stellwerk.runner", "--start", "-"] + (["--below", below] if below else [])
    env = dict(os.environ, PYTHONPATH=_python_path())
    done = subprocess.run(command, input=json.dumps(job).encode("utf-8"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    if done.returncode != 0:
        message = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError("The runner could not be started: %s" % (message[-1] if message else "exit code %d" % done.returncode))
    return json.loads(done.stdout.decode("utf-8"))["folder"]


def machine_for(configuration):
    """What there is for a run of this machine: in the image that it names, or else here. Raises NoContainer."""
    image = image_of(configuration)
    return describe_image(image, package_root()) if image else describe_machine()


def place_of(job, below=None):
    name = folder_name("%s %s %s" % (job["run"], job["attempt"], job["server"]))
    return Place(os.path.join(below or runs_folder(), name))


def start(job, below=None):
    """Writes the job down and starts its runner, detached. Returns folder, pid and start time."""
    place = place_of(job, below)
    there = place.runner()
    if there:
        return there
    command = [sys.executable or "python3", "-m", "stellwerk.runner", place.folder]
    if image_of(job["configuration"]):
        command = contained(job, place.folder, package_root())
    place.write_job(job)
    process = detached(command, os.path.join(place.folder, "runner.log"))
    runner = {"folder": place.folder, "pid": process.pid, "startTime": start_time(process.pid)}
    if os.path.isdir(place.folder):  # it may be over already
        place.write_runner(runner)
    return runner


def start_shipper(folder):
    """Starts what ships an interactive run. It goes through a process of its own, so that it leaves no zombie behind in a notebook."""
    command = [sys.executable or "python3", "-m", "stellwerk.runner", "--start-shipper", folder]
    subprocess.run(command, env=dict(os.environ, PYTHONPATH=_python_path()), stdin=subprocess.DEVNULL, check=True)


def ship_detached(folder):
    process = detached([sys.executable or "python3", "-m", "stellwerk.runner", "--ship", folder], os.path.join(folder, "shipper.log"))
    write_json(os.path.join(folder, "shipper.json"), {"pid": process.pid, "startTime": start_time(process.pid)})


def detached(command, log):
    """Starts one of our own programs in a session of its own, writing to a log."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_RUN_") or name == "STELLWERK_RUNS_FOLDER"}
    env["PYTHONPATH"] = _python_path()
    os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    with open(log, "ab") as output:
        os.chmod(log, 0o600)
        return subprocess.Popen(
            command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip


def _python_path():
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != package_root()]
    return os.pathsep.join([package_root()] + others)
