"""The runner's line to the server about its run: renews the lease, reports every move in order, hears whether to stop."""

from __future__ import annotations

import threading
import time

from stellwerk._transport import ServiceError, StellwerkError, path_of
from stellwerk.runner.shipping import transient

_SLOWEST_SECONDS = 5.0
_ENDED = ("completed", "failed", "canceled")


class Lease(threading.Thread):
    """`on_cancel` is called when the run is to stop, `on_fenced` when a newer attempt has taken over, `on_token` with a renewed token."""

    def __init__(self, transport, workspace, run, attempt, seconds, tell, on_cancel, on_fenced, on_token):
        super().__init__(name="lease", daemon=True)
        self._transport = transport
        self._path = path_of("/workspaces/{workspace}/runs/{run}/report", workspace=workspace, run=run)
        self._attempt = attempt
        self._seconds = seconds
        self._tell = tell
        self._on = {"cancel": on_cancel, "fenced": on_fenced, "token": on_token}
        self._moves = []
        self._lock = threading.Lock()
        self._talking = threading.Lock()
        self._wake = threading.Event()
        self._over = threading.Event()
        self.answered_at = None
        self.state = None
        self.cancel_heard = False
        self._last_error = None

    def report(self, **facts):
        """Tells the server something; it is sent as soon as it can be, in order."""
        with self._lock:
            self._moves.append({name: value for name, value in facts.items() if value is not None})
        self._wake.set()

    def renew_now(self):
        self._wake.set()

    def run(self):
        pause = 0.0
        while not self._over.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            if self._over.is_set():
                return
            pause = min(self._seconds / 3, _SLOWEST_SECONDS) if self._answered() else min(max(pause, 0.25) * 2, _SLOWEST_SECONDS)  # fmt: skip

    def _answered(self):
        try:
            return self.exchange()
        except Exception as error:  # whatever an answer may be like, the lease goes on
            return self._failed(error)

    def exchange(self):
        """Sends what is to be said, or only a sign of life. Returns whether the server answered."""
        with self._talking:
            return self._exchange()

    def _exchange(self):
        with self._lock:
            moves = list(self._moves)
        for move in moves or [{}]:
            try:
                answer = self._transport.call(
                    "POST", self._path, dict(move, attempt=self._attempt), attempts=1, timeout=15, idempotent=True
                )
            except ServiceError as error:
                if error.reason == "run.attempt-superseded":
                    self._over.set()
                    self._on["fenced"](str(error))
                    return True
                if transient(error) or error.status in (401, 403, 404):
                    return self._failed(error)
                self._tell("The server refused the report %s: %s" % (move, error))
                self._done(move)
                continue
            except StellwerkError as error:
                return self._failed(error)
            self._done(move)
            self._hear(answer)
        return True

    def exchange_or_raise(self):
        if not self.exchange():
            raise self._last_error

    def _failed(self, error):
        if str(error) != str(self._last_error):
            self._tell(str(error))
        self._last_error = error
        return False

    def _hear(self, answer):
        self._last_error = None
        self.answered_at = time.monotonic()
        self.state = answer["state"]
        self._seconds = answer.get("leaseSeconds") or self._seconds
        if answer.get("token"):
            self._on["token"](answer["token"])
        if answer["cancelRequested"] or answer["state"] in _ENDED:  # ended by the server: there is nothing left to run for
            self.cancel_heard = True
            self._on["cancel"]()

    def _done(self, move):
        with self._lock:
            if self._moves and self._moves[0] is move:
                self._moves.pop(0)

    def pending(self):
        with self._lock:
            return bool(self._moves)

    def stop(self):
        self._over.set()
        self._wake.set()
        if self.is_alive():
            self.join()
