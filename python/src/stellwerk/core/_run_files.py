"""The files of a run: uploads, downloads, and the snapshot of the script's directory."""

from __future__ import annotations

import os
import tempfile
from typing import IO, TYPE_CHECKING, Any, List, Optional, Sequence, Union

from .._downloads import download_run_file, download_snapshot
from .._files import run_path, safe_join
from .._uploads import put_run_file, upload_tree
from ._transfers import each
from .exceptions import UserErrorException

if TYPE_CHECKING:
    from .._interactive import ActiveRun
    from ..client import Client, Record


class HasFiles:
    """The part of a Run that has files: staged on this disk where the run is this process's, else uploaded at once."""

    if TYPE_CHECKING:
        id: str
        client: Client
        _workspace: str
        _active: Optional[ActiveRun]

        def flush(self) -> None: ...

        def _record(self) -> Record: ...

    def upload_file(self, name: str, path_or_stream: Union[str, IO[bytes]], datastore_name: Optional[str] = None) -> str:
        """Makes a file, or what a stream holds, a file of the run; it may change afterwards."""
        name = run_path(name)
        if not hasattr(path_or_stream, "read"):
            path = os.fspath(path_or_stream)
            if not os.path.isfile(path):
                raise UserErrorException("There is no file %s to upload." % path)
            self._upload(name, path)
            return name
        with tempfile.NamedTemporaryFile() as copy:
            for part in iter(lambda: path_or_stream.read(1 << 20), type(path_or_stream.read(0))()):
                copy.write(part.encode("utf-8") if isinstance(part, str) else part)
            copy.flush()
            self._upload(name, copy.name)
        return name

    def _upload(self, name: str, path: str, note: Any = None) -> None:
        if self._active is not None:
            self._active.journal.stage(path, name)
        else:
            put_run_file(self.client.transport, self._workspace, self.id, name, path, progress=note)

    def upload_files(self, names: Sequence[str], paths: Sequence[str], return_artifacts: bool = False, **_: Any) -> List[str]:
        """Makes each of the files a file of the run, under the name at the same place of `names`."""
        if len(names) != len(paths):
            raise UserErrorException("Give as many names as paths: there are %d names and %d paths." % (len(names), len(paths)))
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise UserErrorException("There is no file %s to upload." % missing[0])
        targets = [run_path(name) for name in names]
        jobs = [lambda note, name=name, path=path: self._upload(name, path, note) for name, path in zip(targets, paths)]
        each("Uploading %d files" % len(jobs), sum(os.path.getsize(path) for path in paths), jobs, self._active is None)
        return targets

    def upload_folder(self, name: str, path: str, datastore_name: Optional[str] = None) -> List[str]:
        """Makes the files below a folder files of the run, below `name`."""
        if not os.path.isdir(path):
            raise UserErrorException("There is no folder %s to upload." % path)
        files = upload_tree(path)
        return self.upload_files(["%s/%s" % (name.rstrip("/\\"), one) for one, _ in files], [place for _, place in files])

    def get_file_names(self) -> List[str]:
        self.flush()
        return [one["path"] for one in self.client.runs.list_files(self._workspace, self.id).all()]

    def download_file(self, name: str, output_file_path: Optional[str] = None, _validate_checksum: bool = False) -> str:
        """Downloads a file of the run, into the current folder under its own name unless told otherwise; returns the path."""
        self.flush()
        target = output_file_path or os.path.basename(name)
        if os.path.isdir(target) or target.endswith(("/", os.sep)):
            target = os.path.join(target, os.path.basename(name))
        download_run_file(self.client.transport, self._workspace, self.id, name, target)
        return target

    def download_files(
        self,
        prefix: Optional[str] = None,
        output_directory: Optional[str] = None,
        output_paths: Optional[Sequence[str]] = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        **_: Any,
    ) -> List[str]:
        """Downloads the files below `prefix`; their paths are kept, without the prefix if `append_prefix` is False. Returns the paths."""
        self.flush()
        files = list(self.client.runs.list_files(self._workspace, self.id, prefix=prefix or None).all())
        folder = output_directory or "."
        if output_paths is not None:
            if len(output_paths) != len(files):
                raise UserErrorException("Give as many output paths as there are files: %d." % len(files))
            targets = [os.path.join(folder, one) for one in output_paths]
        else:
            cut = 0 if append_prefix or not prefix else len(prefix.rstrip("/")) + 1
            targets = [safe_join(folder, one["path"][cut:] or os.path.basename(one["path"])) for one in files]

        def job(name: str, target: str) -> Any:
            return lambda note: download_run_file(self.client.transport, self._workspace, self.id, name, target, note)

        each(
            "Downloading %d files" % len(files),
            sum(one["sizeBytes"] for one in files),
            [job(one["path"], t) for one, t in zip(files, targets)],
        )
        return targets

    def get_snapshot_id(self) -> Optional[str]:
        return self._record().get("snapshot")

    def restore_snapshot(self, snapshot_id: Optional[str] = None, path: Optional[str] = None) -> str:
        """Expands the snapshot of the script's directory into a folder; returns its path."""
        snapshot = snapshot_id or self.get_snapshot_id()
        if not snapshot:
            raise UserErrorException("The run %s has no snapshot: it was not submitted." % self.id)
        target = path or os.path.join(".", "snapshot-" + snapshot.split(":")[-1][:12])
        download_snapshot(self.client.transport, self._workspace, snapshot, target)
        return target
