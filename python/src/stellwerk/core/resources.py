"""What a run asks of its target, in the same words for every kind."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

__all__ = ["Resources"]

RESOURCE_TYPES: Dict[str, Any] = {
    "nodes": int,
    "cpus": int,
    "memory": (int, str),
    "gpus": int,
    "gpuType": str,
    "timeLimit": (int, float, str),
}


class Resources:
    """What a run asks of its target, for each of its nodes: CPUs, memory (bytes or such as "16GB"), GPUs and their type; and a time limit (seconds or such as "2h30m")."""

    def __init__(
        self,
        nodes: int = 1,
        cpus: Optional[int] = None,
        memory: Any = None,
        gpus: Optional[int] = None,
        gpu_type: Optional[str] = None,
        time_limit: Any = None,
    ) -> None:
        self.nodes = nodes
        self.cpus = cpus
        self.memory = memory
        self.gpus = gpus
        self.gpu_type = gpu_type
        self.time_limit = time_limit

    def asked(self) -> Dict[str, Any]:
        """The contract's `Resources`, defaults left out."""
        given = {
            "nodes": None if self.nodes == 1 else self.nodes,
            "cpus": self.cpus,
            "memory": self.memory,
            "gpus": self.gpus,
            "gpuType": self.gpu_type,
            "timeLimit": self.time_limit,
        }
        return {key: value for key, value in given.items() if value is not None}

    @staticmethod
    def of_asked(given: Mapping[str, Any]) -> "Resources":
        return Resources(
            given.get("nodes", 1), given.get("cpus"), given.get("memory"), given.get("gpus"), given.get("gpuType"), given.get("timeLimit")
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resources) and other.asked() == self.asked()

    __hash__ = None  # type: ignore[assignment]
