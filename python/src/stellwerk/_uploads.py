"""Bringing bytes to a server: named by their digest, in parts, so that a cut upload goes on and a repeated one costs nothing."""

from __future__ import annotations

import os
import time

from stellwerk._file_part import FilePart, FileShrunk
from stellwerk._files import digest_of, run_path
from stellwerk._transport import ServiceError, Unreachable, path_of

PART_BYTES = 64 * 1024 * 1024
_SMALL = 64 * 1024


def upload_blob(transport, workspace, path, known=None, progress=None, patience=5):
    """Uploads a file's content. Returns (digest, size). `known` is that pair if it has been computed already.

    Goes on after a cut connection, up to `patience` times in a row without getting further.
    """
    for _ in range(3):
        digest, size = known or digest_of(path)
        try:
            _send(transport, workspace, path, digest, size, progress, patience)
            return digest, size
        except ServiceError as error:
            if error.reason != "blob.digest-mismatch":
                raise
            known = None  # the file changed while it was read
        except FileShrunk:
            known = None
    raise OSError("The file %r keeps changing while it is uploaded; upload it when it is finished." % path)


def _state(transport, place):
    try:
        return transport.call("GET", place)
    except ServiceError as error:
        if error.reason != "blob.not-found":
            raise
        return {"receivedBytes": 0, "complete": False}  # nothing of it has arrived


def _send(transport, workspace, path, digest, size, progress, patience):
    place = path_of("/workspaces/{workspace}/blobs/{digest}", workspace=workspace, digest=digest)
    received = 0
    if size > _SMALL:
        state = _state(transport, place)
        received = state["receivedBytes"]
        if state["complete"]:
            _note(progress, size, size)
            return
    left = patience
    with open(path, "rb") as file:
        while True:
            part = FilePart(file, received, min(PART_BYTES, size - received), lambda sent, before=received: _note(progress, before + sent, size))
            try:
                query = {"offset": received, "sizeBytes": size}
                state = transport.upload("PUT", place, part, query, attempts=1)
            except (Unreachable, ServiceError) as error:
                if isinstance(error, ServiceError) and error.reason != "blob.offset" and error.status not in (429, 502, 503, 504):
                    raise
                left -= 1
                if left < 0:
                    raise
                time.sleep(0.2 * (patience - left) if not isinstance(error, ServiceError) else 0.05)
                state = _state(transport, place)
            if state["receivedBytes"] > received:
                left = patience
            received = state["receivedBytes"]
            _note(progress, size if state["complete"] else received, size)
            if state["complete"]:
                return


def _note(progress, done, total):
    if progress:
        progress(done, total)


def upload_tree(folder):
    """The files below a folder as (path with forward slashes, place on disk), sorted; a file is itself.

    A link to a file is followed; a link to a folder is not, since it may lead anywhere or back.
    """
    if not os.path.isdir(folder):
        if not os.path.exists(folder):
            raise FileNotFoundError("There is no file or folder %s." % folder)
        return [(os.path.basename(folder), folder)]
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in names:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                found.append((os.path.relpath(path, folder).replace(os.sep, "/"), path))
    return sorted(found)


def put_run_file(transport, workspace, run, name, path, attempt=None, progress=None):
    """Makes a file on this disk the file `name` of a run."""
    name = run_path(name)
    digest, _ = upload_blob(transport, workspace, path, progress=progress)
    place = path_of("/workspaces/{workspace}/runs/{run}/file", workspace=workspace, run=run)
    body = {"path": name, "digest": digest}
    if attempt:
        body["attempt"] = attempt
    return transport.call("PUT", place, body)


def put_datastore_file(transport, workspace, datastore, name, path, overwrite=False, progress=None):
    """Makes a file on this disk a file of a datastore."""
    name = run_path(name)
    digest, _ = upload_blob(transport, workspace, path, progress=progress)
    place = path_of("/workspaces/{workspace}/datastores/{datastore}/file", workspace=workspace, datastore=datastore)
    return transport.call("PUT", place, {"path": name, "digest": digest, "overwrite": overwrite})
