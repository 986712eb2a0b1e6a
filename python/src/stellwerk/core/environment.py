"""The Python that a script runs in, or an image is built with: one that is there, or one built from a specification.

The names are those of Azure ML's Environment; what has no meaning here (Docker, Spark settings) is kept, and a notice says so when it is used.
"""

from __future__ import annotations

import copy
import os
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

from .conda_dependencies import CondaDependencies
from .exceptions import RunConfigurationException, UserErrorException

DEFAULT_INTERPRETER = "python"


class PythonSection:
    """Which Python, and its packages.

    `user_managed_dependencies`: use the Python that is there (`interpreter_path`) as it is. Else one of `conda_dependencies`,
    `conda_dependencies_file`, `requirements` (lines), `requirements_file`, `lock_file` (paths in the directory) says what it holds.
    `version` is a minor such as "3.11"; with `version_fallback` the nearest newer one will do.
    """

    def __init__(self, **_: Any) -> None:
        self.user_managed_dependencies = False
        self.interpreter_path = DEFAULT_INTERPRETER
        self._conda: Optional[CondaDependencies] = None
        self._conda_given = False
        self.conda_dependencies_file: Optional[str] = None
        self.base_conda_environment: Optional[str] = None
        self.requirements: Optional[List[str]] = None
        self.requirements_file: Optional[str] = None
        self.lock_file: Optional[str] = None
        self.version: Optional[str] = None
        self.version_fallback: Optional[bool] = None

    @property
    def conda_dependencies(self) -> Optional[CondaDependencies]:
        """Made when first asked for, so that packages can be added at once; None where another source is set."""
        if self._conda is None and not any(
            (self.conda_dependencies_file, self.requirements, self.requirements_file, self.lock_file)
        ):
            self._conda, self._conda_given = CondaDependencies(), False
        return self._conda

    @conda_dependencies.setter
    def conda_dependencies(self, value: Optional[CondaDependencies]) -> None:
        if value is not None and not isinstance(value, CondaDependencies):
            raise UserErrorException("conda_dependencies must be a CondaDependencies object, not %s." % type(value).__name__)
        self._conda, self._conda_given = value, value is not None
        if value is not None:
            self.conda_dependencies_file = self.requirements = self.requirements_file = self.lock_file = None


PythonEnvironment = PythonSection


class DockerSection:
    """Images are built on `base_image`, and runs are executed in it where `enabled` says so. `base_image_registry.username` and `.password` are the
    names of secrets of the workspace's vault; the rest is kept for code that sets it."""

    def __init__(self, **_: Any) -> None:
        self.enabled = False
        self.base_image: Optional[str] = None
        self.base_image_registry = SimpleNamespace(address=None, username=None, password=None)
        self.base_dockerfile: Optional[str] = None
        self.arguments: List[str] = []
        self.shared_volumes = True
        self.gpu_support = False
        self.shm_size: Optional[str] = None


DockerEnvironment = DockerSection


class SparkSection:
    """Kept for code that sets it."""

    def __init__(self, **_: Any) -> None:
        self.repositories: List[str] = []
        self.packages: List[Any] = []
        self.precache_packages = True


SparkEnvironment = SparkSection


class Environment:
    """A name, a Python section, and environment variables for the script."""

    def __init__(self, name: Optional[str] = None, **_: Any) -> None:
        self.name = name
        self.python = PythonSection()
        self.docker = DockerSection()
        self.spark = SparkSection()
        self.environment_variables: Dict[str, str] = {}

    @staticmethod
    def from_conda_specification(name: str, file_path: str) -> "Environment":
        """From a conda environment file, which is read now."""
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @staticmethod
    def from_pip_requirements(name: str, file_path: str, pip_version: Optional[str] = None) -> "Environment":
        """From a pip requirements file, which is read now, and the files that it refers to by `-r` with it."""
        made = Environment(name)
        made.python.requirements = requirement_lines(file_path)
        return made

    def clone(self, new_name: str) -> "Environment":
        made = copy.deepcopy(self)
        made.name = new_name
        return made

    def source(self) -> Dict[str, Any]:
        """The contract's `EnvironmentSource`."""
        python = self.python
        source: Dict[str, Any] = {"name": self.name} if self.name else {}
        if python.user_managed_dependencies:
            source["userManaged"] = True
            if python.interpreter_path != DEFAULT_INTERPRETER:
                source["interpreterPath"] = python.interpreter_path
            return source
        conda = python._conda
        if conda is not None and not python._conda_given and conda == CondaDependencies():
            conda = None  # only looked at
        given = {
            "condaFile": python.conda_dependencies_file,
            "conda": conda.as_dict() if conda is not None else None,
            "requirementsFile": python.requirements_file,
            "requirements": python.requirements,
            "lockFile": python.lock_file,
        }
        chosen = {key: value for key, value in given.items() if value is not None}
        if len(chosen) > 1:
            raise RunConfigurationException(
                "The environment has several sources: %s. Keep one of them." % ", ".join(sorted(chosen))
            )
        if python.version is not None:
            source["python"] = str(python.version)
        if python.version_fallback is not None:
            source["pythonFallback"] = python.version_fallback
        return dict(source, **chosen)

    @staticmethod
    def of_source(source: Dict[str, Any]) -> "Environment":
        """From the contract's `EnvironmentSource`."""
        made = Environment(source.get("name"))
        python = made.python
        python.user_managed_dependencies = bool(source.get("userManaged", False))
        python.interpreter_path = source.get("interpreterPath") or DEFAULT_INTERPRETER
        python.version, python.version_fallback = source.get("python"), source.get("pythonFallback")
        if source.get("conda") is not None:
            python.conda_dependencies = CondaDependencies(_underlying_structure=source["conda"])
        python.conda_dependencies_file = source.get("condaFile")
        python.requirements_file, python.requirements = source.get("requirementsFile"), source.get("requirements")
        python.lock_file = source.get("lockFile")
        return made

    def __repr__(self) -> str:
        return "Environment(%r, %r)" % (self.name, self.source())

    def _repr_html_(self) -> str:
        from .._show import html_of_fields

        return html_of_fields("Environment", self.source())


def requirement_lines(path: str) -> List[str]:
    """The lines of a requirements file without comments; files that it includes are put in their places."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read().replace("\\\r\n", " ").replace("\\\n", " ")
    except FileNotFoundError:
        raise UserErrorException("There is no requirements file %s." % path) from None
    lines: List[str] = []
    for raw in text.splitlines():
        line = " ".join(raw.split(" #")[0].split())
        if not line or line.startswith("#"):
            continue
        included = next((line[len(flag) :].strip(" =") for flag in ("--requirement", "-r") if line.startswith(flag)), None)
        lines += requirement_lines(os.path.join(os.path.dirname(path), included)) if included else [line]
    return lines
