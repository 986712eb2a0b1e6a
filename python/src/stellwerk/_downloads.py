"""Fetching files from a server: whole or not at all, going on after a cut, checked where the digest is known."""

from __future__ import annotations

import hashlib
import os
import queue
import re
import tempfile
import threading
import time
import zipfile

from stellwerk._files import safe_join
from stellwerk._transport import CHUNK, ServiceError, StellwerkError, Unreachable, path_of

_BUFFERS = 3


def download(transport, path, query, target, digest=None, progress=None, patience=5):
    """Downloads what a verb gives to the file `target`. A cut download goes on from where it was."""
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(target)), prefix=".download-")
    try:
        with os.fdopen(handle, "r+b", buffering=0) as file, Hashing() as hashing:
            announced = _fetch(transport, path, query, file, hashing, progress, patience)
            found = hashing.digest()
        if found != (digest or announced or found):
            raise StellwerkError("What arrived for %s is not what the server announced; download it again." % target)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _fetch(transport, path, query, file, hashing, progress, patience):
    """Returns the digest that the server names for the content, where it does."""
    left = patience
    while True:
        have = file.tell()
        headers = {"Range": "bytes=%d-" % have} if have else {}
        try:
            with transport.request("GET", path, query=query, headers=headers) as answer:
                if have and answer.status != 206:  # it does not know ranges: from the beginning
                    file.seek(0)
                    file.truncate()
                    hashing.begin()
                length = answer.headers.get("Content-Length")
                total = file.tell() + int(length) if length else None
                position = file.tell()
                while True:
                    buffer, size = hashing.free(), 0
                    try:
                        size = answer.readinto(buffer)
                        _write_all(file, memoryview(buffer)[:size])
                    finally:
                        hashing.add(buffer, size)  # also a buffer that nothing came into goes round
                    if not size:
                        return _announced(answer)
                    left, position = patience, position + size
                    if progress:
                        progress(position, total)
        except ServiceError as error:
            if have and error.status == 416:
                return None
            raise
        except Unreachable:
            left -= 1
            if left < 0:
                raise
            time.sleep(0.1 * (patience - left))


def _write_all(file, data):
    while data:
        data = data[file.write(data) :]


def _announced(answer):
    """Contents have their digest for an entity tag; what is made while it is sent, and files of elsewhere, do not."""
    tag = (answer.headers.get("ETag") or "").strip('"')
    return tag if re.match(r"sha256:[0-9a-f]{64}$", tag) else None


class Hashing:
    """Hashes what is handed over in a thread of its own, while the next is fetched. Its few buffers go round: memory stays flat."""

    def __init__(self):
        self._free, self._full = queue.Queue(), queue.Queue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(CHUNK))
        self._thread = threading.Thread(target=self._work, name="hashing", daemon=True)
        self._thread.start()
        self.begin()

    def begin(self):
        """From now on only what comes is hashed."""
        self._full.put((None, 0))

    def free(self):
        return self._free.get()

    def add(self, buffer, size):
        self._full.put((buffer, size))

    def digest(self):
        """Of all that was handed over since the beginning."""
        self._stop()
        return "sha256:" + self._hasher.hexdigest()

    def _work(self):
        while True:
            given = self._full.get()
            if given is None:
                return
            buffer, size = given
            if buffer is None:
                self._hasher = hashlib.sha256()
            else:
                self._hasher.update(memoryview(buffer)[:size])
                self._free.put(buffer)

    def _stop(self):
        self._full.put(None)
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._thread.is_alive():
            self._stop()


def download_run_file(transport, workspace, run, name, target, progress=None):
    place = path_of("/workspaces/{workspace}/runs/{run}/file", workspace=workspace, run=run)
    download(transport, place, {"path": name}, target, progress=progress)


def list_all(transport, path, **query):
    """All items of a paged verb."""
    while True:
        answer = transport.call("GET", path, query=query)
        for item in answer["items"]:
            yield item
        if not answer.get("nextPage"):
            return
        query["page"] = answer["nextPage"]


def download_run_files(transport, workspace, run, prefix, folder, progress=None):
    """Downloads the files of a run whose paths begin with `prefix` into a folder. Returns their paths."""
    place = path_of("/workspaces/{workspace}/runs/{run}/files", workspace=workspace, run=run)
    names = []
    for item in list_all(transport, place, prefix=prefix or None):
        download_run_file(transport, workspace, run, item["path"], safe_join(folder, item["path"]), progress)
        names.append(item["path"])
    return names


def download_datastore(transport, workspace, datastore, path, target, progress=None):
    """Downloads a file or folder of a datastore to `target`: a file becomes that file, a folder that folder."""
    place = path_of("/workspaces/{workspace}/datastores/{datastore}", workspace=workspace, datastore=datastore)
    path = (path or "").strip("/")
    names = []
    for item in list_all(transport, place + "/files", prefix=path or None):
        name = item["path"]
        if name == path:
            where = target
        elif not path or name.startswith(path + "/"):
            where = safe_join(target, name[len(path) :].lstrip("/"))
        else:
            continue
        download(transport, place + "/file", {"path": name}, where, progress=progress)
        names.append(name)
    return names


def download_snapshot(transport, workspace, snapshot, folder, cancelled=lambda: False):
    """Downloads a snapshot and expands it into a folder; every file is checked against the listing."""
    place = path_of("/workspaces/{workspace}/snapshots/{snapshot}", workspace=workspace, snapshot=snapshot)
    listing = {item["path"]: item for item in transport.call("GET", place + "/listing")["items"]}
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(folder)), prefix=".snapshot-") as beside:
        archive = os.path.join(beside, "snapshot.zip")
        if listing:
            download(transport, place + "/archive", None, archive)
            _expand(archive, listing, folder, cancelled)


def _expand(archive, listing, folder, cancelled):
    expanded = set()
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            if entry.is_dir():
                continue
            item = listing.get(entry.filename)
            if item is None or entry.filename in expanded or entry.file_size != item["sizeBytes"]:
                raise StellwerkError("The archive of the snapshot holds %r, which its listing does not." % entry.filename)
            if cancelled():
                raise StellwerkError("The download was cancelled.")
            target = safe_join(folder, entry.filename)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _expand_one(file, entry, item, target)
            expanded.add(entry.filename)
    missing = set(listing) - expanded
    if missing:
        raise StellwerkError("The archive of the snapshot lacks %r." % sorted(missing)[0])


def _expand_one(file, entry, item, target):
    hasher, left = hashlib.sha256(), item["sizeBytes"]
    with file.open(entry) as source, open(target, "wb") as copy:
        while left > 0:
            data = source.read(min(CHUNK, left))
            if not data:
                break
            hasher.update(data)
            copy.write(data)
            left -= len(data)
    if left or "sha256:" + hasher.hexdigest() != item["digest"]:
        raise StellwerkError("The content of %r in the snapshot is damaged." % entry.filename)
    if item.get("executable"):
        os.chmod(target, 0o755)




def _umask():
    current = os.umask(0)
    os.umask(current)
    return current
