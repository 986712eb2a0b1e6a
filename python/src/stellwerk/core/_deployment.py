"""What a deployment is made from: its settings, and (as newer code writes it) what its image holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from .image import ContainerImageConfig
from .model import texts

if TYPE_CHECKING:
    from .environment import Environment


class DeploymentConfiguration:
    """What of a deployment can be chosen here; what Azure's kinds of compute add has no meaning and is accepted."""

    def __init__(
        self,
        auth_enabled: Optional[bool] = None,
        num_replicas: Optional[int] = None,
        scoring_timeout_ms: Optional[int] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        **accepted: Any,
    ) -> None:
        self.auth_enabled = auth_enabled
        self.num_replicas = num_replicas
        self.timeout_seconds = None if scoring_timeout_ms is None else max(scoring_timeout_ms / 1000, 1)
        self.tags, self.description = texts(tags), description
        self.accepted = accepted

    def fields(self) -> Dict[str, Any]:
        """The fields of the contract."""
        authentication = None if self.auth_enabled is None else "key" if self.auth_enabled else "none"
        return {
            "replicas": self.num_replicas,
            "authentication": authentication,
            "timeout_seconds": self.timeout_seconds,
            "tags": self.tags,
            "description": self.description,
        }


class InferenceConfig(ContainerImageConfig):
    """The same as an image's configuration, as newer code writes it."""

    def __init__(
        self,
        entry_script: str,
        runtime: Optional[str] = None,
        conda_file: Optional[str] = None,
        extra_docker_file_steps: Optional[str] = None,
        source_directory: Optional[str] = None,
        enable_gpu: Optional[bool] = None,
        description: Optional[str] = None,
        base_image: Optional[str] = None,
        base_image_registry: Any = None,
        cuda_version: Any = None,
        environment: Optional["Environment"] = None,
    ) -> None:
        everything = ["."] if source_directory else None
        super().__init__(
            entry_script,
            runtime or "python",
            conda_file,
            extra_docker_file_steps,
            None,
            everything,
            enable_gpu,
            None,
            None,
            description,
            base_image,
            environment,
            source_directory,
        )
