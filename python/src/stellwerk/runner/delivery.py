"""Brings all that an attempt left to the server, and then says how it ended. May be done again, by another process, days later."""

from __future__ import annotations

import time

from stellwerk._transport import StellwerkError, path_of
from stellwerk.runner.place import say
from stellwerk.runner.rank_files import RankFiles
from stellwerk.runner.shipping import transient

LIMIT_SECONDS = 60.0


class NotDelivered(Exception):
    """The server does not take it now; what is left stays in the folder."""


class Patience:
    """How long a delivery may take: a minute, and longer only while the server is answering."""

    def __init__(self, tell, limit=LIMIT_SECONDS, since=None):
        self._tell = tell
        self._until = (since if since is not None else time.monotonic()) + limit
        self._last = ""

    def until_done(self, work):
        """Does a piece of work, again and again while the server cannot be reached and there is time."""
        pause = 0.1
        while True:
            try:
                return work()
            except StellwerkError as error:
                if not transient(error):
                    raise NotDelivered(str(error)) from None
                if str(error) != self._last:
                    self._last = str(error)
                    self._tell(self._last)
                if time.monotonic() + pause > self._until:
                    raise NotDelivered(str(error)) from None
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    def rest(self):
        """A moment's pause where the server answers but takes nothing."""
        if time.monotonic() > self._until:
            raise NotDelivered("The server does not take what is left.")
        time.sleep(0.1)


def end_children(folder, state, reason):
    """Children that a script left open end with it."""
    for child in folder.children():
        if child.ended() is None:
            if state == "completed":
                child.journal.end("completed")
            else:
                child.journal.end(state, "The run that it belongs to ended as %s%s" % (state, ": " + reason if reason else "."))
            child.journal.close()


def ship_everything(shipper, patience):
    """Journals, staged files and logs, to their ends."""
    while shipper.pending():
        moved = [patience.until_done(work) for work in (shipper.ship_journals, shipper.ship_files, shipper.ship_logs)]
        if not any(moved):
            patience.rest()
    patience.until_done(lambda: shipper.ship_logs(complete=True))


def add_logs(shipper, place, job):
    """Tells the shipper of the logs. Those of a later attempt go on where the earlier one's end, which the server knows."""
    if shipper.logs:
        return
    base = place.state().get("logBase")
    if base is None:
        base = _log_bases(shipper.transport, job) if job["attempt"] > 1 else {}
        place.note(logBase=base)
    paths = {"preparation.txt": place.preparation, "output.txt": place.output}
    shipper.add_logs(paths, base, RankFiles(place.folder) if job.get("launcher") else None)


def _log_bases(transport, job):
    place = path_of("/workspaces/{workspace}/runs/{run}/logs", workspace=job["workspace"], run=job["run"])
    return {item["name"]: item["sizeBytes"] for item in transport.call("GET", place)["items"]}


def deliver(attempt, patience):
    """Everything to its end, then the verdict. `attempt` needs: job, place, folder, shipper, outputs, data, lease, verdict."""
    verdict = attempt.verdict
    if verdict:
        end_children(attempt.folder, verdict["state"], verdict.get("reason"))
    patience.until_done(attempt.outputs.collect)
    notices = patience.until_done(attempt.data.bring)
    for notice in notices:
        say(notice)
    patience.until_done(lambda: add_logs(attempt.shipper, attempt.place, attempt.job))
    ship_everything(attempt.shipper, patience)
    if verdict:
        attempt.lease.report(notices=notices or None, **verdict)
        patience.until_done(lambda: _reported(attempt.lease))


def _reported(lease):
    if lease.pending():
        lease.exchange_or_raise()
