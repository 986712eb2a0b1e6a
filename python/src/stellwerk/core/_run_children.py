"""The children of a run: found, started and submitted, to any depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, List, Mapping, Optional, Sequence

from .._interactive import ActiveRun, begin
from ._run_query import records_of
from .exceptions import UserErrorException
from .model import TagFilter, texts

if TYPE_CHECKING:
    from ..client import Client
    from .experiment import Experiment
    from .run import Run


class HasChildren:
    """The part of a Run that has children. Starting one below a run of this process needs no network."""

    if TYPE_CHECKING:
        id: str
        client: Client
        experiment: Experiment
        _experiment: Optional[Experiment]
        _own_client: Optional[Client]
        _workspace: str
        _active: Optional[ActiveRun]

        def flush(self) -> None: ...

    def get_children(
        self,
        recursive: bool = False,
        tags: TagFilter = None,
        properties: TagFilter = None,
        type: Optional[str] = None,
        status: Optional[str] = None,
        **_: Any,
    ) -> Iterator["Run"]:
        """The children, newest first; with `recursive` all descendants."""
        self.flush()
        where = {"ancestor": self.id} if recursive else {"parent": self.id}
        found = records_of(
            self.experiment, include_children=True, type=type, tags=tags, properties=properties, status=status, **where
        )
        return (self.__class__._of(self.experiment, record) for record in found)

    def child_run(
        self,
        name: Optional[str] = None,
        run_id: Optional[str] = None,
        outputs: Any = None,
        tags: Optional[Mapping[str, Any]] = None,
    ) -> "Run":
        """Starts a child; end it with `complete()`, or use it in a `with` block."""
        if self._active is not None:
            active = self._active.child(id=run_id, display_name=name, tags=texts(tags))
        else:
            active = begin(
                self.client.transport,
                self._workspace,
                self.experiment.name,
                id=run_id,
                display_name=name,
                tags=texts(tags),
                parent=self.id,
            )
        made = self.__class__(self._experiment, active.id, _active=active)
        made._own_client = self._own_client
        return made

    def create_children(
        self, count: Optional[int] = None, tag_key: Optional[str] = None, tag_values: Optional[Sequence[Any]] = None
    ) -> List["Run"]:
        """Starts several children: so many, or one for each value of a tag."""
        if (count is None) == (tag_key is None or tag_values is None):
            raise UserErrorException("Give a count, or a tag_key and tag_values.")
        if count is not None:
            return [self.child_run() for _ in range(count)]
        return [self.child_run(tags={str(tag_key): value}) for value in tag_values or []]

    def submit_child(self, config: Any, tags: Optional[Mapping[str, Any]] = None, **named: Any) -> "Run":
        """Submits a script as a child of this run."""
        return self.experiment.submit(config, tags, parent=self.id, **named)
