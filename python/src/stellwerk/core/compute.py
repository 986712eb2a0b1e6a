"""Compute targets: where scripts run and web services are hosted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from .._show import html_of_fields
from ..client import Record

if TYPE_CHECKING:
    from .workspace import Workspace


class ComputeTarget:
    """`ComputeTarget(workspace=ws, name="host")` gets one that is there, or raises a ComputeTargetException."""

    def __init__(self, workspace: "Workspace", name: str) -> None:
        self.workspace = workspace
        self._record: Record = workspace.client.compute.get(workspace.name, name)

    @classmethod
    def _of(cls, workspace: "Workspace", record: Record) -> "ComputeTarget":
        made = cls.__new__(cls)
        made.workspace, made._record = workspace, record
        return made

    @staticmethod
    def attach(workspace: "Workspace", name: str, attach_configuration: Mapping[str, Any]) -> "ComputeTarget":
        """Attaches a machine that exists; the configuration is the contract's settings of its kind, such as `{"kind": "host"}`."""
        return ComputeTarget._of(workspace, workspace.client.compute.attach(workspace.name, name, attach_configuration))

    @staticmethod
    def list(workspace: "Workspace") -> List["ComputeTarget"]:
        return [ComputeTarget._of(workspace, one) for one in workspace.client.compute.list(workspace.name).all()]

    @property
    def name(self) -> str:
        return self._record["name"]

    @property
    def type(self) -> str:
        return self._record["kind"]

    @property
    def description(self) -> Optional[str]:
        return self._record.get("description")

    @property
    def tags(self) -> Dict[str, str]:
        return dict(self._record["tags"])

    @property
    def provisioning_state(self) -> str:
        return {"usable": "Succeeded", "attaching": "Creating", "failed": "Failed"}[self._record["state"]]

    def refresh_state(self) -> None:
        self._record = self.workspace.client.compute.get(self.workspace.name, self.name)

    def get_status(self) -> str:
        self.refresh_state()
        return self.provisioning_state

    def probe(self) -> Record:
        """Whether it can be used, and what to do if not."""
        return self.workspace.client.compute.probe(self.workspace.name, self.name)

    def detach(self) -> None:
        self.workspace.client.compute.detach(self.workspace.name, self.name)

    delete = detach

    def serialize(self) -> Dict[str, Any]:
        return dict(self._record)

    def __repr__(self) -> str:
        return "ComputeTarget(name=%r, type=%r)" % (self.name, self.type)

    def _repr_html_(self) -> str:
        record = self._record
        fields = {name: record[name] for name in ("name", "kind", "state", "queued", "running")}
        return html_of_fields("Compute target", fields)
