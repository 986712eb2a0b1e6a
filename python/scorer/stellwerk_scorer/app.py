"""The ASGI application: GET / (alive), GET /ready (init() is done), POST /score.

Invariants: run() is called by a fixed number of threads, so the event loop always answers; a body over the limit is never kept;
an answer about a failure names no path and holds no trace; what was accepted is answered, also while stopping.
"""
import asyncio
import json
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from . import answers, settings as environment
from .script import Failed, Script, guarded


#: How long one whose init() failed still says so at /ready before it ends.
FAILED_FOR_S = 2


class App:
    def __init__(self, settings):
        self.settings = settings
        self.script = Script(settings.app_dir, settings.entry)
        self.state = "starting"
        self.reason = "init() has not ended yet."
        self.pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="scorer")
        self.exit_code = 0
        self.accepted = 0
        self.overdue = 0

    def start(self):
        """Begins init() on a worker thread, so that we can already say that we are not ready."""
        environment.point_at_single_model(self.settings.models_dir, os.environ)
        self.pool.submit(self._load)

    def _load(self):
        try:
            self.script.load()
            self.state, self.reason = "ready", ""
            sys.stdout.write("%s is ready.\n" % self.settings.entry)
        except Failed as failed:
            self.state, self.reason = "failed", told(failed)
            sys.stdout.write("ERROR not ready: %s\n" % self.reason)
            self.exit_code = 3
            end = threading.Timer(FAILED_FOR_S, os.kill, (os.getpid(), signal.SIGTERM))
            end.daemon = True
            end.start()

    def listen(self):
        if self.settings.socket_path is None:
            family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.settings.host, self.settings.port))
            return listener
        return unix_socket(self.settings.socket_path)

    def stop(self):
        """The exit code: 3 if the model never became ready."""
        if self.overdue or self.state == "starting":
            # A thread that hangs in the user's code would keep the process alive; every request has been answered by now.
            sys.stdout.flush()
            os._exit(self.exit_code)
        self.pool.shutdown(wait=True)
        return self.exit_code

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        method, path = scope["method"], scope["path"]
        if path == "/" and method in ("GET", "HEAD"):
            await exchange.answer(200, [(b"content-type", b"text/plain; charset=utf-8")], b"Healthy")
        elif path == "/ready" and method in ("GET", "HEAD"):
            await self._answer_ready(exchange)
        elif path == "/score" and (method == "POST" or (self.script.raw_http and method in ("GET", "PUT", "OPTIONS"))):
            await self._answer_score(exchange)
        elif path in ("/", "/ready", "/score"):
            await exchange.refuse(405, "method-not-allowed", "%s is not a method of %s here." % (method, path))
        else:
            await exchange.refuse(404, "not-found", "There is nothing at this path; send data to /score.")

    async def _answer_ready(self, exchange):
        state, reason = self.state, self.reason
        if state == "ready" and self.overdue >= self.settings.workers:
            state, reason = "stuck", "run() has not come back within its time limit in any of the worker threads."
        body = json.dumps({"state": state, "reason": reason}).encode()
        await exchange.answer(200 if state == "ready" else 503, [(b"content-type", answers.JSON)], body)

    async def _answer_score(self, exchange):
        if self.state != "ready":
            return await exchange.refuse(503, "not-ready", "The model is not ready: %s" % self.reason)
        try:
            body = await exchange.body(self.settings.body_limit)
        except Disconnected:
            return
        if body is None:
            limit = self.settings.body_limit
            return await exchange.refuse(413, "body-too-large", "The body is larger than this service's limit of %d bytes." % limit)
        if self.accepted >= self.settings.workers + self.settings.max_waiting:
            return await exchange.refuse(503, "busy", "The model has too many requests waiting; try again in a moment.", 1)
        self.accepted += 1
        try:
            await self._score(exchange, body)
        finally:
            self.accepted -= 1

    async def _score(self, exchange, body):
        try:
            if self.script.raw_http:
                from stellwerk_image import AMLRequest

                data = AMLRequest(exchange.scope, body)
            else:
                data = body.decode("utf-8")
        except UnicodeDecodeError:
            return await exchange.refuse(400, "not-text", "The body has to be UTF-8 text, such as JSON.")
        work = self.pool.submit(self._call, data)
        answer = asyncio.wrap_future(work)
        await asyncio.wait([answer], timeout=self.settings.timeout_s)
        if not answer.done():
            self._give_up(work, answer)
            message = "run() did not come back within %g seconds." % self.settings.timeout_s
            return await exchange.refuse(504, "timeout", message)
        try:
            await exchange.answer(*answer.result())
        except Failed as failed:
            await exchange.refuse(500, "scoring-failed", told(failed), incident=failed.incident)

    def _call(self, data):
        value = self.script.run(data)
        with guarded("encoding what run() of %s returned" % self.settings.entry):
            return answers.encode(value)

    def _give_up(self, work, answer):
        """What has not begun never begins; a call that hangs is counted until it comes back after all."""
        if work.cancel():
            return
        self.overdue += 1

        def returned(late):
            self.overdue -= 1
            late.cancelled() or late.exception()

        answer.add_done_callback(returned)


def told(failed):
    incident = "; the service's log has the details under incident %s" % failed.incident if failed.incident else ""
    return str(failed).rstrip(".") + incident + "."


def unix_socket(path):
    """Bound by way of its folder's descriptor: a Unix socket's path may not exceed 107 bytes, folders may be deep."""
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    short = path if len(os.fsencode(path)) < 100 else "/proc/self/fd/%d/%s" % (folder, os.path.basename(path))
    try:
        if os.path.lexists(short):
            os.unlink(short)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(short)
        os.chmod(short, 0o600)
        return listener
    finally:
        os.close(folder)


class Disconnected(Exception):
    pass


class Exchange:
    """One request and its answer."""

    def __init__(self, scope, receive, send):
        self.scope = scope
        self._receive = receive
        self._send = send

    async def body(self, limit):
        """All of it, or None if it is larger than the limit."""
        declared = dict(self.scope["headers"]).get(b"content-length", b"0")
        if int(declared) > limit:
            return None
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                return None
            if not message.get("more_body"):
                return b"".join(parts)

    async def answer(self, status, headers, body):
        headers = [(n, v) for n, v in headers if n != b"content-length"] + [(b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body})

    async def refuse(self, status, reason, message, retry_after=None, incident=None):
        error = {"code": reason, "message": message}
        if incident:
            error["incident"] = incident
        headers = [(b"content-type", answers.JSON)]
        if retry_after:
            headers.append((b"retry-after", str(retry_after).encode()))
        await self.answer(status, headers, json.dumps(error).encode())
