"""How a script runs on a target: an object, or a `*.runconfig` file (YAML) beside the script.

A file is saved and loaded without loss; a key that nobody knows is refused with its line. Files that Azure ML's SDK wrote are understood where
they mean something here; what does not is named in a notice.
"""

from __future__ import annotations

import copy
import os
import sys
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .. import _yaml
from .conda_dependencies import CondaDependencies
from .container import ContainerInstance, container_of
from .environment import Environment
from .exceptions import RunConfigurationException, UserErrorException
from .mpi import MpiConfiguration
from .resources import Resources
from .runconfig_check import check
from .runconfig_v1 import from_v1, is_v1
from .spark import SparkConfiguration, SparkPackage

__all__ = [
    "CondaDependencies",
    "DataReferenceConfiguration",
    "MpiConfiguration",
    "Resources",
    "RunConfiguration",
    "SparkConfiguration",
    "SparkPackage",
]

FRAMEWORKS = {"python": "Python", "pyspark": "PySpark", "mpi": "MPI"}
DEFAULTS: Dict[str, Any] = {
    "arguments": [],
    "target": "local",
    "framework": "Python",
    "resources": {},
    "priority": "normal",
    "retries": {},
    "environmentVariables": {},
    "environment": {},
    "mpi": {},
    "spark": {},
    "dataReferences": {},
    "graceSeconds": 10,
    "secrets": [],
    "vaultSecrets": [],
}
SUFFIXES = (".runconfig", ".yml", ".yaml")


class DataReferenceConfiguration:
    """A file or folder of a datastore: there before the script starts (`download`), or taken from it after it ended (`upload`)."""

    def __init__(
        self,
        datastore_name: Optional[str] = None,
        mode: str = "download",
        path_on_datastore: Optional[str] = None,
        path_on_compute: Optional[str] = None,
        overwrite: bool = False,
    ) -> None:
        self.data_store_name = datastore_name
        self.path_on_data_store = path_on_datastore
        self.mode = mode.lower()
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    def reference(self) -> Dict[str, Any]:
        """The contract's `DataReference`; what Azure ML would mount is downloaded."""
        given = {
            "datastore": self.data_store_name,
            "path": self.path_on_data_store,
            "mode": None if self.mode in ("mount", "download", "direct") else self.mode,
            "pathOnCompute": self.path_on_compute,
            "overwrite": self.overwrite or None,
        }
        return {key: value for key, value in given.items() if value is not None}

    @staticmethod
    def of_reference(given: Mapping[str, Any]) -> "DataReferenceConfiguration":
        return DataReferenceConfiguration(
            given.get("datastore"),
            given.get("mode") or "download",
            given.get("path"),
            given.get("pathOnCompute"),
            given.get("overwrite", False),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataReferenceConfiguration) and other.reference() == self.reference()

    __hash__ = None  # type: ignore[assignment]


class RunConfiguration:
    """Attributes have Azure ML's names; `configuration()` is the record of the contract."""

    def __init__(
        self,
        script: Optional[str] = None,
        arguments: Optional[List[Any]] = None,
        framework: Optional[str] = None,
        communicator: Optional[str] = None,
        conda_dependencies: Optional[CondaDependencies] = None,
        command: Any = None,
        **_: Any,
    ) -> None:
        if command is not None:
            raise RunConfigurationException("A run starts a Python script, not a command; give `script` and `arguments`.")
        self.script = script
        self.arguments: List[Any] = list(arguments or [])
        self._target = "local"
        self._framework = "Python"
        self.framework = framework or "Python"
        self.communicator = communicator
        self.resources = Resources()
        self.priority = "normal"
        self.retries: Dict[str, Any] = {}  # {"count": 3, "on": ["preempted", "node-lost"]}
        self.environment = Environment()
        self._mpi = MpiConfiguration()
        self.spark = SparkConfiguration()
        self.environment_variables: Dict[str, str] = {}
        self.data_references: Dict[str, Any] = {}
        self.warning: Optional[Dict[str, Any]] = None  # {"signal": "USR1", "seconds": 60}
        self.grace_seconds: float = 10
        self.secrets: List[str] = []
        self.vault_secrets: List[str] = []
        self.container: Optional[Dict[str, str]] = None  # {"image": "python:3.13", "user": "a secret", "password": "a secret"}
        self.container_instance = ContainerInstance()
        self.notices: List[str] = []
        # Kept for code that sets them.
        self.history, self.hdi, self.tensorflow = (SimpleNamespace() for _ in range(3))
        self.docker, self.amlcompute = SimpleNamespace(), SimpleNamespace()
        self.auto_prepare_environment = self.prepare_environment = True
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies

    @property
    def target(self) -> str:
        """The name of the compute target; a ComputeTarget may be given."""
        return self._target

    @target.setter
    def target(self, value: Any) -> None:
        name = value if isinstance(value, str) else getattr(value, "name", None)
        if not name:
            raise UserErrorException("The target must be a compute target or its name, not %r." % (value,))
        self._target = name

    @property
    def node_count(self) -> int:
        return self.resources.nodes

    @node_count.setter
    def node_count(self, value: int) -> None:
        self.resources.nodes = value

    @property
    def mpi(self) -> MpiConfiguration:
        return self._mpi

    @mpi.setter
    def mpi(self, value: MpiConfiguration) -> None:
        self._mpi = value
        if value.node_count:
            self.node_count = value.node_count

    @property
    def max_run_duration_seconds(self) -> Any:
        return self.resources.time_limit

    @max_run_duration_seconds.setter
    def max_run_duration_seconds(self, value: Any) -> None:
        self.resources.time_limit = value

    @property
    def framework(self) -> str:
        return self._framework

    @framework.setter
    def framework(self, value: str) -> None:
        if str(value).lower() not in FRAMEWORKS:
            raise RunConfigurationException("The framework %r is not known; there are Python, PySpark and MPI." % (value,))
        self._framework = FRAMEWORKS[str(value).lower()]

    def configuration(self) -> Dict[str, Any]:
        """The contract's `RunConfiguration`, defaults left out."""
        references, arguments = dict(self.data_references), []
        for one in self.arguments:
            if hasattr(one, "to_config") and hasattr(one, "data_reference_name"):
                references.setdefault(one.data_reference_name, one)
                one = one.place()
            arguments.append(plain(one))
        framework = "MPI" if self.communicator and "mpi" in self.communicator.lower() else self.framework
        of_environment = self.environment.environment_variables or {}
        made = {
            "script": self.script,
            "arguments": arguments,
            "target": self.target,
            "framework": framework,
            "resources": self.container_instance.added_to(self.resources.asked()),
            "priority": self.priority,
            "retries": dict(self.retries),
            "environmentVariables": {**of_environment, **self.environment_variables},
            "environment": self.environment.source(),
            "mpi": self.mpi.asked() if framework == "MPI" else {},
            "spark": self.spark.asked() if self.framework == "PySpark" else {},
            "dataReferences": {name: reference_of(one) for name, one in references.items()},
            "warning": self.warning,
            "graceSeconds": self.grace_seconds,
            "secrets": list(self.secrets),
            "vaultSecrets": list(self.vault_secrets),
            "container": container_of(self.container, self.environment.docker),
        }
        return {key: value for key, value in made.items() if value is not None and not same(value, DEFAULTS.get(key))}

    @staticmethod
    def of_configuration(given: Mapping[str, Any]) -> "RunConfiguration":
        """From the contract's `RunConfiguration`."""
        given = copy.deepcopy(dict(given))
        made = RunConfiguration(given.get("script"), given.get("arguments"), given.get("framework"))
        made.target = given.get("target", "local")
        made.resources = Resources.of_asked(given.get("resources") or {})
        made.priority = given.get("priority", "normal")
        made.retries = given.get("retries") or {}
        made.environment = Environment.of_source(given.get("environment") or {})
        made.mpi = MpiConfiguration.of_asked(given.get("mpi") or {})
        made.spark = SparkConfiguration.of_asked(given.get("spark") or {})
        made.environment_variables = given.get("environmentVariables") or {}
        references = given.get("dataReferences") or {}
        made.data_references = {name: DataReferenceConfiguration.of_reference(one) for name, one in references.items()}
        made.warning = given.get("warning")
        made.grace_seconds = given.get("graceSeconds", 10)
        made.secrets = given.get("secrets") or []
        made.vault_secrets = given.get("vaultSecrets") or []
        made.container = given.get("container")
        return made

    def save(self, path: Optional[str] = None, name: Optional[str] = None, separate_environment_yaml: bool = False) -> str:
        """Saves it to the file, or as `<name>.runconfig` in the folder; returns the path."""
        target = path or "."
        if not target.endswith(SUFFIXES) or os.path.isdir(target):
            target = os.path.join(target, with_suffix(name or "run"))
        content = self.configuration()
        if separate_environment_yaml and "conda" in content.get("environment", {}):
            file = os.path.splitext(os.path.basename(target))[0] + ".yml"
            CondaDependencies(_underlying_structure=content["environment"].pop("conda")).save_to_file(
                os.path.dirname(target), file
            )
            content["environment"]["condaFile"] = file
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with open(target, "w", encoding="utf-8", newline="\n") as out:
            out.write(_yaml.dump(content))
        return target

    @staticmethod
    def load(path: str, name: Optional[str] = None) -> "RunConfiguration":
        """Loads a file, or `<name>.runconfig` of a folder (also where Azure ML's SDK keeps them)."""
        file = file_of(path, name)
        content, lines = _yaml.read(file)
        if not isinstance(content, dict):
            raise RunConfigurationException("%s is not a run configuration: it must be a mapping." % file)
        notices: List[str] = []
        if is_v1(content):
            content, notices = from_v1(content, lines, file)
        check(content, lines, file)
        made = RunConfiguration.of_configuration(content)
        made.notices = notices
        for notice in notices:
            sys.stderr.write("%s: %s\n" % (file, notice))
        return made

    @staticmethod
    def delete(path: str, name: Optional[str] = None) -> None:
        os.remove(file_of(path, name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunConfiguration) and other.configuration() == self.configuration()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "RunConfiguration(%r)" % self.configuration()

    def _repr_html_(self) -> str:
        from .._show import html_of_fields

        return html_of_fields("Run configuration", self.configuration())


def same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default


def plain(argument: Any) -> Any:
    """Paths as text, scalars of numpy and the like as numbers."""
    if isinstance(argument, os.PathLike):
        return os.fspath(argument)
    return argument.item() if hasattr(argument, "item") and not isinstance(argument, (str, int, float)) else argument


def reference_of(one: Any) -> Dict[str, Any]:
    config = one.to_config() if hasattr(one, "to_config") else one
    return config.reference()


def with_suffix(name: str) -> str:
    return name if name.endswith(SUFFIXES) else name + ".runconfig"


def file_of(path: str, name: Optional[str]) -> str:
    """The file that is meant, or an error that lists where it was looked for."""
    if name is None and not os.path.isdir(path):
        if os.path.isfile(path):
            return path
        raise UserErrorException("There is no run configuration %s." % path)
    if name is None:
        found = sorted(one for one in os.listdir(path) if one.endswith(".runconfig"))
        if len(found) != 1:
            raise UserErrorException("Name the run configuration: %s has %s." % (path, ", ".join(found) or "none"))
        return os.path.join(path, found[0])
    looked = [os.path.join(path, folder, with_suffix(name)) for folder in ("", ".stellwerk", ".azureml", "aml_config")]
    for file in looked:
        if os.path.isfile(file):
            return file
    raise UserErrorException("There is no run configuration %s; looked for %s." % (name, ", ".join(looked)))
