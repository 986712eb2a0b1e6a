"""A long operation as its caller holds it: wait for it, hear of its changes, read its log, cancel it.

Nobody polls: the server sends each change, and a cut stream goes on where it was.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

from .._transport import StellwerkError
from .records import Record

if TYPE_CHECKING:
    from .calls import Calls

ENDED = ("succeeded", "failed", "canceled")
ONE = "/workspaces/{workspace}/activities/{activity}"


class ActivityFailed(StellwerkError):
    """The long operation did not succeed; `activity` is its record."""

    def __init__(self, activity: Record) -> None:
        error = activity.get("error") or {}
        message = error.get("message") or "The activity %s (%s) ended as %s." % (
            activity["id"],
            activity["kind"],
            activity["state"],
        )
        super().__init__(" ".join(part for part in (message, error.get("hint")) if part))
        self.activity = activity
        self.reason = error.get("reason")


class Activity(Record):
    """The record, which `refresh`, `wait` and `on_change` bring up to date."""

    def __init__(self, record: Any, calls: "Calls") -> None:
        super().__init__(record)
        self.__dict__["_calls"] = calls

    @property
    def _one(self) -> dict:
        return {"workspace": self["workspace"], "activity": self["id"]}

    @property
    def ended(self) -> bool:
        return self["state"] in ENDED

    def refresh(self) -> "Activity":
        self.update(self._calls.json("GET", ONE, self._one, True))
        return self

    def changes(self) -> Iterator["Activity"]:
        """The activity as it is now and after each change, until it has ended."""
        where = "/workspaces/{workspace}/activity-events"
        # Asked for when the stream has begun: a change in between would be in neither.
        for event in self._calls.events("GET", where, self._one, lambda: {"activity": self.refresh()}):
            self.update(event["activity"])
            yield self
            if self.ended:
                return

    def wait(self, timeout_seconds: Optional[float] = None, show_output: bool = False, raise_on_error: bool = True) -> "Activity":
        """Returns when it has ended; raises ActivityFailed unless it succeeded, TimeoutError when the time is over."""
        if timeout_seconds is None:
            self._follow(show_output)
        else:
            follower = threading.Thread(target=self._follow, args=(show_output,), daemon=True)
            follower.start()
            follower.join(timeout_seconds)
            if not self.ended and not self.refresh().ended:
                raise TimeoutError("The activity %s has not ended after %g s." % (self["id"], timeout_seconds))
        if raise_on_error and self["state"] != "succeeded":
            raise ActivityFailed(self)
        return self

    def _follow(self, show_output: bool) -> None:
        shown = None
        for _ in self.changes():
            message = (self.get("progress") or {}).get("message")
            if show_output and message and message != shown:
                shown = message
                sys.stdout.write("%s: %s\n" % (self["state"], message))
                sys.stdout.flush()

    def on_change(self, callback: Callable[["Activity"], Any]) -> threading.Thread:
        """Calls back with the activity now and after each change, from a thread of its own, until it has ended."""

        def follow() -> None:
            for activity in self.changes():
                callback(activity)

        thread = threading.Thread(target=follow, name="stellwerk activity %s" % self["id"], daemon=True)
        thread.start()
        return thread

    def cancel(self) -> "Activity":
        self.update(self._calls.json("POST", ONE + "/cancel", self._one, False))
        return self

    def log(self, follow: bool = False) -> Iterator[str]:
        """The lines of its log; with `follow` until it has ended."""
        return self._calls.download("GET", ONE + "/log", dict(self._one, follow=follow or None), "offset").lines()
