"""Web services: images as load-balanced HTTP endpoints, updated with no request lost."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from .._show import html_of_fields
from ..client import ActivityFailed, Record
from ._deployment import DeploymentConfiguration, InferenceConfig
from ._scoring import ask
from .exceptions import ServiceError, UserErrorException, WebserviceException
from .image import ContainerImage, ContainerImageConfig, Image
from .model import Model, TagFilter, _listed, holds, texts

if TYPE_CHECKING:
    from .workspace import Workspace

__all__ = [
    "AciWebservice",
    "AksWebservice",
    "DeploymentConfiguration",
    "HostWebservice",
    "InferenceConfig",
    "LocalWebservice",
    "Webservice",
]
STATES = {
    "deploying": "Transitioning",
    "updating": "Transitioning",
    "healthy": "Healthy",
    "unhealthy": "Unhealthy",
    "failed": "Failed",
    "deleting": "Deleting",
}


class Webservice:
    """`Webservice(ws, "name")` gets one that is there, or raises a WebserviceException."""

    def __init__(self, workspace: "Workspace", name: str) -> None:
        self.workspace = workspace
        self._keys: Optional[Tuple[str, str]] = None
        self._record: Record = workspace.client.services.get(workspace.name, name)

    @classmethod
    def _of(cls, workspace: "Workspace", record: Record) -> "Webservice":
        made = cls.__new__(cls)
        made.workspace, made._record, made._keys = workspace, record, None
        return made

    @staticmethod
    def deploy_configuration(**named: Any) -> DeploymentConfiguration:
        """`auth_enabled`, `num_replicas`, `scoring_timeout_ms`, `tags` and `description`; cores, memory and the like are accepted."""
        return DeploymentConfiguration(**named)

    @classmethod
    def deploy_from_image(
        cls,
        workspace: "Workspace",
        name: str,
        image: Union[Image, str],
        deployment_config: Optional[DeploymentConfiguration] = None,
        deployment_target: Any = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Deploys an image; returns at once. With `overwrite` a service of that name is updated to it."""
        fields = (deployment_config or DeploymentConfiguration()).fields()
        target = deployment_target if isinstance(deployment_target, str) else getattr(deployment_target, "name", None)
        wanted = image if isinstance(image, str) else image.id
        services = workspace.client.services
        if overwrite and any(one["name"].lower() == name.lower() for one in services.list(workspace.name).all()):
            return cls._of(workspace, services.update(workspace.name, name, image=wanted, **fields))
        return cls._of(
            workspace, services.deploy(workspace.name, name, wanted, target=None if target == "local" else target, **fields)
        )

    @classmethod
    def deploy_from_model(
        cls,
        workspace: "Workspace",
        name: str,
        models: Sequence[Union[Model, str]],
        image_config: ContainerImageConfig,
        deployment_config: Optional[DeploymentConfiguration] = None,
        deployment_target: Any = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Builds an image of the service's name, waits for it, and deploys it."""
        image = ContainerImage.create(workspace, name, models, image_config)
        image.wait_for_creation()
        return cls.deploy_from_image(workspace, name, image, deployment_config, deployment_target, overwrite)

    @classmethod
    def deploy(
        cls,
        workspace: "Workspace",
        name: str,
        model_paths: Sequence[str],
        image_config: ContainerImageConfig,
        deployment_config: Optional[DeploymentConfiguration] = None,
        deployment_target: Any = None,
        overwrite: bool = False,
    ) -> "Webservice":
        """Registers files or folders as models, named like them, builds an image of them and deploys it."""
        import os

        models = [Model.register(workspace, path, os.path.basename(os.path.normpath(path))) for path in model_paths]
        return cls.deploy_from_model(workspace, name, models, image_config, deployment_config, deployment_target, overwrite)

    @staticmethod
    def list(
        workspace: "Workspace",
        compute_type: Any = None,
        image_name: Optional[str] = None,
        image_id: Optional[str] = None,
        model_name: Optional[str] = None,
        model_id: Optional[str] = None,
        tags: TagFilter = None,
        properties: TagFilter = None,
        image_digest: Optional[str] = None,
    ) -> List["Webservice"]:
        def wanted(one: Record) -> bool:
            names = [id.rpartition(":")[0] for id in one["models"]]
            return (
                (image_id is None or one["image"] == image_id)
                and (model_id is None or model_id in one["models"])
                and (model_name is None or model_name in names)
                and holds(one["tags"], tags)
            )

        page = workspace.client.services.list(workspace.name, image=image_name)
        return [HostWebservice._of(workspace, one) for one in page.all() if wanted(one)]

    @property
    def name(self) -> str:
        return self._record["name"]

    @property
    def state(self) -> str:
        return STATES[self._record["state"]]

    @property
    def error(self) -> Optional[str]:
        return self._record.get("reason")

    @property
    def scoring_uri(self) -> str:
        return self._record["scoringUri"]

    @property
    def image_id(self) -> str:
        return self._record["image"]

    @property
    def image(self) -> Image:
        return ContainerImage(self.workspace, id=self._record["image"])

    @property
    def models(self) -> List[Model]:
        return [Model(self.workspace, id=one) for one in self._record["models"]]

    @property
    def num_replicas(self) -> int:
        return self._record["replicas"]

    @property
    def auth_enabled(self) -> bool:
        return self._record["authentication"] == "key"

    @property
    def compute_type(self) -> str:
        return self._record["target"]

    @property
    def description(self) -> Optional[str]:
        return self._record.get("description")

    @property
    def tags(self) -> Dict[str, str]:
        return dict(self._record["tags"])

    @property
    def created_time(self) -> str:
        return self._record["createdAt"]

    @property
    def updated_time(self) -> str:
        return self._record["updatedAt"]

    def update_deployment_state(self) -> None:
        self._record = self.workspace.client.services.get(self.workspace.name, self.name)

    def wait_for_deployment(self, show_output: bool = False, timeout_sec: Optional[float] = None) -> None:
        """Waits until the last change is done; raises a WebserviceException with the end of the log if it failed."""
        self.update_deployment_state()
        activity = self._record.get("activity")
        try:
            if activity:
                self.workspace.client.activities.get(self.workspace.name, activity).wait(timeout_sec, show_output)
        except (ActivityFailed, TimeoutError) as error:
            self.update_deployment_state()
            lines = "\n".join(self.get_logs(20).splitlines())
            raise WebserviceException(
                "The web service %s is %s: %s\n%s" % (self.name, self.state.lower(), error, lines)
            ) from None
        self.update_deployment_state()
        if show_output:
            sys.stdout.write("Web service %s: %s at %s\n" % (self.name, self.state, self.scoring_uri))

    def run(self, input_data: Union[str, bytes]) -> Any:
        """Scores: sends the text or bytes, with the service's key, and returns the answer (JSON as its value)."""
        key = self.get_keys()[0] if self.auth_enabled else None
        trusted = self.workspace.client.transport.ca_bundle
        try:
            return ask(self.scoring_uri, input_data, key, trusted)
        except WebserviceException as error:
            if error.status_code != 401:
                raise
            self._keys = None  # they were regenerated since
            return ask(self.scoring_uri, input_data, self.get_keys()[0], trusted)

    def get_keys(self) -> Tuple[str, str]:
        """The primary and the secondary key."""
        if self._keys is None:
            keys = self.workspace.client.services.get_keys(self.workspace.name, self.name)
            self._keys = (keys["primary"], keys["secondary"])
        return self._keys

    def regen_key(self, key: str, set_key: Any = None) -> Tuple[str, str]:
        """Replaces the `Primary` or the `Secondary` key; the other goes on working."""
        if set_key is not None:
            raise UserErrorException("A key cannot be chosen; the server makes a new one.")
        keys = self.workspace.client.services.regenerate_key(self.workspace.name, self.name, str(key).lower())
        self._keys = (keys["primary"], keys["secondary"])
        return self._keys

    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """What the replicas printed."""
        return self.workspace.client.services.get_log(self.workspace.name, self.name, lines=num_lines).text()

    def update(
        self,
        image: Union[None, Image, str] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        auth_enabled: Optional[bool] = None,
        num_replicas: Optional[int] = None,
        models: Optional[Sequence[Model]] = None,
        inference_config: Optional[ContainerImageConfig] = None,
        scoring_timeout_ms: Optional[int] = None,
        **_: Any,
    ) -> None:
        """Rolls another image out with no request lost, or changes settings; `wait_for_deployment` waits for it."""
        if image is None and inference_config is not None:
            image = ContainerImage.create(
                self.workspace, self.name, models if models is not None else self.models, inference_config
            )
            image.wait_for_creation()
        fields = DeploymentConfiguration(auth_enabled, num_replicas, scoring_timeout_ms, tags, properties, description).fields()
        wanted = image if image is None or isinstance(image, str) else image.id
        self._record = self.workspace.client.services.update(self.workspace.name, self.name, image=wanted, **fields)

    def scale(self, replicas: int) -> None:
        self._record = self.workspace.client.services.scale(self.workspace.name, self.name, replicas)

    def add_tags(self, tags: Mapping[str, Any]) -> None:
        self.update(tags={**self.tags, **(texts(tags) or {})})

    def remove_tags(self, tags: Iterable[str]) -> None:
        gone = _listed(tags)
        self.update(tags={key: value for key, value in self.tags.items() if key not in gone})

    def delete(self, **_: Any) -> None:
        """Ends and deletes the service; returns when it is gone."""
        self.workspace.client.services.delete(self.workspace.name, self.name)
        pause = 0.1
        for _attempt in range(100):
            try:
                self.update_deployment_state()
            except ServiceError as error:
                if error.reason == "web-service.not-found":
                    return
                raise
            if self._record["state"] != "deleting":
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 2)
        raise WebserviceException("The web service %s is not gone yet: it is %s." % (self.name, self.state.lower()))

    def serialize(self) -> Dict[str, Any]:
        return json.loads(json.dumps(self._record))

    def __repr__(self) -> str:
        return "%s(workspace=%s, name=%s, image_id=%s, state=%s)" % (
            type(self).__name__,
            self.workspace.name,
            self.name,
            self.image_id,
            self.state,
        )

    def _repr_html_(self) -> str:
        shown = (
            "name",
            "state",
            "image",
            "models",
            "replicas",
            "authentication",
            "scoringUri",
            "tags",
            "description",
            "createdAt",
            "createdBy",
        )
        return html_of_fields("Web service", {name: self._record.get(name) for name in shown})


class HostWebservice(Webservice):
    """A web service on the machine that the server runs on."""


# What Azure's code names is served by the host.
class LocalWebservice(HostWebservice):
    """Code that deploys to the local Docker deploys to the host."""

    @staticmethod
    def deploy_configuration(port: Optional[int] = None, **named: Any) -> DeploymentConfiguration:
        return DeploymentConfiguration(port=port, **named)

    def reload(self, wait: bool = False) -> None:
        self.update(image=self.image_id)
        if wait:
            self.wait_for_deployment()


class AciWebservice(HostWebservice):
    """Code that deploys to container instances deploys to the host."""

    @staticmethod
    def deploy_configuration(
        cpu_cores: Optional[float] = None,
        memory_gb: Optional[float] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        location: Optional[str] = None,
        auth_enabled: Optional[bool] = None,
        **accepted: Any,
    ) -> DeploymentConfiguration:
        # Container instances have no key unless one is asked for.
        return DeploymentConfiguration(
            bool(auth_enabled),
            tags=tags,
            properties=properties,
            description=description,
            cpu_cores=cpu_cores,
            memory_gb=memory_gb,
            **accepted,
        )


class AksWebservice(HostWebservice):
    """Code that deploys to Kubernetes deploys to the host."""
