"""Delivers what a dead runner left in its folder, now or days later: `python -m stellwerk recover <folder>`.

If the script's end is known, the run gets the state that it deserves; if not (the runner was killed), the server has
called it lost, which it stays unless `reason` is given: then the run has failed for that reason.
"""

from __future__ import annotations

import os
import shutil
import time

from stellwerk._run_folder import RunFolder, now
from stellwerk._transport import Transport
from stellwerk.runner.attempt import UNDELIVERED
from stellwerk.runner.data import Data
from stellwerk.runner.delivery import NotDelivered, Patience, deliver
from stellwerk.runner.lease import Lease
from stellwerk.runner.outputs import Outputs
from stellwerk.runner.output import last_lines
from stellwerk.runner.place import Place
from stellwerk.runner.processes import process_namespace, start_time, sweep
from stellwerk.runner.shipping import Shipper


def alive(runner):
    """Whether the process that is written down as runner still runs."""
    return bool(runner) and runner.get("startTime") is not None and start_time(runner["pid"]) == runner["startTime"]


class Recovery:
    """What `deliver` needs, from what is written down."""

    def __init__(self, place, tell):
        job = place.job()
        names = (job["workspace"], job["run"], job["attempt"])
        self.place = place
        self.transport = Transport(job["server"], job["token"], job.get("caBundle"), timeout=30, attempts=3)
        self.folder = RunFolder(place.run)
        self.verdict = place.state().get("verdict")
        self.outputs = Outputs(self.transport, *names, place.work, tell)
        self.data = Data(self.transport, job["workspace"], job["dataReferences"] if self.verdict else {}, place.work)
        self.lease = Lease(self.transport, *names, job["leaseSeconds"], tell, *[lambda *_: None] * 3)
        self.job = job
        self.shipper = Shipper(self.transport, self.folder, tell, attempt=job["attempt"])


def recover(folder, tell, reason=None, limit=60.0):
    """Returns 0 when everything is delivered and the folder is gone."""
    place = Place(folder)
    if not os.path.isdir(place.folder):
        return 0  # everything was delivered before
    state = place.state()
    # In a container of its own, ids are those of others here; with that container its processes have ended.
    is_here = state.get("processes") in (None, process_namespace())
    if (is_here and alive(state.get("runner"))) or alive(place.runner()):
        tell("The runner of %s is alive; there is nothing to recover." % place.folder)
        return UNDELIVERED
    if is_here and state.get("mark"):
        sweep(state["mark"], [state["session"]] if state.get("session") else [])
    if os.path.isdir(place.run):
        recovery = Recovery(place, tell)
        if reason and not recovery.verdict:
            recovery.verdict = {"state": "failed", "reason": reason, "endedAt": now(), "lastLines": last_lines(place.output)}
            place.note(verdict=recovery.verdict)
        try:
            deliver(recovery, Patience(tell, limit, time.monotonic()))
        except NotDelivered as error:
            tell("Not everything could be delivered: %s" % error)
            return UNDELIVERED
    shutil.rmtree(place.folder, ignore_errors=True)
    return 0
