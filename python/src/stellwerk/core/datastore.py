"""Named storage of a workspace: files go up and down, and runs get them by data references."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional, Tuple

from .._downloads import download
from .._files import safe_join
from .._show import html_of_fields
from .._transport import path_of
from .._uploads import put_datastore_file, upload_tree
from ..client import Record
from ._transfers import each
from .exceptions import ServiceError, UserErrorException
from .runconfig import DataReferenceConfiguration

if TYPE_CHECKING:
    from .workspace import Workspace


class DataReference:
    """A file or folder of a datastore for a run. Give it among the arguments of a script, which gets its path."""

    def __init__(
        self,
        datastore: "Datastore",
        data_reference_name: Optional[str] = None,
        path_on_datastore: Optional[str] = None,
        mode: str = "download",
        path_on_compute: Optional[str] = None,
        overwrite: bool = False,
    ) -> None:
        self.datastore = datastore
        self.path_on_datastore = path_on_datastore
        named = data_reference_name or "_".join(part for part in (datastore.name, path_on_datastore) if part)
        self.data_reference_name = re.sub(r"^(?=\d)", "_", re.sub(r"\W", "_", named, flags=re.ASCII))
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    def path(self, path: Optional[str] = None, data_reference_name: Optional[str] = None) -> "DataReference":
        below = "/".join(part.strip("/") for part in (self.path_on_datastore, path) if part)
        return DataReference(self.datastore, data_reference_name, below or None, self.mode, self.path_on_compute, self.overwrite)

    def as_download(self, path_on_compute: Optional[str] = None, overwrite: bool = False) -> "DataReference":
        return self._as("download", path_on_compute, overwrite)

    def as_upload(self, path_on_compute: Optional[str] = None, overwrite: bool = False) -> "DataReference":
        return self._as("upload", path_on_compute, overwrite)

    def as_mount(self) -> "DataReference":
        """Downloaded before the script starts, which reads it in the same place."""
        return self._as("mount", None, False)

    def _as(self, mode: str, path_on_compute: Optional[str], overwrite: bool) -> "DataReference":
        place = path_on_compute or self.path_on_compute
        return DataReference(self.datastore, self.data_reference_name, self.path_on_datastore, mode, place, overwrite)

    def to_config(self) -> DataReferenceConfiguration:
        return DataReferenceConfiguration(
            self.datastore.name, self.mode, self.path_on_datastore, self.path_on_compute, self.overwrite
        )

    def place(self) -> str:
        """Where the script finds it, from its working directory."""
        return self.path_on_compute or "data/" + self.data_reference_name

    def __str__(self) -> str:
        return self.place()

    def __repr__(self) -> str:
        return "DataReference(%r, %r, %r)" % (self.data_reference_name, self.path_on_datastore, self.mode)


class Datastore:
    """`Datastore(ws, "name")` and `Datastore.get(ws, "name")` are the same."""

    def __init__(self, workspace: "Workspace", name: Optional[str] = None) -> None:
        self.workspace = workspace
        client = workspace.client
        self._record: Record = client.datastores.get(
            workspace.name, name or client.workspaces.get(workspace.name)["defaultDatastore"]
        )

    @classmethod
    def _of(cls, workspace: "Workspace", record: Record) -> "Datastore":
        made = cls.__new__(cls)
        made.workspace, made._record = workspace, record
        return made

    @staticmethod
    def get(workspace: "Workspace", datastore_name: str) -> "Datastore":
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: "Workspace") -> "Datastore":
        return Datastore(workspace)

    @staticmethod
    def list(workspace: "Workspace") -> List["Datastore"]:
        return [Datastore._of(workspace, one) for one in workspace.client.datastores.list(workspace.name).all()]

    @property
    def name(self) -> str:
        return self._record["name"]

    @property
    def datastore_type(self) -> str:
        return self._record["kind"]

    @property
    def is_default(self) -> bool:
        return self._record["isDefault"]

    def path(self, path: Optional[str] = None, data_reference_name: Optional[str] = None) -> DataReference:
        return DataReference(self, data_reference_name, path)

    def as_download(self, path_on_compute: Optional[str] = None) -> DataReference:
        return self.path().as_download(path_on_compute)

    def as_upload(self, path_on_compute: Optional[str] = None) -> DataReference:
        return self.path().as_upload(path_on_compute)

    def as_mount(self) -> DataReference:
        return self.path().as_mount()

    def list_files(self, prefix: Optional[str] = None) -> List[Record]:
        return list(self.workspace.client.datastores.list_files(self.workspace.name, self.name, prefix=prefix or None).all())

    def delete_files(self, path: str) -> int:
        """Deletes a file, or a folder with everything below it; returns how many files."""
        return self.workspace.client.datastores.delete_files(self.workspace.name, self.name, path)["deleted"]

    def upload(
        self, src_dir: str, target_path: Optional[str] = None, overwrite: bool = False, show_progress: bool = True
    ) -> DataReference:
        """Uploads a folder (or a file); files that are there already are left unless `overwrite`. Returns a reference to the target."""
        return self._upload(upload_tree(src_dir), target_path, overwrite, show_progress)

    def upload_files(
        self,
        files: Iterable[str],
        relative_root: Optional[str] = None,
        target_path: Optional[str] = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Uploads files; their paths below `relative_root` (the folder that they have in common unless given) are kept."""
        places = [os.path.abspath(file) for file in files]
        missing = [file for file in places if not os.path.isfile(file)]
        if missing:
            raise UserErrorException("There is no file %s." % missing[0])
        root = (
            os.path.abspath(relative_root)
            if relative_root
            else os.path.commonpath([os.path.dirname(one) for one in places] or ["."])
        )
        pairs = [(os.path.relpath(place, root).replace(os.sep, "/"), place) for place in places]
        outside = [name for name, _ in pairs if name.startswith("../")]
        if outside:
            raise UserErrorException("The file %s is not below %s." % (outside[0], root))
        return self._upload(pairs, target_path, overwrite, show_progress)

    def _upload(
        self, pairs: List[Tuple[str, str]], target_path: Optional[str], overwrite: bool, show_progress: bool
    ) -> DataReference:
        target = (target_path or "").replace("\\", "/").strip("/")

        def job(name: str, place: str) -> Callable[[Any], None]:
            path = "/".join(part for part in (target, name) if part)
            return lambda note: self._put(path, place, overwrite, note)

        total = sum(os.path.getsize(place) for _, place in pairs)
        each("Uploading %d files to %s" % (len(pairs), self.name), total, [job(*pair) for pair in pairs], show_progress)
        return self.path(target or None)

    def _put(self, path: str, place: str, overwrite: bool, note: Any) -> None:
        try:
            put_datastore_file(self.workspace.client.transport, self.workspace.name, self.name, path, place, overwrite, note)
        except ServiceError as error:
            if error.reason != "datastore.path-taken":
                raise
            sys.stderr.write("%s is there already and was left; give overwrite=True to replace it.\n" % path)

    def download(
        self, target_path: str, prefix: Optional[str] = None, overwrite: bool = False, show_progress: bool = True
    ) -> int:
        """Downloads the files below `prefix`, keeping their paths; returns how many. Files that are there are left unless `overwrite`."""
        files = self.list_files(prefix)
        where = path_of("/workspaces/{workspace}/datastores/{datastore}/file", workspace=self.workspace.name, datastore=self.name)
        transport = self.workspace.client.transport

        def job(path: str, target: str) -> Callable[[Any], None]:
            return lambda note: download(transport, where, {"path": path}, target, progress=note)

        wanted = [(one, safe_join(target_path, one["path"])) for one in files]
        wanted = [(one, target) for one, target in wanted if overwrite or not os.path.exists(target)]
        total = sum(one["sizeBytes"] for one, _ in wanted)
        each("Downloading %d files" % len(wanted), total, [job(one["path"], target) for one, target in wanted], show_progress)
        return len(wanted)

    def __repr__(self) -> str:
        return "Datastore(name=%r)" % self.name

    def _repr_html_(self) -> str:
        return html_of_fields("Datastore", dict(self._record))
