"""What a run of the framework PySpark asks of Spark: `run_config.spark`, with the names that Azure ML's SDK has for it."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Mapping, Optional, Union

__all__ = ["SparkConfiguration", "SparkPackage"]

RECORD_TYPES: Dict[str, Any] = {
    "master": str,
    "deployMode": str,
    "executors": dict,
    "driverMemory": str,
    "packages": list,
    "repositories": list,
    "settings": dict,
    "pyFiles": list,
}
# Properties of Spark that the record has fields of its own for.
_NAMED = {"spark.master": "master", "spark.submit.deployMode": "deployMode"}


class SparkPackage:
    """Maven coordinates of a library."""

    def __init__(self, group: Optional[str] = None, artifact: Optional[str] = None, version: Optional[str] = None) -> None:
        self.group, self.artifact, self.version = group, artifact, version

    def __str__(self) -> str:
        return "%s:%s:%s" % (self.group, self.artifact, self.version)

    def __repr__(self) -> str:
        return "SparkPackage(%r)" % str(self)


class SparkConfiguration:
    """`configuration` are properties of Spark by name, `packages` coordinates (`group:artifact:version`) or SparkPackages, `repositories` addresses."""

    def __init__(self) -> None:
        self.configuration: Dict[str, Any] = {}
        self.packages: List[Union[str, SparkPackage]] = []
        self.repositories: List[str] = []
        self.precache_packages = True  # kept for code that sets it
        self.master: Optional[str] = None
        self.executors: Dict[str, Any] = {}  # {"count": 2, "cores": 1, "memory": "4g"}
        self.driver_memory: Optional[str] = None
        self.py_files: List[str] = []

    def asked(self) -> Dict[str, Any]:
        """The contract's `Spark`, without what is not asked for."""
        settings = {name: _text(value) for name, value in self.configuration.items()}
        named = {field: settings.pop(name) for name, field in _NAMED.items() if name in settings}
        made = {
            "master": self.master,
            "executors": dict(self.executors),
            "driverMemory": self.driver_memory,
            "packages": [str(package) for package in self.packages],
            "repositories": list(self.repositories),
            "settings": settings,
            "pyFiles": list(self.py_files),
        }
        return {**named, **{name: value for name, value in made.items() if value}}

    @staticmethod
    def of_asked(given: Mapping[str, Any]) -> "SparkConfiguration":
        given = copy.deepcopy(dict(given))
        made = SparkConfiguration()
        made.configuration = given.get("settings") or {}
        if given.get("deployMode"):
            made.configuration["spark.submit.deployMode"] = given["deployMode"]
        made.packages = given.get("packages") or []
        made.repositories = given.get("repositories") or []
        made.master = given.get("master")
        made.executors = given.get("executors") or {}
        made.driver_memory = given.get("driverMemory")
        made.py_files = given.get("pyFiles") or []
        return made

    def __repr__(self) -> str:
        return "SparkConfiguration(%r)" % self.asked()


def _text(value: Any) -> str:
    """As Spark writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
