"""Models by name and version; registering a name again makes the next version."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from .._downloads import download
from .._files import safe_join
from .._show import html_of_fields
from .._transport import path_of
from .._uploads import upload_tree
from ..client import Record
from ._transfers import each, upload_files
from .exceptions import ModelNotFoundException, UserErrorException

if TYPE_CHECKING:
    from .webservice import InferenceConfig, Webservice
    from .workspace import Workspace

TagFilter = Union[None, Mapping[str, str], Iterable[Any]]
CACHE = "azureml-models"


class Model:
    """`Model(ws, "name")` is the latest version, `Model(ws, "name", version=2)`, `Model(ws, id="name:2")` and `Model(ws, "name", version="champion")` others."""

    Framework = type(
        "Framework", (), {"CUSTOM": "Custom", "SCIKITLEARN": "ScikitLearn", "TENSORFLOW": "TensorFlow", "ONNX": "Onnx"}
    )

    def __init__(
        self,
        workspace: "Workspace",
        name: Optional[str] = None,
        id: Optional[str] = None,
        tags: TagFilter = None,
        properties: TagFilter = None,
        version: Union[None, int, str] = None,
        run_id: Optional[str] = None,
        model_framework: Optional[str] = None,
        **_: Any,
    ) -> None:
        self.workspace = workspace
        if id is not None:
            name, _sep, found = id.rpartition(":")
            if not name:
                name, found = id, "latest"
            version = version if version is not None else found
        if not name:
            raise UserErrorException("Give the name or the id of the model.")
        if version is None and (tags or properties or run_id or model_framework):
            found_models = Model.list(workspace, name, tags, properties, run_id, model_framework=model_framework)
            if not found_models:
                raise ModelNotFoundException(
                    "There is no model %s with these tags and properties in the workspace %s." % (name, workspace.name)
                )
            version = found_models[0].version
        self._record: Record = workspace.client.models.get(
            workspace.name, name, str(version if version is not None else "latest")
        )

    @classmethod
    def _of(cls, workspace: "Workspace", record: Record) -> "Model":
        made = cls.__new__(cls)
        made.workspace, made._record = workspace, record
        return made

    @staticmethod
    def register(
        workspace: "Workspace",
        model_path: str,
        model_name: str,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        datasets: Any = None,
        model_framework: Optional[str] = None,
        model_framework_version: Optional[str] = None,
        child_paths: Optional[Iterable[str]] = None,
        show_progress: bool = True,
        **_: Any,
    ) -> "Model":
        """Registers a file or folder of this machine; `child_paths` leaves only these of a folder's files."""
        if not os.path.exists(model_path):
            raise UserErrorException("There is no file or folder %s to register as a model." % model_path)
        files = upload_tree(model_path)
        if child_paths is not None:
            kept = {str(one).replace(os.sep, "/").strip("/") for one in child_paths}
            files = [(name, place) for name, place in files if any(name == one or name.startswith(one + "/") for one in kept)]
        if not files:
            raise UserErrorException("The folder %s holds no file to register as a model." % model_path)
        record = workspace.client.models.register(
            workspace.name,
            model_name,
            files=upload_files(workspace.client, workspace.name, files, "Uploading model %s" % model_name, show_progress),
            description=description,
            framework=model_framework,
            framework_version=model_framework_version,
            tags=texts(tags),
            properties=texts(properties),
        )
        return Model._of(workspace, record)

    @staticmethod
    def list(
        workspace: "Workspace",
        name: Optional[str] = None,
        tags: TagFilter = None,
        properties: TagFilter = None,
        run_id: Optional[str] = None,
        latest: bool = False,
        dataset_id: Any = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: Optional[str] = None,
        *,
        archived: Optional[str] = None,
    ) -> List["Model"]:
        """Newest first. Tags and properties: `{"key": "value"}`, or a list of `"key"` and `["key", "value"]`.

        Archived versions are left out, unless `archived` is `"with"` or `"only"`.
        """
        page = workspace.client.models.list(
            workspace.name,
            name=name,
            tag=[key if value is None else "%s=%s" % (key, value) for key, value in pairs(tags)] or None,
            framework=model_framework,
            run=run_id,
            latest=latest or None,
            archived=archived,
        )
        return [Model._of(workspace, one) for one in page.all() if holds(one["properties"], properties)]

    @staticmethod
    def get_model_path(model_name: str, version: Union[None, int, str] = None, _workspace: Optional["Workspace"] = None) -> str:
        """Where the model lies: in an image, in `azureml-models/` below the working directory, or downloaded there from the workspace."""
        roots = [os.environ.get("STELLWERK_MODELS_DIR"), os.environ.get("AZUREML_MODEL_DIR"), "/var/stellwerk/models", CACHE]
        for root in roots:
            found = model_in(os.path.join(root, model_name), version) if root else None
            if found:
                return found
        if _workspace is None:
            raise ModelNotFoundException(
                "The model %s lies neither in this image nor in %s." % (model_name, os.path.abspath(CACHE))
            )
        model = Model(_workspace, model_name, version=version)
        return model.download(os.path.join(CACHE, model.name, str(model.version)), exist_ok=True)

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
    def description(self) -> Optional[str]:
        return self._record.get("description")

    @property
    def tags(self) -> Dict[str, str]:
        return dict(self._record["tags"])

    @property
    def properties(self) -> Dict[str, str]:
        return dict(self._record["properties"])

    @property
    def aliases(self) -> List[str]:
        return list(self._record["aliases"])

    @property
    def model_framework(self) -> Optional[str]:
        return self._record.get("framework")

    @property
    def model_framework_version(self) -> Optional[str]:
        return self._record.get("frameworkVersion")

    @property
    def run_id(self) -> Optional[str]:
        return self._record.get("run")

    @property
    def experiment_name(self) -> Optional[str]:
        return self._record.get("experiment")

    @property
    def created_time(self) -> str:
        return self._record["createdAt"]

    @property
    def created_by(self) -> str:
        return self._record["createdBy"]

    def _client(self) -> Any:
        return self.workspace.client.models

    def refresh(self) -> "Model":
        self._record = self._client().get(self.workspace.name, self.name, str(self.version))
        return self

    def download(
        self, target_dir: str = ".", exist_ok: bool = False, exists_ok: Optional[bool] = None, show_progress: bool = True
    ) -> str:
        """Downloads it: a file into the folder, a folder as a folder of its name in it. Returns the path."""
        replace = exist_ok if exists_ok is None else exists_ok
        files = self.refresh()._record["files"]
        single = not self._record["isFolder"] and len(files) == 1
        top = os.path.basename(self._record.get("path") or "") or self.name
        target = safe_join(target_dir, files[0]["path"]) if single else os.path.join(target_dir, top)
        if os.path.exists(target) and not replace:
            raise UserErrorException("%s is there already; give exist_ok=True to replace it." % target)
        where = path_of(
            "/workspaces/{workspace}/models/{name}/{version}/file",
            workspace=self.workspace.name,
            name=self.name,
            version=self.version,
        )
        transport = self.workspace.client.transport

        def job(one: Mapping[str, Any]) -> Any:
            place = target if single else safe_join(target, one["path"])
            return lambda note: download(transport, where, {"path": one["path"]}, place, one["digest"], note)

        each("Downloading model %s" % self.id, self._record["sizeBytes"], [job(one) for one in files], show_progress)
        return target

    def update(self, tags: Optional[Mapping[str, Any]] = None, description: Optional[str] = None, **_: Any) -> None:
        """Replaces the tags, if given, and the description, if given."""
        changes: Dict[str, Optional[str]] = {}
        if tags is not None:
            changes = {key: None for key in self.tags if key not in tags}
            changes.update(texts(tags) or {})
        self._change(tags=changes or None, description=description)

    def update_tags_properties(self, add_tags: Any = None, remove_tags: Any = None, add_properties: Any = None) -> None:
        changes: Dict[str, Optional[str]] = {key: None for key in _listed(remove_tags)}
        changes.update(texts(add_tags) or {})
        self._change(tags=changes or None, properties=texts(add_properties))

    def add_tags(self, tags: Mapping[str, Any]) -> None:
        self._change(tags=texts(tags))

    def remove_tags(self, tags: Iterable[str]) -> None:
        self._change(tags={key: None for key in _listed(tags)})

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        self._change(properties=texts(properties))

    def _change(self, **changes: Any) -> None:
        self._record = self._client().update(self.workspace.name, self.name, str(self.version), **changes)

    def set_alias(self, alias: str) -> None:
        """Points an alias, such as `champion`, at this version."""
        self._record = self._client().set_alias(self.workspace.name, self.name, alias, self.version)

    def delete(self) -> Record:
        """Puts it into the trash: `workspace.restore(entry)` brings it back. Refused while an image uses it; the error names the image."""
        return self._client().delete(self.workspace.name, self.name, str(self.version))

    def archive(self) -> None:
        """Leaves it out of lists from now on; nothing else changes."""
        self._record = self._client().archive(self.workspace.name, self.name, str(self.version))

    def reactivate(self) -> None:
        self._record = self._client().reactivate(self.workspace.name, self.name, str(self.version))

    @staticmethod
    def deploy(
        workspace: "Workspace",
        name: str,
        models: Sequence["Model"],
        inference_config: "InferenceConfig",
        deployment_config: Any = None,
        deployment_target: Any = None,
        overwrite: bool = False,
        show_output: bool = False,
    ) -> "Webservice":
        """Builds an image from models and an inference configuration and deploys it as a web service."""
        from .webservice import Webservice

        return Webservice.deploy_from_model(
            workspace, name, models, inference_config, deployment_config, deployment_target, overwrite
        )

    def serialize(self) -> Dict[str, Any]:
        return dict(self._record)

    def __repr__(self) -> str:
        return "Model(workspace=%s, name=%s, id=%s, version=%s, tags=%s, properties=%s)" % (
            self.workspace.name,
            self.name,
            self.id,
            self.version,
            self.tags,
            self.properties,
        )

    def _repr_html_(self) -> str:
        shown = ("id", "description", "framework", "tags", "aliases", "run", "sizeBytes", "createdAt", "createdBy")
        return html_of_fields("Model", {name: self._record.get(name) for name in shown})


def _listed(value: Any) -> List[str]:
    return [value] if isinstance(value, str) else list(value or [])


def texts(given: Optional[Mapping[str, Any]]) -> Optional[Dict[str, str]]:
    """Tags and properties are text."""
    return None if given is None else {str(key): "" if value is None else str(value) for key, value in given.items()}


def pairs(given: TagFilter) -> List[Any]:
    """A filter over tags or properties as (key, value or None)."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return list(given.items())
    return [(one, None) if isinstance(one, str) else tuple([*one, None][:2]) for one in _listed(given)]


def holds(values: Mapping[str, str], wanted: TagFilter) -> bool:
    return all(key in values and (value is None or values[key] == str(value)) for key, value in pairs(wanted))


def model_in(folder: str, version: Union[None, int, str]) -> Optional[str]:
    """A version (the latest unless named) below a folder of versions; a model of one file is that file."""
    try:
        versions = [one for one in os.listdir(folder) if not one.startswith(".")]
    except OSError:
        return None
    chosen = (
        str(version)
        if version is not None
        else max(versions, key=lambda one: (one.isdigit(), int(one) if one.isdigit() else 0), default="")
    )
    if not chosen or chosen not in versions:
        return None
    place = os.path.join(folder, chosen)
    names = os.listdir(place) if os.path.isdir(place) else []
    return os.path.join(place, names[0]) if len(names) == 1 else place


def __getattr__(name: str) -> Any:
    """Newer code finds InferenceConfig here; it stands on images, which stand on models."""
    if name == "InferenceConfig":
        from ._deployment import InferenceConfig

        return InferenceConfig
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
