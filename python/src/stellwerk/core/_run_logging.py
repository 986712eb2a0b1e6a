"""What a run logs: metrics, tables, pictures, parameters, tags and properties; and its metrics, read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, Mapping, Optional, Sequence, Union

from ._metrics import values_of
from ._remote_journal import RemoteJournal
from .exceptions import UserErrorException
from .model import texts

if TYPE_CHECKING:
    from .._interactive import ActiveRun
    from ..client import Client, Record


class LogsToRun:
    """The part of a Run that logs: to the journal on this disk where the run is this process's, else to the server at once."""

    if TYPE_CHECKING:
        id: str
        client: Client
        _workspace: str
        _active: Optional[ActiveRun]
        _known: Optional[Record]
        _remote: Optional[RemoteJournal]

        def flush(self) -> None: ...

    @property
    def _journal(self) -> Any:
        if self._active is not None:
            return self._active.journal
        if self._remote is None:
            self._remote = RemoteJournal(self.client, self._workspace, self.id)
        return self._remote

    def log(self, name: str, value: Any, description: str = "", step: Optional[int] = None) -> None:
        """Logs a number (text and truth values too); the same name again makes a series."""
        self._journal.log(name, value, step)

    def log_list(self, name: str, value: Sequence[Any], description: str = "", step: Optional[int] = None) -> None:
        """Logs several values of one series."""
        self._journal.log_list(name, value, step)

    def log_row(self, name: str, description: Optional[str] = None, **kwargs: Any) -> None:
        """Logs a row of a table: `run.log_row("accuracy", epoch=1, train=0.8, test=0.7)`."""
        self._journal.log_row(name, kwargs)

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Logs a table: a list of values for each column."""
        self._journal.log_table(name, value)

    def log_image(self, name: str, path: Optional[str] = None, plot: Any = None, description: str = "") -> None:
        """Logs a picture: a file, or a matplotlib plot."""
        if (path is None) == (plot is None):
            raise UserErrorException("Give the path of an image or a plot.")
        self._journal.log_image(name, path, plot)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        self._journal.log_object(name, "confusion_matrix", value)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        self._journal.log_object(name, "accuracy_table", value)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        self._journal.log_object(name, "predictions", value)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        self._journal.log_object(name, "residuals", value)

    def log_param(self, name: str, value: Any) -> None:
        """Records a parameter that the run was given."""
        self._journal.param(name, value)

    def log_params(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self.log_param(name, value)

    def tag(self, key: str, value: Any = None) -> None:
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Adds or changes tags."""
        if self._active is not None:
            self._active.journal.set_tags(texts(tags) or {})
        else:
            self._known = self.client.runs.update(self._workspace, self.id, tags=texts(tags))

    def remove_tags(self, tags: Union[str, Iterable[str]]) -> None:
        gone = {key: None for key in ([tags] if isinstance(tags, str) else tags)}
        if self._active is not None:
            self._active.journal.set_tags(gone)
        else:
            self._known = self.client.runs.update(self._workspace, self.id, tags=gone)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Adds properties, which are set once."""
        if self._active is not None:
            self._active.journal.add_properties(texts(properties) or {})
        else:
            self._known = self.client.runs.update(self._workspace, self.id, properties=texts(properties))

    def get_metrics(
        self, name: Optional[str] = None, recursive: bool = False, run_type: Optional[str] = None, populate: bool = False
    ) -> Dict[str, Any]:
        """Each metric's value, or the list of its values; tables by column. With `recursive`: by run, descendants included."""
        self.flush()
        found = self.client.metrics.list(self._workspace, self.id, name=name, recursive=recursive or None)
        if not recursive:
            return values_of(self.client, self._workspace, self.id, found["items"])
        return {
            run: values_of(self.client, self._workspace, run, items)
            for run, items in (found.get("byRun") or {self.id: found["items"]}).items()
        }
