"""Logging to a run that this process neither is nor started: each call is brought to the server before it returns."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from typing import Any

from .._journal import FILES, MAIN, STAGED, Journal
from .._uploads import put_run_file


class RemoteJournal:
    """Has the methods of a Journal."""

    def __init__(self, client: Any, workspace: str, run: str) -> None:
        self._client, self._workspace, self._run = client, workspace, run
        self._name = "sdk-" + uuid.uuid4().hex

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            with tempfile.TemporaryDirectory() as folder:
                journal = Journal(folder)
                result = getattr(journal, name)(*arguments, **named)
                journal.close()
                self._bring(folder)
                return result

        return call

    def _bring(self, folder: str) -> None:
        for line in _lines(os.path.join(folder, FILES)):
            _, path, digest, _size = json.loads(line)
            staged = os.path.join(folder, STAGED, digest.split(":")[1])
            put_run_file(self._client.transport, self._workspace, self._run, path, staged)
        lines = b"".join(_lines(os.path.join(folder, MAIN)))
        if lines:
            offset = self._client.journals.get(self._workspace, self._run, self._name)["offset"]
            self._client.journals.append(self._workspace, self._run, self._name, offset, lines)


def _lines(path: str) -> list:
    try:
        with open(path, "rb") as file:
            return file.readlines()
    except FileNotFoundError:
        return []
