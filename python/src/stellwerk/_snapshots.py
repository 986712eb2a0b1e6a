"""Takes the snapshot of a script's directory and brings to the server what it does not have yet.

The listing depends on names, contents and the executable bit alone. Links inside the directory are followed, links
that lead out of it are refused. A file that has not changed since it was last read is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
import time
import zipfile

from stellwerk._files import cache_folder, digest_of, flaw_of_path, legible, read_json, write_whole
from stellwerk._ignore import ALWAYS, Ignored
from stellwerk._transport import ServiceError, StellwerkError, path_of
from stellwerk._uploads import upload_blob

LIMIT_BYTES = 300 * 1024 * 1024
LIMIT_FILES = 100_000
_MEGABYTE = 1024 * 1024
_ARCHIVE_BYTES = 16 * _MEGABYTE
_SETTLED_NS = 2_000_000_000
_PLAIN = re.compile(r"(?:(?!\.\.?(?:/|$))[A-Za-z0-9_. -]{1,255}(?:/(?!$)|$)){1,15}")


class SnapshotRefused(StellwerkError):
    """The directory cannot be submitted as it is; the message says why and what to do."""


class Listing:
    """The files of a directory as they are submitted. `digest` names the snapshot."""

    def __init__(self, rows):
        """Of (path, digest, size, whether it is executable)."""
        self._rows = sorted(rows)  # the order of code points is that of their bytes in UTF-8
        lines = [
            "%s %d %s %s\n" % (digest, size, "x" if executable else "-", path.replace("\n", "\\n") if "\n" in path else path)
            for path, digest, size, executable in self._rows
        ]
        self.digest = "sha256:" + hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()

    @property
    def files(self):
        """As the contract has them. Of an unchanged directory nobody asks."""
        return [
            {"path": path, "digest": digest, "sizeBytes": size, **({"executable": True} if executable else {})}
            for path, digest, size, executable in self._rows
        ]


def snapshot_of(directory, limit_bytes=LIMIT_BYTES):
    """Lists a directory, ignore files obeyed. Raises SnapshotRefused above the limits or for what cannot be submitted."""
    root = os.path.realpath(directory)
    if not os.path.isdir(root):
        raise SnapshotRefused("There is no directory %s to submit." % directory)
    found = []
    _walk(root, root, "", Ignored(), (root,), found)
    if len(found) > LIMIT_FILES:
        raise SnapshotRefused("The directory %s has %d files; a snapshot may have %d. Leave files out with .amlignore or .gitignore." % (directory, len(found), LIMIT_FILES))  # fmt: skip
    size = sum(status.st_size for _, _, status in found)
    if size > limit_bytes:
        raise SnapshotRefused(_too_large(directory, found, size, limit_bytes))
    cache = StatCache(root)
    rows = [(path, cache.digest(path, place, status), status.st_size, bool(status.st_mode & stat.S_IXUSR)) for path, place, status in found]
    cache.save()
    return Listing(rows)


def upload_snapshot(transport, workspace, directory, show_progress=False, limit_bytes=LIMIT_BYTES):
    """Makes a directory a snapshot on the server and returns its digest. For an unchanged one nothing is uploaded."""
    from stellwerk._progress import Progress

    listing = snapshot_of(directory, limit_bytes)
    if _is_known(transport, workspace, listing):
        return listing.digest
    files = listing.files
    missing = _announce(transport, workspace, files)
    if not missing:
        return listing.digest
    wanted = {file["digest"]: file for file in files if file["digest"] in missing}
    root = os.path.realpath(directory)
    with Progress("Snapshot", sum(file["sizeBytes"] for file in wanted.values()), show_progress) as progress:
        small, left = [], missing
        for file in wanted.values():
            if file["sizeBytes"] > _ARCHIVE_BYTES:
                upload_blob(transport, workspace, os.path.join(root, file["path"]), known=(file["digest"], file["sizeBytes"]))
                progress(file["sizeBytes"])
            else:
                small.append(file)
        for batch in _batches(small):
            left = _add(transport, workspace, listing.digest, root, batch)
            progress(sum(file["sizeBytes"] for file in batch))
    if left and _announce(transport, workspace, files):  # large files come last where there are no small ones
        raise SnapshotRefused("The directory %s changed while it was submitted; submit it again." % directory)
    return listing.digest


def _is_known(transport, workspace, listing):
    """Asked first, so that of an unchanged directory not even the listing is sent."""
    place = path_of("/workspaces/{workspace}/snapshots/{snapshot}", workspace=workspace, snapshot=listing.digest)
    try:
        return transport.call("GET", place)["complete"]
    except ServiceError as error:
        if error.reason != "snapshot.not-found":
            raise
        return False


def _announce(transport, workspace, files):
    place = path_of("/workspaces/{workspace}/snapshots", workspace=workspace)
    answer = transport.call("POST", place, {"files": files}, idempotent=True)
    return set(answer.get("missing") or ())


def _add(transport, workspace, snapshot, root, batch):
    """Brings files in one archive; returns what is missing then."""
    place = path_of("/workspaces/{workspace}/snapshots/{snapshot}/files", workspace=workspace, snapshot=snapshot)
    with tempfile.TemporaryFile() as archive:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for item in batch:
                entry = zipfile.ZipInfo(item["path"])  # a fixed date: files from before 1980 have none that a ZIP can hold
                entry.compress_type = zipfile.ZIP_DEFLATED
                with open(os.path.join(root, item["path"]), "rb") as source:
                    file.writestr(entry, source.read())
        return transport.upload("PUT", place, archive).get("missing") or ()


def _batches(files):
    batch, size = [], 0
    for file in files:
        if batch and size + file["sizeBytes"] > _ARCHIVE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file["sizeBytes"]
    if batch:
        yield batch


def _walk(root, place, folder, outer, above, found):
    ignored = outer.entering(place, folder)
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name in ALWAYS:
                continue
            path = folder + "/" + entry.name if folder else entry.name
            if entry.is_symlink():
                _follow(root, entry, path, ignored, above, found)
            elif entry.is_dir(follow_symlinks=False):
                if not ignored.leaves_out(path, True):
                    _walk(root, entry.path, path, ignored, above + (entry.path,), found)
            elif entry.is_file(follow_symlinks=False) and not ignored.leaves_out(path, False):
                _take(path, entry.path, entry.stat(follow_symlinks=False), found)
            # sockets, pipes and devices hold nothing that could be submitted


def _follow(root, link, path, ignored, above, found):
    real = os.path.realpath(link.path)
    is_folder = os.path.isdir(real)
    if ignored.leaves_out(path, False) or (is_folder and ignored.leaves_out(path, True)):
        return
    if not os.path.exists(real):
        raise _refused(path, "it is a link to what does not exist")
    if real != root and not real.startswith(root + os.sep):
        raise _refused(path, "it is a link to outside of the directory")
    if not is_folder:
        if os.path.isfile(real):
            _take(path, real, os.stat(real), found)
    elif real in above or root == real:
        raise _refused(path, "it is a link to a directory that it lies in")
    else:
        _walk(root, real, path, ignored, above + (real,), found)


def _take(path, place, status, found):
    if not _PLAIN.fullmatch(path):  # nearly all are, and this is asked of each of thousands of files
        flaw = flaw_of_path(path)
        if flaw:
            raise _refused(path, flaw)
    found.append((path, place, status))


def _refused(path, why):
    shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return SnapshotRefused("%r cannot be submitted: %s. Leave it out with .amlignore or .gitignore, or put the file there." % (shown, why))  # fmt: skip


def _too_large(directory, found, size, limit):
    largest = sorted(found, key=lambda item: -item[2].st_size)[:5]
    named = ", ".join("%s (%.1f MB)" % (legible(path), status.st_size / _MEGABYTE) for path, _, status in largest)
    return (
        "The directory %s has %.1f MB; a snapshot may have %.1f MB. The largest files: %s. Leave them out with .amlignore or .gitignore,"
        " or bring them as data of a datastore." % (directory, size / _MEGABYTE, limit / _MEGABYTE, named)
    )


class StatCache:
    """Digests of files that have not changed since they were read, kept in the user's cache folder."""

    def __init__(self, root):
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32] + ".json"
        self._file = os.path.join(cache_folder(), "stat-cache", name)
        self._old = read_json(self._file, {})
        self._new = {}
        self._now = time.time_ns()

    def digest(self, path, place, status):
        key = "%d %d %d %d " % (status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
        known = self._old.get(path)
        if isinstance(known, str) and known.startswith(key):
            self._new[path] = known
            return known[len(key) :]
        digest, size = digest_of(place)
        if size != status.st_size:
            raise SnapshotRefused("The file %r changed while it was read; submit it when it is finished." % path)
        if self._now - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:  # else it may change again within the clock's grain
            self._new[path] = key + digest
        return digest

    def save(self):
        if self._new == self._old:
            return
        try:
            write_whole(self._file, json.dumps(self._new, separators=(",", ":")))
        except OSError:
            pass  # it is only a cache
