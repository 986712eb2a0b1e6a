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
        made = object.__new__(_CLASSES.get(record["kind"], ComputeTarget))
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
    def create(workspace: "Workspace", name: str, provisioning_configuration: Mapping[str, Any]) -> "ComputeTarget":
        """Makes one on an attached one; wait for it with `wait_for_completion`. The configuration comes from `provisioning_configuration` of
        its class, or is the contract's settings of what is to be made, such as `{"kind": "slurm", "on": "cluster", "maxNodes": 4}`."""
        wanted = dict(provisioning_configuration)
        return ComputeTarget._of(workspace, workspace.client.compute.create(workspace.name, name, wanted))

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
        return _PROVISIONING_STATES[self._record["state"]]

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

    def detach(self, force: bool = False) -> None:
        """Lets go of one that was attached; the machine stays as it is. `force` cancels the runs that are open on it first."""
        self.workspace.client.compute.detach(self.workspace.name, self.name, force=force or None).wait()

    def delete(self, force: bool = False) -> None:
        """Removes one that was created, with all that was made for it; one that was attached is detached."""
        if not self._record["created"]:
            return self.detach(force)
        self.workspace.client.compute.delete(self.workspace.name, self.name, force=force or None).wait()

    def serialize(self) -> Dict[str, Any]:
        return dict(self._record)

    def __repr__(self) -> str:
        return "ComputeTarget(name=%r, type=%r)" % (self.name, self.type)

    def _repr_html_(self) -> str:
        record = self._record
        fields = {name: record[name] for name in ("name", "kind", "state", "queued", "running")}
        return html_of_fields("Compute target", fields)


_PROVISIONING_STATES = {
    "usable": "Succeeded", "attaching": "Creating", "creating": "Creating", "detaching": "Deleting", "deleting": "Deleting", "failed": "Failed",
}  # fmt: skip


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
        sign_in = _sign_in_of(private_key_file, private_key_passphrase, password)
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


class HDInsightCompute(RemoteCompute):
    """A Spark cluster, reached by SSH on its head node."""

    @staticmethod
    def attach_configuration(  # type: ignore[override]
        username: str, address: str, ssh_port: int = 22, password: Optional[str] = None, private_key_file: Optional[str] = None,
        private_key_passphrase: Optional[str] = None, host_key: Optional[str] = None, master: Optional[str] = None,
        spark_home: Optional[str] = None, livy: Optional[str] = None,
    ) -> RemoteAttachConfiguration:  # fmt: skip
        """As for a machine by SSH. `master` is the cluster manager (`yarn`, `spark://host:7077`), `livy` the address of a Livy that starts the runs."""
        where = {"kind": "spark", "user": username, "address": address, "port": ssh_port, "hostKey": host_key}
        spark = {"master": master, "sparkHome": spark_home, "livy": livy}
        return _signed_in({**where, **spark}, password, private_key_file, private_key_passphrase)


def _signed_in(where: Mapping[str, Any], password: Optional[str], key_file: Optional[str], passphrase: Optional[str]) -> RemoteAttachConfiguration:
    sign_in = {}
    if key_file:
        with open(os.path.expanduser(key_file), encoding="utf-8") as file:
            sign_in["key"] = file.read()
    if passphrase:
        sign_in["passphrase"] = passphrase
    if password:
        sign_in["password"] = password
    return RemoteAttachConfiguration({name: value for name, value in where.items() if value is not None}, sign_in)


class BatchAiCompute(ComputeTarget):
    """A cluster whose nodes are switched on and off as they are needed: a partition of an attached Slurm cluster."""

    @staticmethod
    def provisioning_configuration(
        vm_size: Optional[str] = None, cluster_min_nodes: Optional[int] = None, cluster_max_nodes: Optional[int] = None, on: Optional[str] = None,
        autoscale_enabled: bool = True, idle_seconds_before_scaledown: Optional[int] = None, **others: Any,
    ) -> Dict[str, Any]:  # fmt: skip
        """`on` is the attached cluster, which is needed; `vm_size` names features that its nodes have. What only a cloud has (`vm_priority`,
        `vnet_name`, `location` …) is refused."""
        _refuse_others(others)
        most = cluster_max_nodes if cluster_max_nodes is not None else 1
        return _partition(on, vm_size, cluster_min_nodes if autoscale_enabled else most, most, idle_seconds_before_scaledown)

    @property
    def nodes(self) -> Optional[Dict[str, int]]:
        """How many nodes are idle, running, starting and off just now."""
        self.refresh_state()
        return self._record.get("nodes")

    def update(self, min_nodes: Optional[int] = None, max_nodes: Optional[int] = None, idle_seconds_before_scaledown: Optional[int] = None) -> None:
        """Changes how many nodes it may have."""
        wanted = dict(self._record["provisioning"])
        for name, value in (("minNodes", min_nodes), ("maxNodes", max_nodes), ("idleSecondsBeforeScaleDown", idle_seconds_before_scaledown)):
            if value is not None:
                wanted[name] = value
        self._record = self.workspace.client.compute.scale(self.workspace.name, self.name, wanted)

    def wait_for_completion(self, show_output: bool = False, min_node_count: Optional[int] = None, timeout_in_minutes: Optional[float] = None) -> None:
        """Until it can be used and, with `min_node_count`, so many of its nodes are on."""
        super().wait_for_completion(show_output)
        until = None if timeout_in_minutes is None else time.monotonic() + 60 * timeout_in_minutes
        while min_node_count and sum((self.nodes or {}).get(name, 0) for name in ("idle", "running")) < min_node_count:
            if until is not None and time.monotonic() > until:
                raise ComputeTargetException("%s does not have %d nodes after %g minutes." % (self.name, min_node_count, timeout_in_minutes))
            time.sleep(1.0)


class AmlCompute(BatchAiCompute):
    """The name that code from 2019 on has for a cluster."""

    @staticmethod
    def provisioning_configuration(  # type: ignore[override]
        vm_size: Optional[str] = None, min_nodes: Optional[int] = None, max_nodes: Optional[int] = None,
        idle_seconds_before_scaledown: Optional[int] = None, on: Optional[str] = None, **others: Any,
    ) -> Dict[str, Any]:  # fmt: skip
        _refuse_others(others)
        return _partition(on, vm_size, min_nodes, max_nodes if max_nodes is not None else 1, idle_seconds_before_scaledown)


class SlurmCompute(BatchAiCompute):
    """A Slurm cluster whose login node is reached by SSH, or a partition of one."""

    @staticmethod
    def attach_configuration(
        username: str, address: Optional[str] = None, ssh_port: int = 22, password: Optional[str] = None, private_key_file: Optional[str] = None,
        private_key_passphrase: Optional[str] = None, host_key: Optional[str] = None, **settings: Any,
    ) -> RemoteAttachConfiguration:  # fmt: skip
        """How its login node is signed in to; what else is given are the settings of its kind: `partition`, `account`, `qos`, `setUp` … Without an address all goes by `restUrl`."""
        sign_in = _sign_in_of(private_key_file, private_key_passphrase, password)
        known = {"kind": "slurm", "user": username, "address": address, "port": ssh_port, "hostKey": host_key}
        given = {name: value for name, value in dict(known, **settings).items() if value is not None}
        return RemoteAttachConfiguration(given, sign_in)

    @property
    def address(self) -> Optional[str]:
        return self._record["settings"].get("address")

    @property
    def username(self) -> str:
        return self._record["settings"]["user"]

    @property
    def partition(self) -> Optional[str]:
        return self._record["settings"].get("partition")


def _sign_in_of(private_key_file: Optional[str], private_key_passphrase: Optional[str], password: Optional[str]) -> Dict[str, str]:
    sign_in = {}
    if private_key_file:
        with open(os.path.expanduser(private_key_file), encoding="utf-8") as file:
            sign_in["key"] = file.read()
    if private_key_passphrase:
        sign_in["passphrase"] = private_key_passphrase
    if password:
        sign_in["password"] = password
    return sign_in


def _partition(on: Optional[str], vm_size: Optional[str], least: Optional[int], most: int, idle_seconds: Optional[int]) -> Dict[str, Any]:
    if not on:
        raise ComputeTargetException("Name the attached cluster that it is made on: provisioning_configuration(…, on=\"cluster\").")
    wanted = {"kind": "slurm", "on": on, "minNodes": least, "maxNodes": most, "vmSize": vm_size, "idleSecondsBeforeScaleDown": idle_seconds}
    return {name: value for name, value in wanted.items() if value is not None}


def _refuse_others(others: Mapping[str, Any]) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ComputeTargetException("These belong to a cloud and mean nothing here, leave them out: %s." % ", ".join(sorted(given)))


from .compute_docker import DockerCompute  # noqa: E402 (it is a ComputeTarget)
from .compute_kubernetes import AksCompute  # noqa: E402

_CLASSES: Dict[str, Any] = {
    "ssh": RemoteCompute, "slurm": SlurmCompute, "spark": HDInsightCompute, "docker": DockerCompute, "kubernetes": AksCompute,
}  # fmt: skip
