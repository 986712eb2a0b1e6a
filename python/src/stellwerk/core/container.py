"""A run in a container: `run_config.container`, and what older code says in its own words (`environment.docker`, `container_instance`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict, Mapping, Optional

KEYS = ("image", "user", "password")


class ContainerInstance(SimpleNamespace):
    """What a run in a container may take, as older code asks for it; `run_config.resources` says the same for every target."""

    def __init__(self, region: Optional[str] = None, cpu_cores: Optional[float] = None, memory_gb: Optional[float] = None) -> None:
        super().__init__(region=region, cpu_cores=cpu_cores, memory_gb=memory_gb)

    def added_to(self, asked: Mapping[str, Any]) -> Dict[str, Any]:
        """The resources that are asked for, with what only stands here."""
        cpus = None if self.cpu_cores is None else max(1, round(self.cpu_cores))
        memory = None if self.memory_gb is None else "%gGB" % self.memory_gb
        here = {name: value for name, value in (("cpus", cpus), ("memory", memory)) if value is not None}
        return {**here, **asked}


def container_of(given: Optional[Mapping[str, Any]], docker: Any) -> Optional[Dict[str, Any]]:
    """The contract's `container`: what is given, or the base image that `environment.docker` enables."""
    if given:
        return dict(given)
    if not (docker.enabled and docker.base_image):
        return None
    registry = docker.base_image_registry
    image = "%s/%s" % (registry.address, docker.base_image) if registry.address else docker.base_image
    made = {"image": image, "user": registry.username, "password": registry.password}
    return {name: value for name, value in made.items() if value}


def container_of_v1(docker: Any) -> Optional[Dict[str, Any]]:
    """From the section `environment.docker` of Azure ML's layout; credentials that stand in it are not taken over."""
    if not isinstance(docker, dict) or not docker.get("enabled") or not docker.get("baseImage"):
        return None
    address = (docker.get("baseImageRegistry") or {}).get("address")
    return {"image": "%s/%s" % (address, docker["baseImage"]) if address else docker["baseImage"]}
