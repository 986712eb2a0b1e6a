"""Reads the `*.runconfig` layout of Azure ML's SDK v1 into ours.

What means the same here is taken; what means nothing is named in one notice; what not even that SDK knows is left in place, so that it is
refused with its line.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from .container import container_of_v1
from .exceptions import RunConfigurationException
from .spark import SparkConfiguration, SparkPackage

# Their top-level sections that have no counterpart here.
LEFT_OUT = (
    "amlcompute",
    "applicationEndpoints",
    "autoClusterComputeSpecification",
    "autoPrepareEnvironment",
    "batchai",
    "command",
    "containerInstance",
    "credentialPassthrough",
    "data",
    "datacaches",
    "docker",
    "hdi",
    "history",
    "kubernetescompute",
    "outputData",
    "paralleltask",
    "prepareEnvironment",
    "priority",
    "pytorch",
    "sourceDirectoryDataStore",
    "tensorflow",
    "useSampling",
)
ONLY_V1 = (*(key for key in LEFT_OUT if key != "priority"), "communicator", "maxRunDurationSeconds")
ENVIRONMENT_LEFT_OUT = (
    "assetId",
    "docker",
    "environmentVersion",
    "inferencingStackVersion",
    "r",
    "version",
    "cacheSetting",
)
PYTHON_LEFT_OUT = ("baseCondaEnvironment",)
FRAMEWORKS = {"python": "Python", "pyspark": "PySpark"}


def is_v1(content: Mapping[str, Any]) -> bool:
    environment = content.get("environment")
    references = content.get("dataReferences")
    named = [one for one in references.values() if isinstance(one, dict)] if isinstance(references, dict) else []
    spark, mpi = content.get("spark"), content.get("mpi")
    return (
        (isinstance(mpi, dict) and "processCountPerNode" in mpi)
        or (isinstance(spark, dict) and "configuration" in spark)
        or any(key in ONLY_V1 for key in content)
        or (isinstance(environment, dict) and isinstance(environment.get("python"), dict))
        or any("dataStoreName" in one or "pathOnDataStore" in one for one in named)
    )


class _Reading:
    """One file on its way: what was taken, and what was left out."""

    def __init__(self, lines: Dict[Tuple[Any, ...], int], file: str) -> None:
        self.lines = lines
        self.file = file
        self.left_out: List[str] = []
        self.notices: List[str] = []

    def mapping(self, value: Any, *place: str) -> Dict[str, Any]:
        """A copy of what stands there; nothing is an empty mapping."""
        if value is not None and not isinstance(value, dict):
            line = self.lines.get(place, 1)
            raise RunConfigurationException("%s, line %d: %s must be a mapping." % (self.file, line, ".".join(place)))
        return dict(value or {})

    def leave_out(self, given: Dict[str, Any], keys: Tuple[str, ...], prefix: str) -> None:
        for key in keys:
            if key in given:
                given.pop(key)
                self.left_out.append(prefix + key)


def from_v1(content: Mapping[str, Any], lines: Dict[Tuple[Any, ...], int], file: str) -> Tuple[Dict[str, Any], List[str]]:
    """The configuration in our layout, and what the user should know."""
    reading = _Reading(lines, file)
    given = dict(content)
    made: Dict[str, Any] = {}
    communicator = str(given.pop("communicator", None) or "")
    framework = str(given.pop("framework", None) or "Python")
    made["framework"] = "MPI" if "mpi" in communicator.lower() else FRAMEWORKS.get(framework.lower(), "Python")
    if framework.lower() not in FRAMEWORKS:
        reading.notices.append("The framework %s runs as a Python script here." % framework)
    asked = {"nodes": given.pop("nodeCount", None), "timeLimit": given.pop("maxRunDurationSeconds", None)}
    if any(asked.values()):
        made["resources"] = {name: value for name, value in asked.items() if value}
    environment = reading.mapping(given.pop("environment", None), "environment")
    mpi = reading.mapping(given.pop("mpi", None), "mpi")
    if made["framework"] == "MPI" and "processCountPerNode" in mpi:
        made["mpi"] = {"processesPerNode": mpi["processCountPerNode"]}
    variables = reading.mapping(given.pop("environmentVariables", None), "environmentVariables")
    container = container_of_v1(environment.get("docker"))
    if container:
        made["container"] = container
        environment.pop("docker")
    libraries = environment.get("spark")
    spark = _spark(reading.mapping(given.pop("spark", None), "spark"), reading.mapping(libraries, "environment", "spark"))
    if spark and made["framework"] == "PySpark":
        made["spark"] = spark
    made["environment"], inner = _environment(environment, reading)
    made["environmentVariables"] = {name: str(value) for name, value in {**inner, **variables}.items()}
    references = reading.mapping(given.pop("dataReferences", None), "dataReferences")
    made["dataReferences"] = {
        name: _reference(name, reading.mapping(one, "dataReferences", name), reading) for name, one in references.items()
    }
    reading.leave_out(given, LEFT_OUT, "")
    made.update({key: value for key, value in given.items() if value is not None})
    if reading.left_out:
        reading.notices.append(
            "These keys of Azure ML's layout mean nothing here and were left out: %s." % ", ".join(reading.left_out)
        )
    return made, reading.notices


def _spark(given: Dict[str, Any], libraries: Dict[str, Any]) -> Dict[str, Any]:
    made = SparkConfiguration()
    made.configuration = dict(given.get("configuration") or {})
    made.packages = [SparkPackage(**one) if isinstance(one, dict) else one for one in libraries.get("packages") or []]
    made.repositories = list(libraries.get("repositories") or [])
    return made.asked()


def _environment(given: Dict[str, Any], reading: _Reading) -> Tuple[Dict[str, Any], Mapping[str, Any]]:
    variables = reading.mapping(given.pop("environmentVariables", None), "environment", "environmentVariables")
    python = reading.mapping(given.pop("python", None), "environment", "python")
    given.pop("spark", None)  # read beside it
    reading.leave_out(given, ENVIRONMENT_LEFT_OUT, "environment.")
    reading.leave_out(python, PYTHON_LEFT_OUT, "environment.python.")
    made = {"name": given.pop("name")} if given.get("name") else {}
    given.pop("name", None)
    managed = python.pop("userManagedDependencies", False)
    interpreter = python.pop("interpreterPath", None)
    file, conda = python.pop("condaDependenciesFile", None), python.pop("condaDependencies", None)
    if managed:
        made["userManaged"] = True
        if interpreter and interpreter != "python":
            made["interpreterPath"] = interpreter
    elif file:
        made["condaFile"] = file
    elif conda:
        made["conda"] = conda
    for key in python:
        # Neither layout knows it: it is refused where it stands.
        reading.lines[("environment", key)] = reading.lines.get(("environment", "python", key), 1)
        given[key] = python[key]
    return {**made, **given}, variables


def _reference(name: str, given: Dict[str, Any], reading: _Reading) -> Dict[str, Any]:
    mode = str(given.pop("mode", None) or "mount").lower()
    if mode == "mount":
        reading.notices.append("The data reference %s is downloaded, not mounted." % name)
    made = {
        "datastore": given.pop("dataStoreName", None),
        "path": given.pop("pathOnDataStore", None),
        "mode": "upload" if mode == "upload" else "download",
        "pathOnCompute": given.pop("pathOnCompute", None),
        "overwrite": bool(given.pop("overwrite", False)),
    }
    return {**{key: value for key, value in made.items() if value is not None}, **given}
