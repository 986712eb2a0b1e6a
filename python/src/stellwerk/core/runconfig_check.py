"""What a run configuration may hold, and of which type: what else stands in a file is refused with its line. The server checks the rest."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Tuple

from .exceptions import RunConfigurationException
from .mpi import RECORD_TYPES as MPI_TYPES
from .resources import RESOURCE_TYPES
from .spark import RECORD_TYPES as SPARK_TYPES

# `python` is checked on its own.
ENVIRONMENT_TYPES: Dict[str, Any] = {
    "name": str,
    "userManaged": bool,
    "interpreterPath": str,
    "python": object,
    "pythonFallback": bool,
    "condaFile": str,
    "conda": dict,
    "requirementsFile": str,
    "requirements": list,
    "lockFile": str,
}
REFERENCE_TYPES: Dict[str, Any] = {"datastore": str, "path": str, "mode": str, "pathOnCompute": str, "overwrite": bool}
TYPES: Dict[str, Any] = {
    "script": str,
    "arguments": list,
    "target": str,
    "framework": str,
    "resources": dict,
    "priority": str,
    "retries": dict,
    "environmentVariables": dict,
    "environment": dict,
    "mpi": dict,
    "spark": dict,
    "dataReferences": dict,
    "graceSeconds": (int, float),
    "secrets": list,
    "vaultSecrets": list,
    "container": dict,
    "warning": dict,
}


def check(content: Mapping[str, Any], lines: Mapping[Tuple[Any, ...], int], file: str) -> None:
    """Refuses keys that nobody knows, and values of another type, with their lines. The server checks the rest."""
    for key, value in content.items():
        if value is None and key in TYPES:
            refuse("%s must be %s" % (key, words_of(TYPES[key])), (key,), lines, file)
    check_values(content, TYPES, (), lines, file)
    check_texts(content, "secrets", (), lines, file)
    check_texts(content, "vaultSecrets", (), lines, file)
    check_values(content.get("resources", {}), RESOURCE_TYPES, ("resources",), lines, file)
    check_values(content.get("mpi", {}), MPI_TYPES, ("mpi",), lines, file)
    check_values(content.get("spark", {}), SPARK_TYPES, ("spark",), lines, file)
    environment = content.get("environment", {})
    check_values(environment, ENVIRONMENT_TYPES, ("environment",), lines, file)
    check_texts(environment, "requirements", ("environment",), lines, file)
    if (
        "python" in environment
        and not re.match(r"^3\.\d{1,2}$", str(environment["python"]))
        or isinstance(environment.get("python"), float)
    ):
        refuse('python must be a minor version in quotes, such as "3.11"', ("environment", "python"), lines, file)
    for name, one in content.get("dataReferences", {}).items():
        if not isinstance(one, dict):
            refuse("a data reference must be a mapping", ("dataReferences", name), lines, file)
        check_values(one, REFERENCE_TYPES, ("dataReferences", name), lines, file)
    for name, value in content.get("environmentVariables", {}).items():
        if not isinstance(value, str):
            refuse(
                "the value of an environment variable must be text; put it in quotes", ("environmentVariables", name), lines, file
            )


def check_values(
    content: Mapping[str, Any], types: Mapping[str, Any], place: Tuple[Any, ...], lines: Mapping[Tuple[Any, ...], int], file: str
) -> None:
    """Inside of the configuration, a key without a value is as good as none."""
    for key, value in content.items():
        if key not in types:
            refuse("the key %.200r is not known; there are %s" % (key, ", ".join(types)), (*place, key), lines, file)
        wanted = types[key]
        fits = isinstance(value, wanted) and (wanted in (bool, object) or not isinstance(value, bool))
        if not fits and value is not None:
            refuse("%s must be %s" % (key, words_of(wanted)), (*place, key), lines, file)


def check_texts(
    content: Mapping[str, Any], key: str, place: Tuple[Any, ...], lines: Mapping[Tuple[Any, ...], int], file: str
) -> None:
    for index, one in enumerate(content.get(key) or []):
        if not isinstance(one, str):
            refuse("%s must be a list of text" % key, (*place, key, index), lines, file)


def refuse(what: str, place: Tuple[Any, ...], lines: Mapping[Tuple[Any, ...], int], file: str) -> None:
    raise RunConfigurationException("%s, line %d: %s." % (file, lines.get(place, 1), what))


def words_of(wanted: Any) -> str:
    return (
        {str: "text", bool: "true or false", list: "a list", dict: "a mapping", int: "a whole number"}.get(wanted, "a number")
        if not isinstance(wanted, tuple)
        else "a number or text"
        if str in wanted
        else "a number"
    )
