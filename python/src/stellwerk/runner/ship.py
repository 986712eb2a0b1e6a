"""Ships an interactive run while the process that started it lives: `python -m stellwerk.runner --ship <folder>`.

Renews the run's lease on behalf of that process. When it dies without having ended the run, the run has failed,
and says so; when somebody cancels the run, it has ended, whatever its process still does. What could not be delivered stays in the folder for `python -m stellwerk sync`.
"""

from __future__ import annotations

import os
import shutil
import threading
import time

from stellwerk._files import read_json
from stellwerk._run_folder import RunFolder
from stellwerk._transport import Transport
from stellwerk.runner.attempt import UNDELIVERED
from stellwerk.runner.delivery import NotDelivered, Patience, end_children, ship_everything
from stellwerk.runner.lease import Lease
from stellwerk.runner.place import say
from stellwerk.runner.processes import start_time
from stellwerk.runner.shipping import Loop, Shipper

SETTINGS = "connection.json"
_LOST = "The process that started the run ended without completing it."


def ship(path):
    folder = RunFolder(path)
    settings = read_json(os.path.join(path, SETTINGS))
    transport = Transport(settings["url"], settings["token"], settings.get("caBundle"), timeout=30, attempts=3)
    shipper = Shipper(transport, folder, say, created=settings["created"])
    lease = Lease(
        transport, settings["workspace"], folder.id, settings["attempt"], settings["leaseSeconds"], say,
        on_cancel=lambda: folder.ended() or folder.journal.end("canceled"),
        on_fenced=say, on_token=lambda _: None,
    )  # fmt: skip
    loops = [Loop("journals", shipper.ship_journals, on_error=_Once()), Loop("files", shipper.ship_files)]
    started = threading.Event()
    for loop in loops:
        loop.start()
    parent = settings["parent"]
    while folder.ended() is None and start_time(parent["pid"]) == parent["startTime"]:
        if shipper.root.created and not started.is_set():
            started.set()
            lease.start()
        time.sleep(0.2)
    if folder.ended() is None:
        folder.journal.end("failed", _LOST)
    end_children(folder, folder.ended(), None)
    for loop in loops:
        loop.stop()
    try:
        ship_everything(shipper, Patience(say))
    except NotDelivered as error:
        say("Not everything could be delivered; `python -m stellwerk sync` will: %s" % error)
        return UNDELIVERED
    finally:
        lease.stop()
    shutil.rmtree(path, ignore_errors=True)
    return 0


class _Once:
    """Tells an error when it is another than before."""

    def __init__(self):
        self._last = None

    def __call__(self, error):
        if str(error) != self._last:
            self._last = str(error)
            say(self._last)
