"""The run that this process writes to: inside a submitted script, started from a notebook, a child of either, or offline.

    active = context()                       # in a script: the run it was submitted as; else an offline run
    active = begin(transport, workspace, experiment)   # from a notebook or a program
    active.journal.log("loss", 0.1)          # never waits for the network
    with active.child(display_name="fold 1") as child: …

`complete`, `fail` and `cancel` say how it ended. What is logged is shipped by the runner, by a shipper process
of an interactive run's own, or later by `python -m stellwerk sync`.
"""

from __future__ import annotations

import os
import sys
import time

from stellwerk._files import folder_name, read_json, runs_folder, write_json
from stellwerk._run_folder import RunFolder, new_run_id, now
from stellwerk._transport import StellwerkError, Transport, Unreachable, path_of

CONNECTION = "connection.json"
_LEASE_SECONDS = 30.0


class ActiveRun:
    """`kind` is submitted, interactive, child or offline."""

    def __init__(self, kind, folder=None, make=None, root_kind=None):
        self.kind = kind
        self.root_kind = root_kind or kind
        self._folder = folder
        self._make = make
        self._transport = None
        self._ended = None

    @property
    def folder(self):
        if self._folder is None:
            self._folder = self._make()
        return self._folder

    @property
    def journal(self):
        return self.folder.journal

    @property
    def id(self):
        return self.folder.id

    @property
    def parent_id(self):
        return self.folder.record.get("parent")

    @property
    def experiment(self):
        return self.folder.record.get("experiment")

    @property
    def workspace(self):
        return self.folder.record.get("workspace")

    @property
    def ended(self):
        """The state that this run was ended with here, or None."""
        return self._ended

    @property
    def transport(self):
        """The server to ask about this run; None offline."""
        settings = read_json(os.path.join(self.folder.root, CONNECTION))
        if settings is None:
            return None
        if self._transport is None:
            self._transport = Transport(settings["url"], settings["token"], settings.get("caBundle"))
        self._transport.token = settings["token"]  # the runner renews it
        return self._transport

    def child(self, id=None, display_name=None, tags=None, properties=None, parameters=None):
        """Starts a child run; needs no network."""
        folder = self.folder.child(
            id=id, displayName=display_name, tags=tags or None, properties=properties or None, parameters=parameters or None
        )
        return ActiveRun("child", folder, root_kind=self.root_kind)

    def complete(self, wait=60.0):
        """The run is done. An interactive run waits until the server has everything, at most so many seconds."""
        self._end("completed", None, wait)

    def fail(self, reason=None, wait=60.0):
        self._end("failed", reason or "The run was ended as failed.", wait)

    def cancel(self, wait=60.0):
        """Ends an interactive or child run as canceled; asks the server to cancel a submitted one."""
        if self.kind == "submitted":
            path = path_of("/workspaces/{workspace}/runs/{run}/cancel", workspace=self.workspace, run=self.id)
            self.transport.call("POST", path, {}, idempotent=True)
        else:
            self._end("canceled", None, wait)

    def flush(self, outputs=False):
        """Brings everything that was logged and uploaded so far to the server now, so that it can be asked about it.

        With `outputs`, also what lies in `outputs/` and `logs/` of a submitted script's working directory.
        """
        transport = self.transport
        if transport is None:
            raise StellwerkError("This run is offline; bring it to a server with `python -m stellwerk sync`.")
        from stellwerk.runner.delivery import Patience, ship_everything
        from stellwerk.runner.outputs import Outputs
        from stellwerk.runner.shipping import Shipper

        root = RunFolder(self.folder.root)
        shipper = Shipper(transport, root, _warn, attempt=root.record.get("attempt"), created=True)
        ship_everything(shipper, Patience(_warn, 30.0))
        if outputs and self.kind == "submitted":
            work = os.path.join(os.path.dirname(root.path), "work")
            Outputs(transport, self.workspace, self.id, root.record.get("attempt"), work, _warn).collect()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if self._ended is None:
            if kind is None:
                self.complete()
            elif issubclass(kind, KeyboardInterrupt):
                self.cancel()
            else:
                self.fail("%s: %s" % (kind.__name__, error))

    def _end(self, state, reason, wait):
        if self._ended is not None:
            return
        self._ended = state
        if self.kind == "submitted":
            if state == "failed":  # the exit code decides otherwise
                write_json(self.folder.file("verdict.json"), {"state": state, "reason": reason})
            return
        if self.kind == "offline":
            self.folder.record["endedAt"] = now()
            write_json(self.folder.file("run.json"), self.folder.record)
        if os.path.isdir(self.folder.path):  # else the run has been canceled, and all is delivered
            self.journal.end(state, reason)
        if self.kind == "interactive":
            self._wait_until_shipped(wait)

    def _wait_until_shipped(self, seconds):
        until = time.monotonic() + seconds
        while os.path.isdir(self.folder.path):
            if time.monotonic() > until or not _shipper_lives(self.folder.path):
                _warn(
                    "the server does not have all of the run %s yet. It is kept in %s; `python -m stellwerk sync` brings the rest."
                    % (self.id, self.folder.path)
                )
                return
            time.sleep(0.05)


def begin(transport, workspace, experiment, id=None, display_name=None, description=None, tags=None, properties=None, parameters=None, parent=None, git=None, lease_seconds=_LEASE_SECONDS):  # fmt: skip
    """Starts an interactive run. If the server cannot be reached, it starts all the same and is recorded later."""
    id = id or new_run_id(experiment)
    path = os.path.join(runs_folder(), folder_name(id))
    folder = RunFolder.create(
        path, id=id, workspace=workspace, experiment=experiment, displayName=display_name, description=description,
        tags=tags or None, properties=properties or None, parameters=parameters or None, parent=parent, git=git,
    )  # fmt: skip
    created, attempt = False, 1
    try:
        body = {name: value for name, value in folder.record.items() if name != "workspace"}
        place = path_of("/workspaces/{workspace}/runs/start", workspace=workspace)
        answer = transport.call("POST", place, body, idempotent=True, attempts=2, timeout=15)
        created, attempt = True, max(answer.get("attempt") or 1, 1)
    except Unreachable as error:
        _warn("%s The run starts all the same; what it logs is delivered when the server is back." % error)
    except StellwerkError:
        _remove(path)
        raise
    write_json(folder.file(CONNECTION), {
        "url": transport.url, "token": transport.token, "caBundle": transport.ca_bundle, "workspace": workspace,
        "created": created, "attempt": attempt, "leaseSeconds": lease_seconds, "parent": _this_process(),
    })  # fmt: skip
    _start_shipper(path)
    return ActiveRun("interactive", folder)


def begin_offline(experiment="offline", id=None, display_name=None, tags=None, properties=None):
    """Starts a run without a server; `python -m stellwerk sync` brings it to one later."""
    id = id or new_run_id(experiment)
    folder = RunFolder.create(
        os.path.join(runs_folder(), folder_name(id)), id=id, experiment=experiment, displayName=display_name,
        tags=tags or None, properties=properties or None, offline=True, process=_this_process(),
    )  # fmt: skip
    active = ActiveRun("offline", folder)
    _end_at_exit(active)
    return active


_context = None


def context(allow_offline=True):
    """The run that this script was submitted as; else (if allowed) an offline run, whose folder is made when it is first used."""
    global _context
    path = os.environ.get("STELLWERK_RUN_FOLDER")
    if path and (_context is None or _context.kind != "submitted" or _context.folder.path != os.path.abspath(path)):
        _context = ActiveRun("submitted", RunFolder(path))
    if _context is None and not allow_offline:
        raise StellwerkError("This script was not submitted as a run. Submit it, or start a run with `experiment.start_logging()`.")  # fmt: skip
    if _context is None:
        _context = ActiveRun("offline", make=_offline_folder)
    return _context


def _offline_folder():
    id = new_run_id("offline")
    path = os.path.join(runs_folder(), folder_name(id))
    folder = RunFolder.create(path, id=id, experiment="offline", offline=True, process=_this_process())
    _end_at_exit(_context)
    return folder


def _end_at_exit(active):
    import atexit

    started = os.getpid()

    def end():
        if active.ended is None and os.getpid() == started:
            failed = getattr(sys, "last_type", None)
            if failed is not None and failed is not KeyboardInterrupt:
                active.fail("%s: %s" % (failed.__name__, getattr(sys, "last_value", "")))
            else:
                active.complete()

    atexit.register(end)


def _this_process():
    from stellwerk.runner.processes import start_time

    return {"pid": os.getpid(), "startTime": start_time(os.getpid())}


def _start_shipper(path):
    from stellwerk.runner.local import start_shipper

    start_shipper(path)


def _shipper_lives(path):
    from stellwerk.runner.processes import start_time

    shipper = read_json(os.path.join(path, "shipper.json"))
    return shipper is None or start_time(shipper["pid"]) == shipper["startTime"]


def _remove(path):
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _warn(text):
    sys.stderr.write("stellwerk: %s\n" % text)
