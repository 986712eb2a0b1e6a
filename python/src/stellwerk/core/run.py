"""A run: the one that this script is, one that this process started, or any other, asked about at the server.

What a script or notebook logs never waits for the network and never fails because of the server. On a run that belongs to somebody else,
the same methods bring each entry to the server before they return.
"""
from __future__ import annotations

import os
import tempfile
from typing import IO, TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union
from urllib.parse import quote

from .._downloads import download_run_file
from .._files import run_path, safe_join
from .._interactive import ActiveRun, begin, context
from .._show import html_of_fields
from .._transport import StellwerkError
from .._uploads import put_run_file, upload_tree
from ..client import Client, Record
from ._metrics import values_of
from ._remote_journal import RemoteJournal
from ._transfers import each
from .authentication import NamingTransport
from .exceptions import ExperimentExecutionException, RunEnvironmentException, UserErrorException
from .model import Model, TagFilter, holds, pairs, texts

if TYPE_CHECKING:
    from .environment import Environment
    from .experiment import Experiment
    from .workspace import Workspace

# The words of Azure ML's SDK for the states.
STATUS = {
    "queued": "Queued",
    "preparing": "Preparing",
    "running": "Running",
    "finalizing": "Finalizing",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "lost": "NotResponding",
}
ENDED = ("completed", "failed", "canceled")
SCRIPT_RUN = "azureml.scriptrun"


class Run:
    """`Run.get_context()` in a script; else from an experiment, or `Run(experiment, "id")`."""

    def __init__(self, experiment: Optional["Experiment"], run_id: str, outputs: Any = None, _active: Optional[ActiveRun] = None, **_: Any) -> None:
        self._experiment = experiment
        self._id = run_id
        self._active = _active
        self._known: Optional[Record] = None
        self._remote: Optional[RemoteJournal] = None
        self._own_client: Optional[Client] = None

    @classmethod
    def _of(cls, experiment: Optional["Experiment"], record: Record) -> "Run":
        made = cls(experiment, record["id"])
        made._known = record
        return made

    @classmethod
    def get_context(cls, allow_offline: bool = True, **_: Any) -> "Run":
        """The run that this script was submitted as; elsewhere (if allowed) an offline run, which `python -m stellwerk sync` brings to a server."""
        try:
            active = context(allow_offline)
        except StellwerkError as error:
            raise RunEnvironmentException(str(error)) from None
        return _context_run(active)

    get_submitted_run = get_context

    @staticmethod
    def get(workspace: "Workspace", run_id: str) -> "Run":
        from .experiment import Experiment

        record = workspace.client.runs.get(workspace.name, run_id)
        return Run._of(Experiment(workspace, record["experiment"]), record)

    @staticmethod
    def list(
        experiment: "Experiment",
        type: Optional[str] = None,
        tags: TagFilter = None,
        properties: TagFilter = None,
        status: Optional[str] = None,
        include_children: bool = False,
        **_: Any,
    ) -> Iterator["Run"]:
        """The runs of an experiment, newest first."""
        return runs_of(experiment, include_children=include_children, type=type, tags=tags, properties=properties, status=status)

    # -- who it is

    @property
    def id(self) -> str:
        return self._active.id if self._active is not None and not self._id else self._id

    @property
    def experiment(self) -> "Experiment":
        if self._experiment is None:
            from .experiment import Experiment
            from .workspace import Workspace

            active = self._active
            if active is None or active.workspace is None:
                raise RunEnvironmentException("This run is offline; it has no workspace yet.")
            self._experiment = Experiment(Workspace._named(self.client, active.workspace), str(active.experiment))
        return self._experiment

    @property
    def client(self) -> Client:
        """The server that knows the run; for a submitted script with the run's own token, which the runner renews."""
        if self._active is None or (self._experiment is not None and self._own_client is None):
            return self.experiment.workspace.client
        transport = self._active.transport
        if transport is None:
            raise RunEnvironmentException("This run is offline; bring it to a server with `python -m stellwerk sync`.")
        if self._own_client is None:
            self._own_client = Client.over(NamingTransport(transport.url, transport.token, transport.ca_bundle))
        self._own_client.transport.token = transport.token
        return self._own_client

    @property
    def _workspace(self) -> str:
        return str(self._active.workspace) if self._active is not None else self.experiment.workspace.name

    def _record(self, fresh: bool = False) -> Record:
        """What the server knows, everything logged here included."""
        if fresh or self._known is None or self._active is not None:
            self.flush()
            self._known = self.client.runs.get(self._workspace, self.id)
        return self._known

    def refresh(self) -> "Run":
        self._record(fresh=True)
        return self

    @property
    def number(self) -> int:
        return self._record()["number"]

    @property
    def name(self) -> Optional[str]:
        return self.display_name

    @property
    def display_name(self) -> Optional[str]:
        return self._record().get("displayName")

    @display_name.setter
    def display_name(self, value: str) -> None:
        if self._active is not None:
            self._active.journal.display_name(value)
        else:
            self._known = self.client.runs.update(self._workspace, self.id, display_name=value)

    @property
    def description(self) -> Optional[str]:
        return self._record().get("description")

    @description.setter
    def description(self, value: str) -> None:
        self._known = self.client.runs.update(self._workspace, self.id, description=value)

    @property
    def type(self) -> Optional[str]:
        return None if self._record()["interactive"] else SCRIPT_RUN

    @property
    def status(self) -> str:
        return self.get_status()

    @property
    def parent(self) -> Optional["Run"]:
        parent = self._active.parent_id if self._active is not None else self._record().get("parent")
        return Run(self.experiment, parent) if parent else None

    @property
    def tags(self) -> Dict[str, str]:
        return self.get_tags()

    @property
    def properties(self) -> Dict[str, str]:
        return self.get_properties()

    @property
    def parameters(self) -> Dict[str, Any]:
        return dict(self._record(fresh=True)["parameters"])

    def get_status(self) -> str:
        """`Queued`, `Preparing`, `Running`, `Finalizing`, `Completed`, `Failed`, `Canceled`, or `NotResponding` for a lost run."""
        return STATUS[self._record(fresh=True)["state"]]

    def get_tags(self) -> Dict[str, str]:
        return dict(self._record(fresh=True)["tags"])

    def get_properties(self) -> Dict[str, str]:
        return dict(self._record(fresh=True)["properties"])

    def get_environment(self) -> "Environment":
        from .environment import Environment

        return Environment.of_source((self._record().get("configuration") or {}).get("environment") or {})

    def get_details(self) -> Dict[str, Any]:
        """What is known of the run, as Azure ML's SDK names it, with the whole record under `record`."""
        from ._details import details_of

        record = self._record(fresh=True)
        return details_of(record, STATUS[record["state"]], self.client, self._workspace)

    def get_details_with_logs(self) -> Dict[str, Any]:
        """The details, with the content of each log."""
        details = self.get_details()
        details["logFiles"] = {name: self.client.logs.get(self._workspace, self.id, name=name).text() for name in details["logFiles"]}
        return details

    def get_all_logs(self, destination: Optional[str] = None) -> List[str]:
        """Downloads all logs into a folder; returns their paths."""
        folder = destination or tempfile.mkdtemp(prefix="stellwerk-logs-")
        logs = self.client.logs.list(self._workspace, self.id)
        return [self.client.logs.get(self._workspace, self.id, name=one["name"]).save(safe_join(folder, one["name"])) for one in logs]

    def get_portal_url(self) -> str:
        return "%s/workspaces/%s/runs/%s" % (self.client.url, self._workspace, quote(self.id, safe=""))

    # -- logging

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

    def get_metrics(self, name: Optional[str] = None, recursive: bool = False, run_type: Optional[str] = None, populate: bool = False) -> Dict[str, Any]:
        """Each metric's value, or the list of its values; tables by column. With `recursive`: by run, descendants included."""
        self.flush()
        found = self.client.metrics.list(self._workspace, self.id, name=name, recursive=recursive or None)
        if not recursive:
            return values_of(self.client, self._workspace, self.id, found["items"])
        return {run: values_of(self.client, self._workspace, run, items) for run, items in (found.get("byRun") or {self.id: found["items"]}).items()}

    # -- files

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

        each("Downloading %d files" % len(files), sum(one["sizeBytes"] for one in files), [job(one["path"], t) for one, t in zip(files, targets)])
        return targets

    def get_snapshot_id(self) -> Optional[str]:
        return self._record().get("snapshot")

    def restore_snapshot(self, snapshot_id: Optional[str] = None, path: Optional[str] = None) -> str:
        """Expands the snapshot of the script's directory into a folder; returns its path."""
        from .._downloads import download_snapshot

        snapshot = snapshot_id or self.get_snapshot_id()
        if not snapshot:
            raise UserErrorException("The run %s has no snapshot: it was not submitted." % self.id)
        target = path or os.path.join(".", "snapshot-" + snapshot.split(":")[-1][:12])
        download_snapshot(self.client.transport, self._workspace, snapshot, target)
        return target

    # -- children

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
        return runs_of(self.experiment, include_children=True, type=type, tags=tags, properties=properties, status=status, **where)

    def child_run(self, name: Optional[str] = None, run_id: Optional[str] = None, outputs: Any = None, tags: Optional[Mapping[str, Any]] = None) -> "Run":
        """Starts a child; end it with `complete()`, or use it in a `with` block."""
        if self._active is not None:
            active = self._active.child(id=run_id, display_name=name, tags=texts(tags))
        else:
            active = begin(
                self.client.transport, self._workspace, self.experiment.name, id=run_id, display_name=name, tags=texts(tags), parent=self.id
            )
        made = Run(self._experiment, active.id, _active=active)
        made._own_client = self._own_client
        return made

    def create_children(self, count: Optional[int] = None, tag_key: Optional[str] = None, tag_values: Optional[Sequence[Any]] = None) -> List["Run"]:
        """Starts several children: so many, or one for each value of a tag."""
        if (count is None) == (tag_key is None or tag_values is None):
            raise UserErrorException("Give a count, or a tag_key and tag_values.")
        if count is not None:
            return [self.child_run() for _ in range(count)]
        return [self.child_run(tags={str(tag_key): value}) for value in tag_values or []]

    def submit_child(self, config: Any, tags: Optional[Mapping[str, Any]] = None, **named: Any) -> "Run":
        """Submits a script as a child of this run."""
        return self.experiment.submit(config, tags, parent=self.id, **named)

    # -- its course

    def start_here(self) -> None:
        """Takes up a run whose target is `local`: starts its runner on this machine, which outlives this process."""
        from ..runner.local import start_local

        start_local(self.client.runs.get_job(self._workspace, self.id))

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True, lost_seconds: float = 300
    ) -> Dict[str, Any]:
        """Waits until the run has ended, and returns its details; with `show_output` it prints what the script prints, as it is printed.

        Raises an ExperimentExecutionException if the run failed, unless `raise_on_error` is False, or if it stays lost for `lost_seconds`.
        """
        from ._waiting import wait

        self.flush()
        self._known = wait(self.client, self._workspace, self.id, self.get_portal_url(), show_output, lost_seconds)
        details = self.get_details()
        if raise_on_error and self._known["state"] == "failed":
            lines = "\n".join(self._known.get("lastLines") or [])
            raise ExperimentExecutionException("The run %s failed: %s%s" % (self.id, self._known.get("reason", ""), "\n" + lines if lines else ""))
        return details

    def flush(self, timeout_seconds: float = 300) -> None:
        """Brings what was logged here to the server; nothing to do for other runs."""
        if self._active is not None and self._active.ended is None and self._active.transport is not None:
            self._active.flush()

    def start(self) -> None:
        """Runs are started by whoever makes them."""

    def complete(self) -> None:
        self._end("completed")

    def fail(self, error_details: Any = None, error_code: Optional[str] = None) -> None:
        reason = ": ".join(str(part) for part in (error_code, error_details) if part)
        self._end("failed", reason or None)

    def cancel(self) -> None:
        """Cancels the run and its descendants; what it writes in the grace period still arrives."""
        if self._active is not None:
            self._active.cancel()
        else:
            self._known = self.client.runs.cancel(self._workspace, self.id)

    def _end(self, state: str, reason: Optional[str] = None) -> None:
        if self._active is not None:
            self._active.complete() if state == "completed" else self._active.fail(reason)
            return
        attempt = max(self._record()["attempt"], 1)
        self.client.runs.report(self._workspace, self.id, attempt, state=state, reason=reason)

    def register_model(
        self,
        model_name: str,
        model_path: Optional[str] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        model_framework: Optional[str] = None,
        model_framework_version: Optional[str] = None,
        description: Optional[str] = None,
        **_: Any,
    ) -> Model:
        """Registers a file or folder among the run's files, such as `outputs/model.pkl`."""
        path = run_path(model_path or model_name)
        if self._active is not None:
            if self._active.kind == "submitted":
                self._active.flush(outputs=True)
            elif os.path.exists(path) and not self._has(path):
                self._upload_path(path)
                self.flush()
        record = self.client.models.register(
            self._workspace,
            model_name,
            run=self.id,
            path=path,
            description=description,
            framework=model_framework,
            framework_version=model_framework_version,
            tags=texts(tags),
            properties=texts(properties),
        )
        return Model._of(self.experiment.workspace, record)

    def _has(self, path: str) -> bool:
        return any(one == path or one.startswith(path + "/") for one in self.get_file_names())

    def _upload_path(self, path: str) -> None:
        self.upload_folder(path, path) if os.path.isdir(path) else self.upload_file(path, path)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._active is not None:
            self._active.__exit__(kind, error, trace)
        elif kind is None:
            self.complete()
        else:
            self.fail("%s: %s" % (kind.__name__, error))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        if self._known is None:
            return "Run(Id: %s)" % self.id
        return "Run(Experiment: %s, Id: %s, Status: %s)" % (self._known["experiment"], self.id, STATUS[self._known["state"]])

    def _repr_html_(self) -> str:
        record = self._record()
        fields = {
            "Experiment": record["experiment"],
            "Id": record["id"],
            "Name": record.get("displayName"),
            "Status": STATUS[record["state"]],
            "Reason": record.get("reason"),
            "Tags": record["tags"] or None,
            "Started": record.get("startedAt"),
        }
        return html_of_fields("Run", fields, self.get_portal_url())


ScriptRun = Run
_contexts: Dict[int, Run] = {}


def _context_run(active: ActiveRun) -> Run:
    """One Run for one context, however often it is asked for."""
    if id(active) not in _contexts:
        _contexts[id(active)] = Run(None, "", _active=active)
    return _contexts[id(active)]


def get_run(experiment: "Experiment", run_id: str, rehydrate: bool = True, clean_up: bool = True) -> Run:
    return Run.get(experiment.workspace, run_id)


def runs_of(
    experiment: "Experiment",
    include_children: bool = False,
    type: Optional[str] = None,
    tags: TagFilter = None,
    properties: TagFilter = None,
    status: Optional[str] = None,
    **where: Any,
) -> Iterator[Run]:
    """Runs, newest first; what a filter can say is asked of the server."""
    conditions = ["tags.%s = %s" % (quoted_name(key), quoted(str(value))) for key, value in pairs(tags) if value is not None]
    if status is not None:
        named = {word.lower(): state for state, word in STATUS.items()}
        conditions.append("state = %s" % quoted(named.get(status.lower(), status.lower())))
    page = experiment.workspace.client.runs.query(
        experiment.workspace.name, experiment=experiment.name, filter=" and ".join(conditions) or None, **where
    )
    for record in page.all():
        found = None if record["interactive"] else SCRIPT_RUN
        if (include_children or "parent" not in record) and holds(record["tags"], tags) and holds(record["properties"], properties):
            if type is None or type == found:
                yield Run._of(experiment, record)


def quoted(text: str) -> str:
    return "'%s'" % text.replace("'", "''")


def quoted_name(name: str) -> str:
    plain = name.replace("_", "a").replace("-", "a")
    return name if plain.isascii() and plain.isalnum() and not name[0].isdigit() else '"%s"' % name.replace('"', '""')
