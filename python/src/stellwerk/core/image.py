"""Images: models, a scoring script and what they need, built by the server without Docker."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from .._show import html_of_fields
from .._uploads import upload_tree
from ..client import Activity, ActivityFailed, Record
from ._transfers import upload_files
from .conda_dependencies import CondaDependencies
from .environment import Environment
from .exceptions import UserErrorException, WebserviceException
from .model import Model, TagFilter, _listed, holds, pairs, texts

if TYPE_CHECKING:
    from .workspace import Workspace

__all__ = ["ContainerImage", "ContainerImageConfig", "Image"]
STATES = {"building": "Creating", "succeeded": "Succeeded", "failed": "Failed", "canceled": "Canceled"}


class ContainerImageConfig:
    """What goes into an image beside the models. The script and the files keep their paths below `source_directory`."""

    def __init__(
        self,
        execution_script: str,
        runtime: str = "python",
        conda_file: Optional[str] = None,
        docker_file: Optional[str] = None,
        schema_file: Optional[str] = None,
        dependencies: Optional[Iterable[str]] = None,
        enable_gpu: Optional[bool] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        base_image: Optional[str] = None,
        environment: Optional[Environment] = None,
        source_directory: Optional[str] = None,
        environment_variables: Optional[Mapping[str, str]] = None,
    ) -> None:
        if docker_file is not None:
            raise WebserviceException(
                "An image is made without Docker, so there are no steps of a Dockerfile; name a base_image that holds what is needed."
            )
        if str(runtime).lower() not in ("python", "python-slim"):
            raise WebserviceException("The runtime %s is not known here; images serve Python." % runtime)
        self.source_directory = source_directory or "."
        self.execution_script = execution_script
        self.conda_file = conda_file
        self.schema_file = schema_file
        self.dependencies = list(dependencies or [])
        self.tags, self.properties, self.description = texts(tags), texts(properties), description
        self.base_image = base_image
        self.environment = environment
        self.environment_variables = dict(environment_variables or {})

    def files(self) -> Dict[str, str]:
        """The place on this disk of each file of the image, by its path there."""
        found: Dict[str, str] = {}
        for given in [self.execution_script, *self.dependencies, *([self.schema_file] if self.schema_file else [])]:
            place = self._place(given)
            name = self.path_of(given)
            if os.path.isdir(place):
                found.update((("%s/%s" % (name, one)).lstrip("./"), path) for one, path in upload_tree(place))
            else:
                found[name] = place
        return found

    def _place(self, given: str) -> str:
        inside = os.path.join(self.source_directory, given)
        place = inside if os.path.exists(inside) else given
        if not os.path.exists(place):
            raise WebserviceException("There is no file or folder %s for the image." % given)
        return place

    def path_of(self, given: str) -> str:
        """Where it lies in the image: as given, or under its own name if that would lead out of the directory."""
        relative = os.path.relpath(self._place(given), self.source_directory).replace(os.sep, "/")
        return os.path.basename(os.path.normpath(given)) if relative.startswith("../") or os.path.isabs(relative) else relative

    def source(self) -> Dict[str, Any]:
        """The contract's `EnvironmentSource`: the content of the conda file, or that of the environment."""
        if self.conda_file is not None:
            return {"conda": CondaDependencies(self._place(self.conda_file)).as_dict()}
        source = self.environment.source() if self.environment is not None else {}
        if source.get("userManaged"):
            raise WebserviceException("An image needs an environment that is built; this one is a Python that the user manages.")
        if source.get("condaFile"):
            source["conda"] = CondaDependencies(self._place(source.pop("condaFile"))).as_dict()
        return source

    def variables(self) -> Dict[str, str]:
        return {**(self.environment.environment_variables if self.environment else {}), **self.environment_variables}


class Image:
    """`Image(ws, "name")` is the latest version; `Image(ws, "name", version=2)` and `Image(ws, id="name:2")` others."""

    def __init__(
        self,
        workspace: "Workspace",
        name: Optional[str] = None,
        id: Optional[str] = None,
        tags: TagFilter = None,
        properties: TagFilter = None,
        version: Union[None, int, str] = None,
    ) -> None:
        self.workspace = workspace
        if id is not None:
            name, _, version = id.rpartition(":") if ":" in id else (id, "", "latest")
        if not name:
            raise UserErrorException("Give the name or the id of the image.")
        if version is None and (tags or properties):
            found = Image.list(workspace, name, tags=tags, properties=properties)
            if not found:
                raise WebserviceException(
                    "There is no image %s with these tags and properties in the workspace %s." % (name, workspace.name)
                )
            version = found[0].version
        self._record: Record = workspace.client.images.get(
            workspace.name, name, str(version if version is not None else "latest")
        )

    @classmethod
    def _of(cls, workspace: "Workspace", record: Record) -> "Image":
        made = cls.__new__(cls)
        made.workspace, made._record = workspace, record
        return made

    @staticmethod
    def create(
        workspace: "Workspace", name: str, models: Sequence[Union[Model, str]], image_config: ContainerImageConfig
    ) -> "Image":
        """Builds an image; returns at once. `wait_for_creation` waits for it."""
        files = image_config.files()
        record = workspace.client.images.create(
            workspace.name,
            name,
            image_config.path_of(image_config.execution_script),
            upload_files(workspace.client, workspace.name, sorted(files.items()), "Uploading files of image %s" % name),
            models=[one if isinstance(one, str) else one.id for one in models],
            environment=image_config.source(),
            base_image=image_config.base_image,
            environment_variables=image_config.variables() or None,
            description=image_config.description,
            tags=image_config.tags,
            properties=image_config.properties,
        )
        return ContainerImage._of(workspace, record)

    @staticmethod
    def image_configuration(*arguments: Any, **named: Any) -> ContainerImageConfig:
        return ContainerImageConfig(*arguments, **named)

    @staticmethod
    def list(
        workspace: "Workspace",
        image_name: Optional[str] = None,
        model_name: Optional[str] = None,
        model_id: Optional[str] = None,
        tags: TagFilter = None,
        properties: TagFilter = None,
    ) -> List["Image"]:
        """Newest first."""
        page = workspace.client.images.list(
            workspace.name,
            name=image_name,
            tag=[key if value is None else "%s=%s" % (key, value) for key, value in pairs(tags)] or None,
            model=model_id or model_name,
        )
        return [ContainerImage._of(workspace, one) for one in page.all() if holds(one["properties"], properties)]

    @property
    def name(self) -> str:
        return self._record["name"]

    @property
    def version(self) -> int:
        return self._record["version"]

    @property
    def id(self) -> str:
        return self._record["id"]

    @property
    def creation_state(self) -> str:
        return STATES[self._record["state"]]

    @property
    def image_location(self) -> Optional[str]:
        return self._record.get("location")

    @property
    def image_digest(self) -> Optional[str]:
        return self._record.get("digest")

    @property
    def image_type(self) -> str:
        return self._record["kind"].capitalize()

    @property
    def image_flavor(self) -> str:
        return "WebApiContainer"

    @property
    def created_time(self) -> str:
        return self._record["createdAt"]

    @property
    def description(self) -> Optional[str]:
        return self._record.get("description")

    @property
    def tags(self) -> Dict[str, str]:
        return dict(self._record["tags"])

    @property
    def properties(self) -> Dict[str, str]:
        return dict(self._record["properties"])

    @property
    def model_ids(self) -> List[str]:
        return list(self._record["models"])

    @property
    def models(self) -> List[Model]:
        return [Model(self.workspace, id=one) for one in self._record["models"]]

    @property
    def image_build_log_uri(self) -> str:
        """The address of the build's log; it asks for the token of a reader of the workspace. `get_build_log` has the text."""
        return "%s/api/v1/workspaces/%s/activities/%s/log" % (
            self.workspace.client.url,
            self.workspace.name,
            self._record["activity"],
        )

    def get_build_log(self) -> str:
        return self.workspace.client.activities.get_log(self.workspace.name, self._record["activity"]).text()

    @property
    def activity(self) -> Activity:
        return self.workspace.client.activities.get(self.workspace.name, self._record["activity"])

    def wait_for_creation(self, show_output: bool = False) -> None:
        """Waits until it is built; raises a WebserviceException with the end of the log if it could not be."""
        try:
            self.activity.wait(show_output=show_output)
        except ActivityFailed as error:
            self.update_creation_state()
            lines = "\n".join(self.get_build_log().splitlines()[-20:])
            raise WebserviceException("The image %s was not built: %s\n%s" % (self.id, error, lines)) from None
        self.update_creation_state()
        if show_output:
            sys.stdout.write("Image %s: %s\n" % (self.id, self.creation_state))

    def update_creation_state(self) -> None:
        self._record = self.workspace.client.images.get(self.workspace.name, self.name, str(self.version))

    def update(self, tags: Mapping[str, Any]) -> None:
        """Replaces the tags."""
        self._change({**{key: None for key in self.tags if key not in tags}, **(texts(tags) or {})})

    def add_tags(self, tags: Mapping[str, Any]) -> None:
        self._change(dict(texts(tags) or {}))

    def remove_tags(self, tags: Iterable[str]) -> None:
        self._change({key: None for key in _listed(tags)})

    def _change(self, tags: Dict[str, Optional[str]]) -> None:
        self._record = self.workspace.client.images.update(self.workspace.name, self.name, str(self.version), tags=tags)

    def export(self, path: str, format: str = "docker") -> str:
        """Saves it as an archive: what `docker load` takes, or an OCI layout (`format="oci"`)."""
        return self.workspace.client.images.export(self.workspace.name, self.name, str(self.version), format=format).save(path)

    def delete(self) -> None:
        """Refused while a web service uses it; the error names the service."""
        self.workspace.client.images.delete(self.workspace.name, self.name, str(self.version))

    def serialize(self) -> Dict[str, Any]:
        return dict(self._record)

    def __repr__(self) -> str:
        return "%s(workspace=%s, name=%s, id=%s, version=%s, state=%s)" % (
            type(self).__name__,
            self.workspace.name,
            self.name,
            self.id,
            self.version,
            self.creation_state,
        )

    def _repr_html_(self) -> str:
        shown = ("id", "state", "description", "models", "tags", "digest", "sizeBytes", "location", "createdAt", "createdBy")
        return html_of_fields("Image", {name: self._record.get(name) for name in shown})


class ContainerImage(Image):
    """An OCI image that serves models over HTTP."""

    @staticmethod
    def image_configuration(
        execution_script: str,
        runtime: str = "python",
        conda_file: Optional[str] = None,
        docker_file: Optional[str] = None,
        schema_file: Optional[str] = None,
        dependencies: Optional[Iterable[str]] = None,
        enable_gpu: Optional[bool] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        base_image: Optional[str] = None,
        base_image_registry: Any = None,
        **named: Any,
    ) -> ContainerImageConfig:
        """`execution_script` has `init()` and `run(data)`; `dependencies` are files and folders that it needs."""
        return ContainerImageConfig(
            execution_script,
            runtime,
            conda_file,
            docker_file,
            schema_file,
            dependencies,
            enable_gpu,
            tags,
            properties,
            description,
            base_image,
            **named,
        )
