"""Data references: files of datastores, fetched before the script starts and brought back after it has ended."""

from __future__ import annotations

import os

from stellwerk._downloads import download_datastore
from stellwerk._files import safe_join
from stellwerk._transport import StellwerkError
from stellwerk._uploads import put_datastore_file, upload_tree
from stellwerk.runner.programs import PreparationFailed


class Data:
    def __init__(self, transport, workspace, references, work):
        self._transport = transport
        self._workspace = workspace
        self._references = references
        self._work = work

    def place(self, name):
        """Where a reference lies: a file there is that file, a folder that folder."""
        return safe_join(self._work, self._references[name].get("pathOnCompute") or "data/" + name)

    def variables(self):
        return {"AZUREML_DATAREFERENCE_" + name: self.place(name) for name in self._references}

    def fetch(self, tell):
        for name, reference in self._references.items():
            if reference.get("mode", "download") == "upload":
                os.makedirs(self.place(name), exist_ok=True)
                continue
            fetched = download_datastore(self._transport, self._workspace, reference["datastore"], reference.get("path"), self.place(name))  # fmt: skip
            if not fetched:
                raise PreparationFailed(
                    "The data reference %s names %r on the datastore %s, where there is no file."
                    % (name, reference.get("path") or "everything", reference["datastore"])
                )
            tell("Data reference %s: %d files from the datastore %s." % (name, len(fetched), reference["datastore"]))

    def bring(self):
        """Uploads what the script left. Returns what could not be uploaded for good, in sentences."""
        refused = []
        for name, reference in self._references.items():
            if reference.get("mode") != "upload" or not os.path.exists(self.place(name)):
                continue
            for path, file in upload_tree(self.place(name)):
                target = "/".join(part for part in ((reference.get("path") or "").strip("/"), path) if part)
                try:
                    put_datastore_file(self._transport, self._workspace, reference["datastore"], target, file, bool(reference.get("overwrite")))  # fmt: skip
                except StellwerkError as error:
                    if getattr(error, "reason", "") not in ("datastore.path-taken", "path.invalid"):
                        raise
                    refused.append("The data reference %s could not be uploaded: %s" % (name, error))
        return refused
