"""Brings what lies in a run's folder to the server: journals, logs, staged files; of the run and its children.

Everything is sent with its offset and counts as delivered only when the server says that it is durable, so
sending again after a cut, a restart, or days later is harmless. Nothing here ever stops a script.
"""

from __future__ import annotations

import json
import os
import threading
import time

from stellwerk._journal import RESOURCES, STAGED
from stellwerk._run_folder import RunFolder
from stellwerk._transport import ServiceError, StellwerkError, Unreachable, path_of
from stellwerk._uploads import upload_blob

BATCH_BYTES = 4 * 1024 * 1024
_AT_ONCE = 50  # a thousand new children must not hold up the metrics of their parent
_NOTHING = b'["tag","-",null]'
_STARTED = ("id", "experiment", "displayName", "description", "parent", "tags", "properties", "parameters", "git", "host", "startedAt")  # fmt: skip


def transient(error):
    """Whether the same request may succeed later."""
    return isinstance(error, Unreachable) or (isinstance(error, ServiceError) and (error.status == 429 or error.status >= 500))


def refused_for_good(error):
    """Whether the server understood who asks about what, and will never take this."""
    about_more = ("run.not-found", "workspace.not-found", "run.attempt-superseded")
    return 400 <= error.status < 500 and error.status not in (401, 403, 408, 429) and error.reason not in about_more


class Part:
    """A growing file that is sent in pieces. `sent` is how much of it the server has."""

    def __init__(self, path):
        self.path = path
        self.sent = 0

    def size(self):
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def behind(self):
        return self.size() > self.sent

    def lines_behind(self):
        """Whether a whole line is to be sent; a torn one at the end never will be."""
        return self.behind() and b"\n" in self.read()

    def read(self, limit=BATCH_BYTES):
        try:
            with open(self.path, "rb") as file:
                file.seek(self.sent)
                return file.read(limit)
        except FileNotFoundError:
            return b""


class ShippedRun:
    """What is known of one run while it is shipped."""

    def __init__(self, folder, attempt=None, created=True):
        self.folder = folder
        self.attempt = attempt
        self.created = created
        prefix = "%d." % attempt if attempt else ""  # a later attempt has journals of its own
        self.main_name, self.files_name = prefix + "main", prefix + "files"
        self.main = Part(folder.main_file)
        self.files = Part(folder.files_file)
        self.resources_name, self.resources = prefix + "resources", Part(folder.file(RESOURCES))


def _begun(record):
    return str(record.get("startedAt")), record.get("madeNs", 0)


class Shipper:
    """Ships the folder of a run. `tell` is called with a sentence where something cannot be delivered for good."""

    def __init__(self, transport, folder, tell, attempt=None, created=True):
        self.transport = transport
        self.tell = tell
        self.workspace = folder.record["workspace"]
        self.root = ShippedRun(folder, attempt, created)
        self.runs = {folder.id: self.root}
        self._known = set()
        self._looking = threading.Lock()
        self._children_at = None
        self.logs = []
        self.ranks = None  # where several processes of the script leave what is to be shipped, too
        self._samples = {}
        self._log_base = {}
        self.refused = 0
        self.root_waits = False  # whether the journal of the root is held back

    def add_logs(self, paths, base, ranks=None):
        """`paths` by name; `base`: where those of this attempt begin in the logs of the run. `ranks`: see `rank_files`."""
        self._log_base = base
        self.ranks = ranks
        for name, path in paths.items():
            self._add_log(name, path)

    def _add_log(self, name, path):
        self.logs.append(_ShippedLog(name, Part(path), self._log_base.get(name, 0)))

    def _look_for_ranks(self):
        if self.ranks is None:
            return
        logs, samples = self.ranks.found()
        known = {log.name for log in self.logs}
        for name in logs:
            if name not in known:
                self._add_log(name, os.path.join(self.ranks.folder, name))
        for name in samples:
            if name not in self._samples:
                self._samples[name] = Part(os.path.join(self.ranks.folder, name))

    def create_root(self):
        """Records the run itself on the server, if it is not there."""
        self._create(self.root)

    def ship_journals(self):
        """Sends a batch of each journal, the root's first and of a limited number. Returns whether anything was sent."""
        self._look_for_children()
        moved = 0
        for run in list(self.runs.values()):
            if not run.created:
                self._create(run)
                moved += 1
            if run.main.behind() and not (self.root_waits and run is self.root):
                moved += self._ship_part(run, run.main, run.main_name)
            if run is self.root and run.resources.behind():
                moved += self._ship_part(run, run.resources, run.resources_name)
            if run is self.root:
                moved += self._ship_samples(run)
            if moved >= _AT_ONCE:
                break
        return moved > 0

    def _ship_samples(self, run):
        self._look_for_ranks()
        behind = [(name, part) for name, part in self._samples.items() if part.behind()]
        return sum(self._ship_part(run, part, "%s-%s" % (run.resources_name, name.split(".")[0])) for name, part in behind)

    def ship_logs(self, complete=False):
        self._look_for_ranks()
        moved = False
        for log in self.logs:
            while log.part.behind() or (complete and not log.complete):
                before = log.part.sent
                self._ship_log(log, complete)
                moved = moved or log.part.sent > before
                if not complete:
                    break
        return moved

    def ship_files(self):
        """Uploads staged files and says what they are. Returns whether anything was sent."""
        moved = False
        for run in list(self.runs.values()):
            if run.created and run.files.behind():
                moved = self._ship_staged(run) or moved
        return moved

    def pending(self):
        """Whether anything is still to be sent."""
        self._look_for_children()
        self._look_for_ranks()
        parts = [log.part for log in self.logs]
        return any(part.behind() for part in parts) or any(part.lines_behind() for part in self._samples.values()) or any(
            not run.created or run.files.lines_behind() or run.resources.lines_behind() or (run.main.lines_behind() and not (self.root_waits and run is self.root))
            for run in list(self.runs.values())
        )

    def _look_for_children(self):
        with self._looking:
            self._look()

    def _look(self):
        place = os.path.join(self.root.folder.path, "children")
        try:
            changed = os.stat(place).st_mtime_ns
        except FileNotFoundError:
            return
        if changed == self._children_at:
            return
        complete = True
        found = []
        for name in os.listdir(place):
            if name in self._known:
                continue
            try:
                found.append((name, RunFolder(os.path.join(place, name))))
            except FileNotFoundError:
                complete = False  # just being made
        for name, child in sorted(found, key=lambda pair: _begun(pair[1].record)):
            self._known.add(name)
            self.runs[child.id] = ShippedRun(child, created=False)
        if complete and time.time_ns() - changed > 50_000_000:
            self._children_at = changed

    def _create(self, run):
        if run.created:
            return
        parent = self.runs.get(run.folder.record.get("parent"))
        if parent is not None:
            self._create(parent)
        body = {name: run.folder.record[name] for name in _STARTED if run.folder.record.get(name) is not None}
        place = path_of("/workspaces/{workspace}/runs/start", workspace=self.workspace)
        try:
            self.transport.call("POST", place, body, attempts=1)
        except ServiceError as error:
            if not refused_for_good(error):
                raise
            self.tell("The run %s could not be recorded: %s" % (run.folder.id, error))
            self.refused += 1
        run.created = True

    def _ship_part(self, run, part, name):
        data = part.read()
        end = data.rfind(b"\n") + 1
        if end == 0:
            return False  # the line has not been written to its end
        if part.sent == 0 and part.size() > 64 * 1024:
            self._ask_offset(run, part, name)
            if part.sent:
                return True
        before = part.sent
        self._send_lines(run, part, name, data[:end])
        return part.sent > before

    def _ask_offset(self, run, part, name):
        place = path_of("/workspaces/{workspace}/runs/{run}/journals/{journal}", workspace=self.workspace, run=run.folder.id, journal=name)  # fmt: skip
        part.sent = min(self.transport.call("GET", place, attempts=1)["offset"], part.size())

    def _send_lines(self, run, part, name, data):
        try:
            self._post_lines(run, part, name, data)
        except ServiceError as error:
            if error.reason == "run.journal-gap":
                part.sent = min(_offset_in(error, part.sent), part.size())
            elif refused_for_good(error):
                self._send_less(run, part, name, data, error)
            else:
                raise

    def _send_less(self, run, part, name, data, error):
        """Narrows down which line the server refuses; in place of that one an entry is sent that changes nothing."""
        lines = data.splitlines(keepends=True)
        if len(lines) > 1:
            named = error.details.get("line")
            good = named - 1 if isinstance(named, int) and 0 < named <= len(lines) else len(lines) // 2
            self._send_lines(run, part, name, b"".join(lines[:good] or lines[:1]))
            return
        self.refused += 1
        self.tell("An entry of the journal of %s was refused: %s" % (run.folder.id, error))
        if len(data) > len(_NOTHING):
            self._post_lines(run, part, name, harmless(data))
            return
        following = part.read()[len(data) :]
        second = following[: following.find(b"\n") + 1]
        if not second:
            part.sent += len(data)  # a torn end; if more follows, the server will ask from here
            return
        try:
            self._post_lines(run, part, name, b" " * len(data) + second)
        except ServiceError as refusal:
            if transient(refusal):
                raise
            self._post_lines(run, part, name, harmless(data + second))

    def _post_lines(self, run, part, name, data):
        place = path_of("/workspaces/{workspace}/runs/{run}/journals/{journal}", workspace=self.workspace, run=run.folder.id, journal=name)  # fmt: skip
        query = {"offset": part.sent, "attempt": run.attempt}
        part.sent = self.transport.upload("POST", place, data, query, attempts=1, idempotent=True)["offset"]

    def _ship_log(self, log, complete):
        data = log.part.read()
        last = complete and log.part.sent + len(data) >= log.part.size()
        place = path_of("/workspaces/{workspace}/runs/{run}/log", workspace=self.workspace, run=self.root.folder.id)
        query = {"name": log.name, "offset": log.base + log.part.sent, "attempt": self.root.attempt}
        if last:
            query["complete"] = True
        try:
            answer = self.transport.upload("POST", place, data, query, attempts=1, idempotent=True)
            log.part.sent = max(answer["sizeBytes"] - log.base, 0)
            log.complete = last
        except ServiceError as error:
            if error.reason != "run.log-offset":
                raise
            log.part.sent = max(_offset_in(error, log.base + log.part.sent) - log.base, 0)

    def _ship_staged(self, run):
        data = run.files.read()
        end = data.find(b"\n") + 1
        if end == 0:
            return False
        line = data[:end]
        entry = _parsed(line)
        staged = None
        if entry and entry[0] == "file":
            staged = run.folder.file(os.path.join(STAGED, entry[2][7:]))
            if os.path.exists(staged):
                upload_blob(self.transport, self.workspace, staged, known=(entry[2], entry[3]))
        before = run.files.sent
        self._send_lines(run, run.files, run.files_name, line)
        if staged and run.files.sent > before and not self._staged_again(entry[2], data[end:]):
            _remove(staged)
        return run.files.sent > before

    @staticmethod
    def _staged_again(digest, rest):
        return digest.encode("ascii") in rest


class _ShippedLog:
    def __init__(self, name, part, base):
        self.name = name
        self.part = part
        self.base = base
        self.complete = False


class Loop(threading.Thread):
    """Does a piece of work over and over until it is stopped; slower while the server does not answer."""

    def __init__(self, name, work, interval=0.3, slowest=5.0, on_error=None):
        super().__init__(name=name, daemon=True)
        self._work = work
        self._interval = interval
        self._slowest = slowest
        self._on_error = on_error
        self._over = threading.Event()

    def run(self):
        pause = self._interval
        while not self._over.is_set():
            try:
                moved = self._work()
                pause = 0.02 if moved else self._interval
            except StellwerkError as error:
                if self._on_error:
                    self._on_error(error)
                pause = min(max(pause, self._interval) * 2, self._slowest)
            except Exception as error:  # a fault of ours, or of the disk, must not end the shipping
                if self._on_error:
                    self._on_error(error)
                pause = self._slowest
            self._over.wait(pause)

    def stop(self):
        self._over.set()
        self.join()


def harmless(line):
    """An entry of the same length that changes nothing, in place of one that the server refuses."""
    return _NOTHING + b" " * (len(line) - 1 - len(_NOTHING)) + b"\n"


def _offset_in(error, default):
    for name in ("offset", "durableBytes", "receivedBytes", "sizeBytes"):
        if isinstance(error.details.get(name), int):
            return error.details[name]
    return default


def _parsed(line):
    try:
        entry = json.loads(line.decode("utf-8"))
        return entry if isinstance(entry, list) and len(entry) == 4 else None
    except ValueError:
        return None


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass
