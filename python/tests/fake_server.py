"""A small server in memory that speaks what the runner uses, and misbehaves on demand: cuts connections, is busy, loses answers."""

import hashlib
import io
import json
import re
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

ENDED = ("completed", "failed", "canceled")


class Refused(Exception):
    def __init__(self, status, reason, message="Refused.", **details):
        super().__init__(message)
        self.status, self.reason, self.details = status, reason, details


class FakeServer:
    """`fault(method, path)` may return None, "busy" (503), "cut" (no answer, nothing done), "lost" (done, but no answer)."""

    def __init__(self, port=0):
        self.connections = set()
        self.runs = {}
        self.blobs = {}
        self.partial = {}
        self.snapshots = {}
        self.datastore = {}
        self.reports = []
        self.requests = []
        self.fault = lambda method, path: None
        self.lease_seconds = 0.9
        self.newest_attempt = 1
        self.refuse_line = lambda entry: False
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"fake": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = "http://127.0.0.1:%d" % self.port
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self):
        """Answers nothing more, on no connection."""
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def restart(self):
        """Listens again on the same port, with everything that it knew."""
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"fake": self}))
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def run(self, id):
        return self.runs.setdefault(
            id, {"id": id, "state": "queued", "journals": {}, "logs": {}, "files": {}, "cancel": False, "children": [], "reports": []}
        )

    def entries(self, id):
        return [json.loads(line) for journal in self.run(id)["journals"].values() for line in bytes(journal).splitlines()]

    def log(self, id, name="output.txt"):
        return bytes(self.run(id)["logs"].get(name, b"")).decode()

    def add_snapshot(self, files):
        """files: path → bytes, or (bytes, True) for an executable one. Returns the digest."""
        listing = []
        for path, content in files.items():
            content, executable = content if isinstance(content, tuple) else (content, False)
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            self.blobs[digest] = content
            item = {"path": path, "digest": digest, "sizeBytes": len(content)}
            listing.append(dict(item, executable=True) if executable else item)
        digest = listing_digest(listing)
        self.snapshots[digest] = listing
        return digest

    def missing(self, digest):
        return sorted({item["digest"] for item in self.snapshots[digest]} - set(self.blobs))

    def handle(self, method, path, query, body):
        if path == "/server":
            return {"product": "stellwerk"}
        table = [
            (r"/workspaces/[^/]+/runs/start$", self.start),
            (r"/workspaces/[^/]+/runs/([^/]+)/report$", self.report),
            (r"/workspaces/[^/]+/runs/([^/]+)/cancel$", self.cancel),
            (r"/workspaces/[^/]+/runs/([^/]+)/journals/([^/]+)$", self.journal),
            (r"/workspaces/[^/]+/runs/([^/]+)/log$", self.append_log),
            (r"/workspaces/[^/]+/runs/([^/]+)/logs$", self.logs),
            (r"/workspaces/[^/]+/runs/([^/]+)/file$", self.file),
            (r"/workspaces/[^/]+/runs/([^/]+)/files$", self.files),
            (r"/workspaces/[^/]+/blobs/([^/]+)$", self.blob),
            (r"/workspaces/[^/]+/snapshots$", self.create_snapshot),
            (r"/workspaces/[^/]+/snapshots/([^/]+)$", self.get_snapshot),
            (r"/workspaces/[^/]+/snapshots/([^/]+)/files$", self.add_files),
            (r"/workspaces/[^/]+/snapshots/([^/]+)/listing$", self.listing),
            (r"/workspaces/[^/]+/snapshots/([^/]+)/archive$", self.archive),
            (r"/workspaces/[^/]+/datastores/[^/]+/files$", self.datastore_files),
            (r"/workspaces/[^/]+/datastores/[^/]+/file$", self.datastore_file),
        ]
        for pattern, act in table:
            match = re.match(pattern, path)
            if match:
                with self.lock:
                    return act(method, query, body, *[unquote(part) for part in match.groups()])
        raise Refused(404, "request.unknown-route", path)

    def start(self, method, query, body):
        given = json.loads(body)
        if given.get("parent") and given["parent"] not in self.runs:
            raise Refused(404, "run.not-found", "parent")
        run = self.run(given["id"])
        run.update(given, state="running" if run["state"] == "queued" else run["state"])
        return dict(id=run["id"], attempt=1, state=run["state"])

    def report(self, method, query, body, id):
        given = json.loads(body)
        if given["attempt"] < self.newest_attempt:
            raise Refused(409, "run.attempt-superseded", "A newer attempt runs.")
        run = self.run(id)
        if given.get("state"):
            if run["state"] in ENDED and given["state"] != run["state"]:
                raise Refused(409, "run.move-refused", "It has ended.")
            run["state"] = given["state"]
        run["reports"].append(given)
        run.update({name: value for name, value in given.items() if name not in ("state", "attempt")})
        return {"state": run["state"], "cancelRequested": run["cancel"], "leaseSeconds": self.lease_seconds}

    def cancel(self, method, query, body, id):
        self.run(id)["cancel"] = True
        return {"id": id}

    def journal(self, method, query, body, id, name):
        if id not in self.runs:
            raise Refused(404, "run.not-found", id)
        journal = self.run(id)["journals"].setdefault(name, bytearray())
        if method == "GET":
            return {"offset": len(journal)}
        offset = int(query["offset"])
        if offset > len(journal):
            raise Refused(409, "run.journal-gap", "gap", offset=len(journal))
        new = body[len(journal) - offset :]
        end = new.rfind(b"\n") + 1
        for line in new[:end].splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                raise Refused(400, "run.journal-invalid", "not JSON")
            if self.refuse_line(entry):
                raise Refused(400, "run.journal-invalid", "refused")
            if entry[0] == "file":
                if entry[2] not in self.blobs:
                    raise Refused(404, "blob.not-found", entry[1])
                self.run(id)["files"][entry[1]] = entry[2]
            if entry[0] == "state":
                self.run(id)["state"] = entry[1]
                self.run(id)["reason"] = entry[2] if len(entry) > 2 else None
        journal.extend(new[:end])
        return {"offset": len(journal)}

    def append_log(self, method, query, body, id):
        log = self.run(id)["logs"].setdefault(query["name"], bytearray())
        offset = int(query["offset"])
        if offset > len(log):
            raise Refused(409, "run.log-offset", "offset", offset=len(log))
        log.extend(body[len(log) - offset :])
        complete = query.get("complete") == "true"
        self.run(id).setdefault("complete", {})[query["name"]] = complete
        return {"name": query["name"], "sizeBytes": len(log), "complete": complete}

    def logs(self, method, query, body, id):
        return {"items": [{"name": name, "sizeBytes": len(log), "complete": False} for name, log in self.run(id)["logs"].items()]}

    def file(self, method, query, body, id):
        if method == "GET":
            return self.blobs[self.run(id)["files"][query["path"]]]
        given = json.loads(body)
        if given["digest"] not in self.blobs:
            raise Refused(404, "blob.not-found", given["path"])
        self.run(id)["files"][given["path"]] = given["digest"]
        return {"path": given["path"], "digest": given["digest"]}

    def blob(self, method, query, body, digest):
        partial = self.partial.setdefault(digest, bytearray())
        if method == "GET" and digest not in self.blobs and not partial:
            raise Refused(404, "blob.not-found", digest)
        if method == "PUT" and digest not in self.blobs:
            if int(query["offset"]) != len(partial):
                raise Refused(409, "blob.offset", "offset", receivedBytes=len(partial))
            partial.extend(body)
            if len(partial) == int(query["sizeBytes"]):
                if "sha256:" + hashlib.sha256(partial).hexdigest() != digest:
                    partial.clear()
                    raise Refused(400, "blob.digest-mismatch", "digest")
                self.blobs[digest] = bytes(partial)
        done = digest in self.blobs
        return {"digest": digest, "complete": done, "receivedBytes": len(self.blobs[digest]) if done else len(partial)}

    def create_snapshot(self, method, query, body):
        listing = json.loads(body)["files"]
        digest = listing_digest(listing)
        self.snapshots[digest] = listing
        return self._snapshot(digest)

    def get_snapshot(self, method, query, body, digest):
        if digest not in self.snapshots:
            raise Refused(404, "snapshot.not-found", "There is no such snapshot.")
        return self._snapshot(digest)

    def _snapshot(self, digest):
        missing = self.missing(digest)
        return {"digest": digest, "complete": not missing, "missing": missing, "fileCount": len(self.snapshots[digest])}

    def add_files(self, method, query, body, digest):
        of_path = {item["path"]: item for item in self.snapshots[digest]}
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for entry in archive.infolist():
                content = archive.read(entry)
                if "sha256:" + hashlib.sha256(content).hexdigest() != of_path[entry.filename]["digest"]:
                    raise Refused(400, "archive.invalid", entry.filename)
                self.blobs[of_path[entry.filename]["digest"]] = content
        return self._snapshot(digest)

    def listing(self, method, query, body, digest):
        if digest not in self.snapshots:
            raise Refused(404, "snapshot.not-found", "There is no such snapshot.")
        return {"items": self.snapshots[digest]}

    def archive(self, method, query, body, digest):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for item in self.snapshots[digest]:
                archive.writestr(item["path"], self.blobs[item["digest"]])
        return stream.getvalue()

    def files(self, method, query, body, id):
        prefix = query.get("prefix", "")
        return {"items": [{"path": path} for path in sorted(self.run(id)["files"]) if path.startswith(prefix)]}

    def datastore_files(self, method, query, body):
        prefix = query.get("prefix", "")
        names = sorted(name for name in self.datastore if not prefix or name == prefix or name.startswith(prefix + "/"))
        return {"items": [{"path": name, "sizeBytes": len(self.datastore[name])} for name in names]}

    def datastore_file(self, method, query, body):
        if method == "GET":
            return self.datastore[query["path"]]
        given = json.loads(body)
        if given["path"] in self.datastore and not given["overwrite"]:
            raise Refused(409, "datastore.path-taken", given["path"])
        self.datastore[given["path"]] = self.blobs[given["digest"]]
        return {"path": given["path"]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake = None
    disable_nagle_algorithm = True
    wbufsize = 65536

    def setup(self):
        super().setup()
        self.fake.connections.add(self.connection)

    def finish(self):
        self.fake.connections.discard(self.connection)
        try:
            super().finish()
        except OSError:
            pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def handle_any(self):
        parts = urlsplit(self.path)
        path = parts.path[len("/api/v1") :]
        length = int(self.headers.get("Content-Length") or 0)
        fault = self.fake.fault(self.command, path)
        if fault == "cut half":
            self.rfile.read(length // 2)
            return self.cut()
        body = self.rfile.read(length)
        self.fake.requests.append((self.command, path, self.headers.get("Authorization"), length))
        if fault == "cut":
            return self.cut()
        if fault == "redirect":
            return self.answer(302, b"", {"Location": "http://127.0.0.1:1/elsewhere"})
        if fault == "busy":
            content = {"code": "unavailable", "reason": "server.stopping", "message": "Busy.", "hint": ""}
            return self.answer(503, json.dumps(content).encode(), {"Retry-After": "0"})
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            result, status = self.fake.handle(self.command, path, query, body), 200
        except Refused as error:
            status = error.status
            result = {"code": "conflict", "reason": error.reason, "message": str(error), "hint": "Hint.", "details": error.details}
        if fault == "lost":
            return self.cut()
        if isinstance(result, bytes):
            start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if start:
                status, result = 206, result[int(start.group(1)) :]
            if fault == "cut answer":
                return self.answer(status, result, {}, len(result) // 2)
            return self.answer(status, result, {})
        return self.answer(status, json.dumps(result).encode(), {})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def answer(self, status, body, headers, only=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if only is None else body[:only])
        self.wfile.flush()
        if only is not None:
            self.cut()

    def cut(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def listing_digest(listing):
    lines = []
    for item in sorted(listing, key=lambda item: item["path"].encode("utf-8")):
        mark = "x" if item.get("executable") else "-"
        lines.append("%s %d %s %s\n" % (item["digest"], item["sizeBytes"], mark, item["path"]))
    return "sha256:" + hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()
