"""What `stellwerk.core` raises, under the names that Azure ML's SDK gives it. All of them are StellwerkErrors; those that the server
raised keep its `reason` and `hint`.
"""

from __future__ import annotations

from typing import Any, Optional, Type

from .._transport import ServiceError


class AzureMLException(ServiceError):
    """The class of all of them."""

    def __init__(self, exception_message: str, inner_exception: Optional[BaseException] = None, **_: Any) -> None:
        super().__init__("failed-precondition", "", exception_message)
        self.inner_exception = inner_exception

    @classmethod
    def of(cls, error: ServiceError) -> "AzureMLException":
        """The same refusal of the server under this name."""
        made = cls(error.message)
        made.inner_exception = error
        for name in ("code", "reason", "hint", "details", "status", "incident"):
            setattr(made, name, getattr(error, name))
        return made


class UserErrorException(AzureMLException):
    """What was asked for cannot be."""


class TrainingException(AzureMLException):
    """A script cannot be trained so."""


class ExperimentExecutionException(AzureMLException):
    """A run failed, or cannot be had."""


class RunConfigurationException(AzureMLException):
    """A run configuration is wrong."""


class RunEnvironmentException(AzureMLException):
    """This process is not in a run."""

    def __init__(self, exception_message: str = "This script does not run in a run of Stellwerk.", **named: Any) -> None:
        super().__init__(exception_message, **named)


class SnapshotException(AzureMLException):
    """A directory cannot be taken as a snapshot."""


class WorkspaceException(AzureMLException):
    """A workspace cannot be had."""


class ProjectSystemException(WorkspaceException):
    """The name of older versions for it."""


class ComputeTargetException(AzureMLException):
    """A compute target cannot be had or used."""


class AuthenticationException(AzureMLException):
    """Nobody is signed in, or not with enough rights."""


class WebserviceException(AzureMLException):
    """A model, image or web service cannot be had, made or used."""

    def __init__(self, exception_message: str, status_code: Optional[int] = None, **named: Any) -> None:
        super().__init__(exception_message, **named)
        self.status_code = status_code


class ModelNotFoundException(WebserviceException):
    """There is no such model."""


BY_REASON = (
    ("model.not-found", ModelNotFoundException),
    ("workspace.", ProjectSystemException),
    ("access.", AuthenticationException),
    ("compute.", ComputeTargetException),
    ("environment.", RunConfigurationException),
    ("run.configuration-", RunConfigurationException),
    ("run.", ExperimentExecutionException),
    ("experiment.", ExperimentExecutionException),
    ("snapshot.", SnapshotException),
    ("model.", WebserviceException),
    ("image.", WebserviceException),
    ("web-service.", WebserviceException),
)


def named_as_before(error: ServiceError) -> AzureMLException:
    """A refusal of the server under the name that code written for Azure ML catches."""
    if isinstance(error, AzureMLException):
        return error
    found: Type[AzureMLException] = next((cls for start, cls in BY_REASON if error.reason.startswith(start)), UserErrorException)
    if error.code in ("internal", "unavailable", "resource-exhausted"):
        found = AzureMLException
    return found.of(error)
