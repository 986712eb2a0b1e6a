"""Brings to a server what is left on this machine: offline runs, and runs that a server did not take while it was away."""

from __future__ import annotations

import os
import shutil

from stellwerk._files import read_json, runs_folder
from stellwerk._run_folder import RECORD, RunFolder
from stellwerk._transport import ServiceError, Transport, path_of
from stellwerk.runner.delivery import NotDelivered, Patience, end_children, ship_everything
from stellwerk.runner.processes import start_time
from stellwerk.runner.recover import recover
from stellwerk.runner.shipping import Shipper

_UNENDED = "The process ended without completing the run."


def sync(transport=None, workspace=None, folders=None, tell=print, experiment=None):
    """Ships these folders of runs, or what lies below them (this user's runs, unless given). Returns (brought, left) as lists of run ids.

    `transport` and `workspace` say where offline runs go; runs begun with a server go to that one.
    """
    brought, left = [], []
    for path in _runs_in(folders or [runs_folder()]):
        name = os.path.basename(path)
        if os.path.exists(os.path.join(path, "job.json")):
            run = (read_json(os.path.join(path, "job.json")) or {}).get("run", name)
            done = recover(path, tell) == 0
        elif os.path.exists(os.path.join(path, RECORD)):
            found = RunFolder(path)
            run = found.id
            if _busy(found):
                tell("The run %s is going on; it is left alone." % run)
                continue
            done = _bring(found, transport, workspace, experiment, tell)
        else:
            continue
        (brought if done else left).append(run)
    return brought, left


def _runs_in(folders):
    for folder in folders:
        if any(os.path.exists(os.path.join(folder, name)) for name in ("job.json", RECORD)):
            yield os.path.abspath(folder)
        elif os.path.isdir(folder):
            yield from (os.path.join(folder, name) for name in sorted(os.listdir(folder)))


def _busy(run):
    """Whether the process that writes to a run, or the one that ships it, is alive."""
    settings = read_json(run.file("connection.json")) or {}
    owner = run.record.get("process") or settings.get("parent")
    shipper = read_json(run.file("shipper.json"))
    return (run.ended() is None and _alive(owner)) or _alive(shipper)


def _alive(process):
    return bool(process) and start_time(process["pid"]) == process["startTime"]


def _bring(run, transport, workspace, experiment, tell):
    settings = read_json(run.file("connection.json"))
    if settings:
        transport = Transport(settings["url"], (transport and transport.token) or settings["token"], settings.get("caBundle"), timeout=30)
    if transport is None or not (settings or workspace):
        tell("The run %s was made offline; name the server and the workspace that it is to go to." % run.id)
        return False
    run.record["workspace"] = run.record.get("workspace") or workspace
    run.record["experiment"] = experiment or run.record["experiment"]
    if run.ended() is None:
        run.journal.end("failed", _UNENDED)
    end_children(run, run.ended(), None)
    shipper = Shipper(transport, run, tell, created=False)
    for child in shipper.root.folder.children():
        child.record["workspace"] = run.record["workspace"]
    patience = Patience(tell, 20.0)
    try:
        patience.until_done(shipper.create_root)
        shipper.root_waits = True  # its journal ends the run, and with it the children that are not there yet
        ship_everything(shipper, patience)
        shipper.root_waits = False
        _report_end(transport, run)
        ship_everything(shipper, patience)
    except (NotDelivered, ServiceError) as error:
        tell("The run %s could not be brought to the server: %s" % (run.id, error))
        return False
    tell("The run %s is at the server now." % run.id)
    shutil.rmtree(run.path, ignore_errors=True)
    return True


def _report_end(transport, run):
    """Says when an offline run ended, which its journal does not."""
    if not run.record.get("endedAt"):
        return
    place = path_of("/workspaces/{workspace}/runs/{run}/report", workspace=run.record["workspace"], run=run.id)
    body = {"attempt": 1, "state": run.ended(), "endedAt": run.record["endedAt"]}
    try:
        transport.call("POST", place, body, idempotent=True)
    except ServiceError as error:
        if error.reason != "run.move-refused":
            raise
