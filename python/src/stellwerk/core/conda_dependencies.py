"""The packages of an environment, as a conda environment file lists them: conda packages, and pip packages among them.

What is loaded from a file is kept whole: keys and options that this class has no method for are saved again as they were.
"""

from __future__ import annotations

import copy
import os
import re
from typing import Any, Dict, Iterable, Iterator, List, Optional

from .. import _yaml
from .exceptions import UserErrorException

DEFAULT_NAME = "project_environment"
DEFAULT_FILE = "conda_dependencies.yml"


def package_name(package: str) -> str:
    """The bare name in a requirement such as `scikit-learn[all]>=1.2` or `conda-forge::numpy`."""
    found = re.match(r"\s*(?:[\w-]+::)?([A-Za-z0-9][\w.-]*)", package)
    return re.sub(r"[-_.]+", "-", found.group(1)).lower() if found else package.strip()


class CondaDependencies:
    """Mutable; `as_dict()` is the content of the file."""

    def __init__(
        self, conda_dependencies_file_path: Optional[str] = None, _underlying_structure: Optional[Dict[str, Any]] = None
    ) -> None:
        if conda_dependencies_file_path is not None and _underlying_structure is not None:
            raise UserErrorException("Give a file or a structure, not both.")
        if conda_dependencies_file_path is not None:
            if not os.path.isfile(conda_dependencies_file_path):
                raise UserErrorException("There is no conda file %s." % conda_dependencies_file_path)
            content = _yaml.read(conda_dependencies_file_path)[0]
            self._content = checked(content, str(conda_dependencies_file_path))
        elif _underlying_structure is not None:
            self._content = checked(copy.deepcopy(dict(_underlying_structure)), "The structure")
        else:
            self._content = {"name": DEFAULT_NAME, "dependencies": []}

    @staticmethod
    def create(
        pip_indexurl: Optional[str] = None,
        pip_packages: Optional[Iterable[str]] = None,
        conda_packages: Optional[Iterable[str]] = None,
        python_version: Optional[str] = None,
        pin_sdk_version: bool = True,
    ) -> "CondaDependencies":
        """From lists of packages. No Python is pinned unless `python_version` names one; `pin_sdk_version` has no meaning here."""
        made = CondaDependencies()
        if python_version:
            made.set_python_version(python_version)
        for package in _listed(conda_packages):
            made.add_conda_package(package)
        if pip_indexurl:
            made.set_pip_index_url(pip_indexurl)
        for package in _listed(pip_packages):
            made.add_pip_package(package)
        return made

    @staticmethod
    def merge_requirements(requirements: Iterable[str]) -> List[str]:
        """One requirement per package, the parts of its version joined."""
        merged: Dict[str, str] = {}
        for requirement in requirements:
            found = re.match(r"^([A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?)\s*([^;]*)(;.*)?$", requirement.strip())
            if not found or found.group(3):
                merged[requirement] = requirement
                continue
            name, versions = found.group(1), found.group(2).strip()
            known = [part for part in merged.get(name, name)[len(name) :].split(",") if part]
            known += [part for part in versions.replace(" ", "").split(",") if part and part not in known]
            merged[name] = name + ",".join(known)
        return list(merged.values())

    @property
    def _dependencies(self) -> List[Any]:
        found = self._content.get("dependencies")
        if found is None:
            found = self._content["dependencies"] = []
        return found

    def _pip(self, make: bool = False) -> List[str]:
        for one in self._dependencies:
            if isinstance(one, dict) and "pip" in one:
                if one["pip"] is None:
                    one["pip"] = []
                return one["pip"]
        made: List[str] = []
        if make:
            self._dependencies.append({"pip": made})
        return made

    @property
    def conda_channels(self) -> Iterator[str]:
        return iter(list(self._content.get("channels") or []))

    @property
    def conda_packages(self) -> Iterator[str]:
        return iter([one for one in self._dependencies if isinstance(one, str)])

    @property
    def pip_packages(self) -> Iterator[str]:
        return iter([one for one in self._pip() if not one.startswith("-")])

    @property
    def pip_options(self) -> Iterator[str]:
        return iter([one for one in self._pip() if one.startswith("-")])

    def add_channel(self, channel: str) -> None:
        channels = self._content.get("channels") or []
        if channel not in channels:
            self._content["channels"] = [*channels, channel]

    def remove_channel(self, channel: str) -> None:
        self._content["channels"] = [one for one in self._content.get("channels") or [] if one != channel]

    def get_python_version(self) -> Optional[str]:
        """The version of Python that is asked for, such as `3.11`; None if none is."""
        for one in self.conda_packages:
            if package_name(one) == "python":
                found = re.match(r"^.*?python\s*[=<>!~ ]*\s*([\w.*]+)?", one)
                return found.group(1) if found else None
        return None

    def set_python_version(self, version: str) -> None:
        wanted = "python=%s" % version
        for index, one in enumerate(self._dependencies):
            if isinstance(one, str) and package_name(one) == "python":
                self._dependencies[index] = wanted
                return
        self._dependencies.insert(0, wanted)

    def add_conda_package(self, conda_package: str) -> None:
        """Adds a package; one of the same name is replaced."""
        if package_name(conda_package) == "python":
            for index, one in enumerate(self._dependencies):
                if isinstance(one, str) and package_name(one) == "python":
                    self._dependencies[index] = conda_package
                    return
            self._dependencies.insert(0, conda_package)
            return
        self.remove_conda_package(conda_package)
        places = [index for index, one in enumerate(self._dependencies) if isinstance(one, dict)]
        self._dependencies.insert(places[0] if places else len(self._dependencies), conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        name = package_name(conda_package)
        self._dependencies[:] = [one for one in self._dependencies if not (isinstance(one, str) and package_name(one) == name)]

    def add_pip_package(self, pip_package: str) -> None:
        """Adds a package; one of the same name is replaced."""
        self.remove_pip_package(pip_package)
        self._pip(make=True).append(pip_package)

    def remove_pip_package(self, pip_package: str) -> None:
        name, pip = package_name(pip_package), self._pip()
        pip[:] = [one for one in pip if one.startswith("-") or package_name(one) != name]

    def set_pip_requirements(self, pip_requirements: Iterable[str]) -> None:
        pip = self._pip(make=True)
        pip[:] = [*(one for one in pip if one.startswith("-")), *_listed(pip_requirements)]

    def set_pip_option(self, pip_option: str) -> None:
        """Adds an option of pip, such as `--extra-index-url https://…`; one of the same name is replaced."""
        self.remove_pip_option(pip_option)
        self._pip(make=True).insert(0, pip_option)

    def remove_pip_option(self, pip_option: str) -> None:
        name, pip = pip_option.split()[0], self._pip()
        pip[:] = [one for one in pip if not (one.startswith("-") and one.split()[0] == name)]

    def set_pip_index_url(self, index_url: str) -> None:
        self.set_pip_option(index_url if index_url.startswith("-") else "--index-url " + index_url)

    def as_dict(self) -> Dict[str, Any]:
        """The content of the conda file, as a copy."""
        return copy.deepcopy(self._content)

    def serialize_to_string(self) -> str:
        return _yaml.dump(self._content)

    def save_to_file(self, base_directory: str, conda_file_path: Optional[str] = None) -> str:
        """Saves it in the directory, as `conda_dependencies.yml` unless named; returns the name."""
        name = conda_file_path or DEFAULT_FILE
        self.save(os.path.join(base_directory, name))
        return name

    def save(self, path: Optional[str] = None) -> str:
        """Saves it to a file, or as `conda_dependencies.yml` in a folder; returns the path."""
        path = path or DEFAULT_FILE
        if os.path.isdir(path):
            path = os.path.join(path, DEFAULT_FILE)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(self.serialize_to_string())
        return path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondaDependencies) and other._content == self._content

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "CondaDependencies(%s)" % ", ".join([*self.conda_packages, *self.pip_packages])


def _listed(packages: Optional[Iterable[str]]) -> List[str]:
    return [packages] if isinstance(packages, str) else list(packages or [])


def checked(content: Any, source: str) -> Dict[str, Any]:
    """The content of a conda file, or an error that says what is wrong with it."""
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserErrorException("%s is not a conda environment: it must be a mapping with `dependencies`." % source)
    channels = content.get("channels")
    if channels is not None and not (isinstance(channels, list) and all(isinstance(one, str) for one in channels)):
        raise UserErrorException("%s is not a conda environment: `channels` must be a list of text." % source)
    dependencies = content.get("dependencies")
    if dependencies is not None and not isinstance(dependencies, list):
        raise UserErrorException("%s is not a conda environment: `dependencies` must be a list." % source)
    for one in dependencies or []:
        pip = one.get("pip") if isinstance(one, dict) else None
        if not isinstance(one, (str, dict)) or (
            pip is not None and not (isinstance(pip, list) and all(isinstance(p, str) for p in pip))
        ):
            raise UserErrorException(
                "%s has the dependency %.200r, which is neither a package nor a list of pip packages." % (source, one)
            )
    return content
