"""A script of PySpark in YARN's cluster mode: its runner is in the application's own container, on whichever node YARN chooses (`yarn_driver.py`).

What works here, on the head node, in the runner's place: it hands the job and our package to Spark, passes on what that runner says to the server, and ends when
the application does. The application carries the job's tag, by which `end` finds it: whatever ends a job ends that, too.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import zipfile

from stellwerk._files import read_json, write_json
from stellwerk.runner import spark
from stellwerk.runner.login_relay import Relay
from stellwerk.runner.place import Place, say
from stellwerk.runner.programs import PreparationFailed
from stellwerk.runner.script import package_root

ENDING = "end.json"
WAITING = "waiting.json"
_BEGINS_SECONDS = 600
_ASKS_SECONDS = 120
_KEPT_LINES = 400
_DRIVER = os.path.join("stellwerk", "runner", "yarn_driver.py")
_REPORT = re.compile(r"Application report for (application_\d+_\d+) \(state: (\w+)\)")
_DIAGNOSTICS = re.compile(r"diagnostics: (.*?)(?=\n\s*ApplicationMaster host:|\n\d\d/|\Z)", re.DOTALL)  # several lines, in a report of an application
_WAITS = {"ACCEPTED": "Waits until YARN has room for it (ACCEPTED)."}
_REASONS = (
    ("out-of-memory", r"running (?:\d+B )?beyond (?:the )?'?physical'? memory limit"),
    ("node-lost", r"released on a \*?lost\*? node|node [^ ]* (?:is|was) lost|expired|ApplicationMaster for attempt \S+ timed out"),
    ("preempted", r"preempted by scheduler"),
    ("canceled", r"killed by user|Application killed"),
)  # fmt: skip


def tag_of(folder):
    """The folder has the installation's own word in it, so that two of them never meet."""
    return "stellwerk-" + hashlib.sha256(os.path.abspath(folder).encode()).hexdigest()[:32]


class Way(threading.Thread):
    """How the application's runner reaches the server: a relay here, which leads to the job's own socket, whatever connection that is on just now."""

    def __init__(self, leads_to, on_use):
        super().__init__(name="way", daemon=True)
        self.secret = os.urandom(32).hex()
        self.port = None
        self._leads_to = leads_to
        self._on_use = on_use
        self._is_there = threading.Event()

    def address(self, host):
        self.start()
        self._is_there.wait()
        return {"host": host, "port": self.port, "secret": self.secret}

    def run(self):
        asyncio.run(self._serve())

    async def _serve(self):
        way = self

        class Heard(Relay):
            async def bridge(self, reader, writer):
                way._on_use()
                await super().bridge(reader, writer)

        server = await asyncio.start_server(Heard(self._leads_to, self.secret).heard, "0.0.0.0", 0, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        self._is_there.set()
        async with server:
            await server.serve_forever()


class Submission:
    def __init__(self, folder):
        self.place = Place(folder)
        self.job = self.place.job()
        self.asked = threading.Event()  # to stop
        self.began = threading.Event()
        self.lines = collections.deque(maxlen=_KEPT_LINES)

    def execute(self):
        """Returns the exit code of spark-submit: 0 if the application has succeeded."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.asked.set())
        self._wait_because("Spark hands it to YARN.")
        try:
            process = subprocess.Popen(self._command(), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except (PreparationFailed, OSError) as error:
            return self._ended(1, str(error))
        reading = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reading.start()
        while process.poll() is None:
            if not self.asked.wait(0.2):
                continue
            if self.began.is_set():  # its runner hears it from the server
                process.wait()
            elif not _end_all(self.job, self.place.folder):  # it may not have been handed over yet
                self.began.wait(1.0)
        reading.join(5.0)
        return self._ended(process.returncode, self._why())

    def _command(self):
        shipped = _shipped(self.place.folder)
        os.makedirs(shipped, mode=0o700, exist_ok=True)
        at = lambda name: os.path.join(shipped, name)  # noqa: E731
        host = self.job["spark"].get("relayHost") or socket.gethostname()
        write_json(at("relay.json"), Way(os.path.join(self.place.folder, "relay"), self._has_begun).address(host))
        write_json(at("job.json"), self.job)
        _pack(package_root(), at("bundle.zip"))
        asked = self.job["spark"]
        settings = asked.get("settings") or {}
        tags = [tag for tag in settings.get("spark.yarn.tags", "").split(",") if tag]
        ours = {
            "spark.yarn.am.waitTime": "%ds" % _BEGINS_SECONDS,  # environments are made in it
            "spark.yarn.appMasterEnv.PYSPARK_PYTHON": sys.executable,
            **settings,
            "spark.yarn.maxAppAttempts": "1",  # the server decides about others
            "spark.yarn.submit.waitAppCompletion": "true",
            "spark.yarn.tags": ",".join([*tags, tag_of(self.place.folder)]),
        }
        files = ["--files", "%s,%s" % (at("job.json"), at("relay.json")), "--archives", at("bundle.zip") + "#stellwerk-bundle"]
        options = spark.options(dict(asked, settings=ours), mode="cluster")
        return [spark.submit(asked.get("home")), *options, *files, os.path.join(package_root(), _DRIVER)]

    def _read(self, output):
        for raw in output:
            line = raw.decode("utf-8", "replace").rstrip()
            self.lines.append(line)
            found = _REPORT.search(line)
            if not found:
                say(line)
            elif found.group(2) in _WAITS and not self.began.is_set():
                self._wait_because(_WAITS[found.group(2)], found.group(1))

    def _wait_because(self, reason, application=None):
        facts = {"facts": {"application": application}} if application else {}
        write_json(os.path.join(self.place.folder, WAITING), dict({"reason": reason}, **facts))
        if self.began.is_set():
            self._waits_no_more()

    def _has_begun(self):
        self.began.set()
        self._waits_no_more()

    def _waits_no_more(self):
        try:
            os.unlink(os.path.join(self.place.folder, WAITING))
        except OSError:
            pass

    def _why(self):
        """What YARN, or Spark, says of the end; the newest report of the application has it."""
        told = [words.strip() for words in _DIAGNOSTICS.findall("\n".join(self.lines)) if words.strip() != "N/A"]
        if told:
            return " ".join(told[-1].split())
        raised = [line.partition("Exception in thread")[2] for line in self.lines if "Exception in thread" in line]
        return raised[-1].partition(" ")[2] if raised else ""

    def _ended(self, code, why):
        found = {}
        if code != 0:
            cause = next((cause for cause, pattern in _REASONS if re.search(pattern, why, re.IGNORECASE)), None)
            if cause is None and not self.began.is_set():
                cause = "canceled" if self.asked.is_set() else "refused"
            found = {"reason": "Its application on YARN has failed: %s" % (why[-1_000:] or "exit code %d" % code)}
            if cause:
                found["cause"] = cause
        write_json(os.path.join(self.place.folder, ENDING), found)
        return code


def end(folder):
    """Ends the application of the job in the folder, whose submission is not at work any more, if it has one that has not ended. Safe twice."""
    job, over = read_json(os.path.join(folder, "job.json")), os.path.join(folder, ENDING)
    if job and os.path.isdir(_shipped(folder)) and not os.path.exists(over):
        _end_all(job, folder)
        write_json(over, {})


def _end_all(job, folder):
    """Whether there was one."""
    found = re.findall(r"^(application_\d+_\d+)\s", _yarn(job, "-list", "-appTags", tag_of(folder)), re.MULTILINE)
    for application in found:
        _yarn(job, "-kill", application)
    return bool(found)


def _shipped(folder):
    return os.path.join(folder, "shipped")


def _yarn(job, *words):
    """What YARN's own client answers, with the configuration that Spark has there."""
    program = ["--master", "local", "--class", "org.apache.hadoop.yarn.client.cli.ApplicationCLI", "spark-internal"]
    command = [spark.submit(job["spark"].get("home")), *program, "application", *words]
    done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=_ASKS_SECONDS)
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        told = (done.stderr.decode("utf-8", "replace").strip() or output.strip() or "exit code %d" % done.returncode).splitlines()
        raised = [line for line in told if "Exception" in line]
        raise OSError("YARN was not asked for its application: %s" % (raised or told)[-1])
    return output


def _pack(root, archive):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for folder, folders, names in os.walk(os.path.join(root, "stellwerk")):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                path = os.path.join(folder, name)
                file.write(path, os.path.relpath(path, root))
