"""A Kubernetes cluster as compute target: each run is a Job in a namespace of it."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, Optional, Union

from .compute import ComputeTarget, RemoteAttachConfiguration, _refuse_others
from .exceptions import ComputeTargetException


class AksCompute(ComputeTarget):
    """A namespace of a Kubernetes cluster, whoever runs it."""

    @staticmethod
    def attach_configuration(
        kubeconfig_file: str = "~/.kube/config", namespace: Optional[str] = None, context: Optional[str] = None, image: Optional[str] = None,
        registry_user: Optional[str] = None, registry_password: Optional[str] = None, node_selector: Optional[Mapping[str, str]] = None,
        **others: Any,
    ) -> RemoteAttachConfiguration:  # fmt: skip
        """The kubeconfig goes into the vault; it has to hold all itself (`kubectl config view --flatten --minify`). `image` is that of runs which
        name none, signed in to with user and password. What only a cloud has (`resource_group`, `cluster_name` …) is refused."""
        _refuse_others(others)
        with open(os.path.expanduser(kubeconfig_file), encoding="utf-8") as file:
            sign_in = {"kubeconfig": file.read()}
        sign_in.update({what: value for what, value in (("registryUser", registry_user), ("registryPassword", registry_password)) if value})
        settings: Dict[str, Any] = {"kind": "kubernetes"}
        given = (("namespace", namespace), ("context", context), ("image", image), ("nodeSelector", node_selector and dict(node_selector)))
        settings.update({name: value for name, value in given if value})
        return RemoteAttachConfiguration(settings, sign_in)

    @staticmethod
    def provisioning_configuration(
        on: Optional[str] = None, namespace: Optional[str] = None, cpus: Optional[int] = None, memory: Union[int, str, None] = None,
        gpus: Optional[int] = None, max_pods: Optional[int] = None, **others: Any,
    ) -> Dict[str, Any]:  # fmt: skip
        """A namespace of its own on the attached cluster `on`, in which all runs together have no more than this. What only a cloud has
        (`agent_count`, `vm_size`, `location` …) is refused."""
        _refuse_others(others)
        if not on:
            raise ComputeTargetException("Name the attached cluster that it is made on: provisioning_configuration(on=\"cluster\").")
        wanted = {"kind": "kubernetes", "on": on, "namespace": namespace, "cpus": cpus, "memory": memory, "gpus": gpus, "maxPods": max_pods}
        return {name: value for name, value in wanted.items() if value is not None}

    @property
    def namespace(self) -> str:
        return self._record["settings"]["namespace"]

    @property
    def image(self) -> str:
        return self._record["settings"]["image"]
