"""Waiting for a run: by the events that the server sends, with what the script prints beside."""

from __future__ import annotations

import codecs
import sys
import threading
import time
from typing import Any

from ..client import Record, ServiceError, Unreachable
from .exceptions import ExperimentExecutionException

ENDED = ("completed", "failed", "canceled")
PAUSE = 0.5


def wait(client: Any, workspace: str, run: str, show_output: bool, lost_seconds: float) -> Record:
    """The run's record when it has ended."""
    printer, over = None, threading.Event()
    if show_output:
        sys.stdout.write("RunId: %s\n\n" % run)
        printer = threading.Thread(target=_print_log, args=(client, workspace, run, over), daemon=True)
        printer.start()
    record = _ended(client, workspace, run, lost_seconds)
    if printer:
        over.set()
        printer.join(10)
        sys.stdout.write("\nExecution Summary\n=================\nRunId: %s\nStatus: %s\n" % (run, record["state"]))
        sys.stdout.flush()
    return record


def _ended(client: Any, workspace: str, run: str, lost_seconds: float) -> Record:
    news = threading.Event()
    follower = None
    lost_since = None
    while True:
        news.clear()
        try:
            record = client.runs.get(workspace, run)
        except Unreachable as error:
            sys.stderr.write("%s Waiting for it to come back.\n" % error)
            time.sleep(5)
            continue
        if record["state"] in ENDED:
            return record
        now = time.monotonic()
        lost_since = (lost_since or now) if record["state"] == "lost" else None
        if lost_since is not None and now - lost_since > lost_seconds:
            raise ExperimentExecutionException(
                "The run %s is lost: %s" % (run, record.get("reason", "its runner is not heard of."))
            )
        if follower is None and record.get("activity"):
            follower = threading.Thread(target=_follow, args=(client, workspace, record["activity"], news), daemon=True)
            follower.start()
        # Without news for long it is asked all the same: a stream may be dead and not know it.
        news.wait(15 if follower is not None and follower.is_alive() else PAUSE)


def _follow(client: Any, workspace: str, activity: str, news: threading.Event) -> None:
    try:
        for _ in client.activities.get(workspace, activity).changes():
            news.set()
    except (ServiceError, Unreachable):
        pass  # whoever waits asks by itself from now on
    news.set()


def _print_log(client: Any, workspace: str, run: str, over: threading.Event) -> None:
    """Prints the output as it comes; while the server is away it waits, and then goes on where it was."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    position = 0
    while True:
        try:
            for part in client.logs.get(workspace, run, offset=position, follow=True):
                position += len(part)
                sys.stdout.write(decoder.decode(part))
                sys.stdout.flush()
            return
        except ServiceError as error:
            if error.status not in (429, 503):
                sys.stderr.write("The output is not shown any more: %s\n" % error)
                return
        except Unreachable:
            pass
        if over.wait(1):
            return
