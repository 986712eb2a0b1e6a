"""Compute targets: where scripts run and web services are hosted."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union

from .._show import html_of_fields
from ..client import Record
from .exceptions import ComputeTargetException

if TYPE_CHECKING:
    from .workspace import Workspace


class ComputeTarget:
    """`ComputeTarget(workspace=ws, name="host")` gets one that is there, or raises a ComputeTargetException."""

    def __new__(cls, workspace: "Workspace", name: str) -> "ComputeTarget":
        return cls._of(workspace, workspace.client.compute.get(workspace.name, name))

    workspace: "Workspace"
    _record: Record

    @classmethod
    def _of(cls, workspace: "Workspace", record: Record) -> "ComputeTarget":
        made = object.__new__(RemoteCompute if record["kind"] == "ssh" else cls)
        made.workspace, made._record = workspace, record
        return made

    @staticmethod
    def attach(workspace: "Workspace", name: str, attach_configuration: Union[Mapping[str, Any], "RemoteAttachConfiguration"]) -> "ComputeTarget":
        """Attaches a machine that exists. The configuration comes from `RemoteCompute.attach_configuration`, or is the contract's settings of
        its kind, such as `{"kind": "host"}`."""
        settings = attach_configuration
        if isinstance(settings, RemoteAttachConfiguration):
            settings = settings.kept(workspace, name)
        return ComputeTarget._of(workspace, workspace.client.compute.attach(workspace.name, name, settings))

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

    def wait_for_completion(self, show_output: bool = False) -> None:
        """Until it can be used; raises a ComputeTargetException if it cannot."""
        while self.get_status() == "Creating":
            time.sleep(1.0)
        if show_output:
            print("%s: %s" % (self.name, self.provisioning_state))
        if self.provisioning_state == "Failed":
            raise ComputeTargetException("%s cannot be used: %s" % (self.name, self._record.get("reason") or "it failed"))

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


class RemoteAttachConfiguration:
    """A machine that is reached by SSH, with what to sign in there; that goes into the workspace's vault when it is attached."""

    def __init__(self, settings: Mapping[str, Any], sign_in: Mapping[str, str]) -> None:
        self._settings = settings
        self._sign_in = sign_in

    def kept(self, workspace: "Workspace", name: str) -> Dict[str, Any]:
        """The settings, once the vault has what they name."""
        names = {what: "%s-%s" % (name, what) for what in self._sign_in}
        for what, secret in names.items():
            workspace.client.secrets.set(workspace.name, secret, value=self._sign_in[what])
        return dict(self._settings, **names)

    def __repr__(self) -> str:
        return "RemoteAttachConfiguration(%r)" % (dict(self._settings),)


class RemoteCompute(ComputeTarget):
    """A Linux machine that is reached by SSH."""

    @staticmethod
    def attach_configuration(
        username: str, address: str, ssh_port: int = 22, password: Optional[str] = None, private_key_file: Optional[str] = None,
        private_key_passphrase: Optional[str] = None, host_key: Optional[str] = None,
    ) -> RemoteAttachConfiguration:  # fmt: skip
        """With a password or the file of a private key. Without `host_key` the refusal tells the one that the machine shows, to be compared."""
        sign_in = {}
        if private_key_file:
            with open(os.path.expanduser(private_key_file), encoding="utf-8") as file:
                sign_in["key"] = file.read()
        if private_key_passphrase:
            sign_in["passphrase"] = private_key_passphrase
        if password:
            sign_in["password"] = password
        settings = {"kind": "ssh", "user": username, "address": address, "port": ssh_port}
        return RemoteAttachConfiguration(dict(settings, **({"hostKey": host_key} if host_key else {})), sign_in)

    @property
    def address(self) -> str:
        return self._record["settings"]["address"]

    @property
    def ssh_port(self) -> int:
        return self._record["settings"]["port"]

    @property
    def username(self) -> str:
        return self._record["settings"]["user"]


class DsvmCompute(RemoteCompute):
    """The name that older code has for a virtual machine with data science's tools."""
