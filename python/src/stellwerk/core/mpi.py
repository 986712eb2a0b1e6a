"""How the ranks of a run of the framework MPI are laid out: `run_config.mpi`, with the names that Azure ML's SDK has for it."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

__all__ = ["MpiConfiguration"]

RECORD_TYPES: Dict[str, Any] = {"processesPerNode": int}


class MpiConfiguration:
    """`process_count_per_node` ranks on each of `node_count` nodes, which `run_config.node_count` may say as well."""

    def __init__(self, process_count_per_node: Optional[int] = None, node_count: Optional[int] = None) -> None:
        self.process_count_per_node = process_count_per_node or 1
        self.node_count = node_count

    def asked(self) -> Dict[str, Any]:
        """The contract's `Mpi`, without what is not asked for."""
        return {} if self.process_count_per_node == 1 else {"processesPerNode": self.process_count_per_node}

    @staticmethod
    def of_asked(given: Mapping[str, Any]) -> "MpiConfiguration":
        return MpiConfiguration(given.get("processesPerNode"))

    def __repr__(self) -> str:
        return "MpiConfiguration(process_count_per_node=%r)" % self.process_count_per_node
