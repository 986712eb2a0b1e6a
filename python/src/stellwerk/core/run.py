"""A run: the one that this script is, one that this process started, or any other, asked about at the server.

What a script or notebook logs never waits for the network and never fails because of the server. On a run that belongs to somebody else,
the same methods bring each entry to the server before they return.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional

from .._files import run_path, safe_join
from .._interactive import ActiveRun, context
from .._show import html_of_fields
from .._transport import StellwerkError
from ..client import Client, Record
from ._remote_journal import RemoteJournal
from ._run_again import HasAgain
from ._run_children import HasChildren
from ._run_files import HasFiles
from ._run_logging import LogsToRun
from ._run_query import STATUS, records_of, type_of
from .authentication import NamingTransport
from .exceptions import ExperimentExecutionException, RunEnvironmentException
from .model import Model, TagFilter, texts

if TYPE_CHECKING:
    from .environment import Environment
    from .experiment import Experiment
    from .workspace import Workspace


class Run(LogsToRun, HasFiles, HasChildren, HasAgain):
    """`Run.get_context()` in a script; else from an experiment, or `Run(experiment, "id")`."""

    def __init__(
        self, experiment: Optional["Experiment"], run_id: str, outputs: Any = None, _active: Optional[ActiveRun] = None, **_: Any
    ) -> None:
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

    def get_secret(self, name: str) -> str:
        """The value of a secret of the vault; in a script, one that its configuration names (`vault_secrets`)."""
        folder = os.environ.get("STELLWERK_SECRETS")
        if folder or self._active is not None and os.environ.get("STELLWERK_RUN_ID"):
            try:
                with open(os.path.join(folder or "", os.path.basename(name)), encoding="utf-8", newline="") as file:
                    return file.read()
            except OSError:
                raise RunEnvironmentException(
                    "The run has no secret %r: name it in its configuration, `run_config.vault_secrets = [%r]`." % (name, name)
                ) from None
        return self.experiment.workspace.get_default_keyvault().get_secret(name)

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
        found = records_of(
            experiment, include_children=include_children, type=type, tags=tags, properties=properties, status=status
        )
        return (Run._of(experiment, record) for record in found)

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
        return type_of(self._record())

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

        configuration = self._record(fresh=True).get("configuration")  # what a query found has none
        return Environment.of_source((configuration or {}).get("environment") or {})

    def get_details(self) -> Dict[str, Any]:
        """What is known of the run, as Azure ML's SDK names it, with the whole record under `record`."""
        from ._details import details_of

        record = self._record(fresh=True)
        return details_of(record, STATUS[record["state"]], self.client, self._workspace)

    def get_details_with_logs(self) -> Dict[str, Any]:
        """The details, with the content of each log."""
        details = self.get_details()
        details["logFiles"] = {
            name: self.client.logs.get(self._workspace, self.id, name=name).text() for name in details["logFiles"]
        }
        return details

    def get_all_logs(self, destination: Optional[str] = None) -> List[str]:
        """Downloads all logs into a folder; returns their paths."""
        folder = destination or tempfile.mkdtemp(prefix="stellwerk-logs-")
        logs = self.client.logs.list(self._workspace, self.id)
        return [
            self.client.logs.get(self._workspace, self.id, name=one["name"]).save(safe_join(folder, one["name"])) for one in logs
        ]

    def get_portal_url(self) -> str:
        """The server's own page: there is no page of a run."""
        return self.client.url

    # -- its course

    def start_here(self) -> None:
        """Takes up a run whose target is `local`: starts its runner on this machine, which outlives this process."""
        from ..runner.local import take_up

        take_up(self.client, self._workspace, self._record())

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
        lost_seconds: float = 300,
    ) -> Dict[str, Any]:
        """Waits until the run has ended, and returns its details; with `show_output` it prints what the script prints, as it is printed.

        Raises an ExperimentExecutionException if the run failed, unless `raise_on_error` is False, or if it stays lost for `lost_seconds`.
        """
        from ._waiting import wait

        self.flush()
        self._known = wait(self.client, self._workspace, self.id, show_output, lost_seconds)
        details = self.get_details()
        if raise_on_error and self._known["state"] == "failed":
            lines = "\n".join(self._known.get("lastLines") or [])
            raise ExperimentExecutionException(
                "The run %s failed: %s%s" % (self.id, self._known.get("reason", ""), "\n" + lines if lines else "")
            )
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

    def archive(self) -> None:
        """Leaves the run and its descendants out of lists and queries from now on; nothing else changes."""
        self._known = self.client.runs.archive(self._workspace, self.id)

    def reactivate(self) -> None:
        self._known = self.client.runs.reactivate(self._workspace, self.id)

    def delete(self) -> Record:
        """Puts the run and its descendants into the trash; the entry's `id` restores them: `workspace.restore(entry)`."""
        return self.client.runs.delete(self._workspace, self.id)

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
            elif not self._has(path) and os.path.exists(path):  # looking delivers what was logged and uploaded before
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
        return html_of_fields("Run", fields)


ScriptRun = Run
_contexts: Dict[int, Run] = {}


def _context_run(active: ActiveRun) -> Run:
    """One Run for one context, however often it is asked for."""
    if id(active) not in _contexts:
        _contexts[id(active)] = Run(None, "", _active=active)
    return _contexts[id(active)]


def get_run(experiment: "Experiment", run_id: str, rehydrate: bool = True, clean_up: bool = True) -> Run:
    return Run.get(experiment.workspace, run_id)
