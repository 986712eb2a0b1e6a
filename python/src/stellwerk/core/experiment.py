"""An experiment groups runs; submitting under a name that does not exist yet creates it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Union

from .._interactive import begin
from .._run_folder import new_run_id
from .._show import html_of_fields
from ..client import Activity, Record
from .exceptions import ExperimentExecutionException, ServiceError, SnapshotException, UserErrorException
from .model import TagFilter, texts
from .run import Run
from .script_run_config import ScriptRunConfig

if TYPE_CHECKING:
    from .workspace import Workspace


class Experiment:
    """`Experiment(workspace, "name")`."""

    def __init__(self, workspace: "Workspace", name: str, **_: Any) -> None:
        self.workspace = workspace
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def id(self) -> str:
        return self._name

    @property
    def workspace_object(self) -> "Workspace":
        return self.workspace

    @property
    def tags(self) -> Dict[str, str]:
        record = self._record()
        return dict(record["tags"]) if record else {}

    def _record(self) -> Any:
        try:
            return self.workspace.client.experiments.get(self.workspace.name, self.name)
        except ServiceError as error:
            if error.reason == "experiment.not-found":
                return None
            raise

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Adds or changes tags."""
        experiments = self.workspace.client.experiments
        experiments.create(self.workspace.name, self.name)
        experiments.update(self.workspace.name, self.name, tags={**self.tags, **(texts(tags) or {})})

    def tag(self, key: str, value: Any = None) -> None:
        self.set_tags({key: value})

    def remove_tags(self, tags: Iterable[str]) -> None:
        gone = [tags] if isinstance(tags, str) else [*tags]
        left = {key: value for key, value in self.tags.items() if key not in gone}
        self.workspace.client.experiments.update(self.workspace.name, self.name, tags=left)

    @staticmethod
    def list(
        workspace: "Workspace", experiment_name: Optional[str] = None, view_type: Any = "ActiveOnly", tags: TagFilter = None
    ) -> List["Experiment"]:
        """The experiments of the workspace, the last used first; archived ones with the view type `All`, only those with `ArchivedOnly`."""
        from .model import holds

        archived = {"All": "with", "ArchivedOnly": "only"}.get(str(view_type))
        found = workspace.client.experiments.list(workspace.name, archived=archived).all()
        return [
            Experiment(workspace, one["name"])
            for one in found
            if experiment_name in (None, one["name"]) and holds(one["tags"], tags)
        ]

    def archive(self) -> None:
        """Leaves it out of lists, and its runs out of queries that do not name it; nothing is submitted to it until it is reactivated."""
        self.workspace.client.experiments.archive(self.workspace.name, self.name)

    def reactivate(self, new_name: Optional[str] = None) -> None:
        if new_name not in (None, self.name):
            raise UserErrorException("An archived experiment keeps its name %s: it need not be given another." % self.name)
        self.workspace.client.experiments.reactivate(self.workspace.name, self.name)

    @staticmethod
    def delete(workspace: "Workspace", experiment_id: str) -> Record:
        """Puts an experiment into the trash with its runs; the entry's `id` restores it: `workspace.restore(entry)`."""
        return workspace.client.experiments.delete(workspace.name, experiment_id)

    def delete_runs(self, filter: Optional[str] = None, dry_run: bool = False) -> Dict[str, Any]:
        """Puts the runs that a query selects into the trash, with their descendants; returns how many. With `dry_run` it only tells

        how many runs, files and bytes that would be, `freedBytes` being those of what nothing else refers to.
        """
        return self._selected(self.workspace.client.runs.delete_many, filter, dry_run)

    def archive_runs(self, filter: Optional[str] = None, dry_run: bool = False) -> Dict[str, Any]:
        """Archives the runs that a query selects, with their descendants; returns how many."""
        return self._selected(self.workspace.client.runs.archive_many, filter, dry_run)

    def _selected(self, verb: Callable[..., Activity], filter: Optional[str], dry_run: bool) -> Dict[str, Any]:
        activity = verb(self.workspace.name, experiment=self.name, filter=filter, dry_run=dry_run)
        activity.wait()
        return dict(activity["report"])

    def submit(
        self,
        config: Union[ScriptRunConfig, Any],
        tags: Optional[Mapping[str, Any]] = None,
        *,
        run_id: Optional[str] = None,
        display_name: Optional[str] = None,
        description: Optional[str] = None,
        properties: Optional[Mapping[str, Any]] = None,
        parameters: Optional[Mapping[str, Any]] = None,
        parent: Optional[str] = None,
        show_progress: bool = True,
        **_: Any,
    ) -> Run:
        """Takes a snapshot of the script's directory and submits it; with the target `local` the run starts on this machine at once."""
        from .._git import GitState
        from .._snapshots import SnapshotRefused, upload_snapshot

        if not hasattr(config, "configuration"):
            raise UserErrorException("Submit a ScriptRunConfig, not %s." % type(config).__name__)
        client, workspace = self.workspace.client, self.workspace.name
        configuration = config.configuration()
        secrets = secret_values(configuration.get("secrets", []))
        git = GitState(config.source_directory)
        try:
            snapshot = upload_snapshot(client.transport, workspace, config.source_directory, show_progress)
        except SnapshotRefused as error:
            raise SnapshotException(str(error)) from None
        record = client.runs.submit(
            workspace,
            self.name,
            configuration,
            snapshot,
            id=run_id or new_run_id(self.name),
            display_name=display_name,
            description=description,
            parent=parent,
            tags=texts(tags),
            properties=texts(properties),
            parameters=parameters,
            git=git.value(),
            secrets=secrets or None,
        )
        run = Run._of(self, record)
        if configuration.get("target", "local") == "local":
            run.start_here()
        return run

    def start_logging(
        self,
        *,
        outputs: Any = None,
        snapshot_directory: Any = None,
        run_id: Optional[str] = None,
        display_name: Optional[str] = None,
        description: Optional[str] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        parameters: Optional[Mapping[str, Any]] = None,
        **_: Any,
    ) -> Run:
        """Starts a run that this process logs to; end it with `complete()`, or use it in a `with` block."""
        from .._git import git_state

        active = begin(
            self.workspace.client.transport,
            self.workspace.name,
            self.name,
            id=run_id,
            display_name=display_name,
            description=description,
            tags=texts(tags),
            properties=texts(properties),
            parameters=parameters,
            git=git_state(os.getcwd()),
        )
        return Run(self, active.id, _active=active)

    def get_runs(
        self,
        type: Optional[str] = None,
        tags: TagFilter = None,
        properties: TagFilter = None,
        status: Optional[str] = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """The runs, newest first; children only if they are asked for."""
        return Run.list(self, type, tags, properties, status, include_children)

    def query(
        self,
        filter: Optional[str] = None,
        order_by: Union[None, str, Iterable[str]] = None,
        metrics: Optional[Iterable[str]] = None,
        parent: Optional[str] = None,
        limit: Optional[int] = None,
    ) -> List[Run]:
        """Finds runs, children included: `query("metrics.mse < 3000 and tags.kind = 'ridge'", order_by="metrics.mse asc")`.

        For a table of some columns, `workspace.client.runs.query(…, columns=["tags.kind", "metrics.mse"])` reads these alone."""
        order = [order_by] if isinstance(order_by, str) else [*order_by] if order_by is not None else None
        page = self.workspace.client.runs.query(
            self.workspace.name,
            experiment=self.name,
            filter=filter,
            order_by=order,
            metrics=None if metrics is None else [*metrics],
            parent=parent,
            page_size=limit if limit is not None and limit <= 1000 else None,
        )
        found: List[Run] = []
        for record in page.all():
            if limit is not None and len(found) >= limit:
                break
            found.append(Run._of(self, record))
        return found

    def get_portal_url(self) -> str:
        """The server's own page: there is no page of an experiment."""
        return self.workspace.get_portal_url()

    def __enter__(self) -> Run:
        """`with experiment as run:` starts a run and completes or fails it."""
        self._entered = self.start_logging()
        return self._entered

    def __exit__(self, *error: Any) -> Any:
        return self._entered.__exit__(*error)

    def __repr__(self) -> str:
        return "Experiment(Name: %s, Workspace: %s)" % (self.name, self.workspace.name)

    def _repr_html_(self) -> str:
        return html_of_fields("Experiment", {"Name": self.name, "Workspace": self.workspace.name})


def secret_values(names: Iterable[str]) -> Dict[str, str]:
    """The values of the secrets that a configuration names, from this process's environment."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise ExperimentExecutionException(
            "The configuration names the secret %s; set it as an environment variable first." % ", ".join(missing)
        )
    return {name: os.environ[name] for name in names}
