"""The place where older code finds the local compute target."""

from __future__ import annotations

from .compute import ComputeTarget

__all__ = ["ComputeTarget", "LocalTarget"]


class LocalTarget:
    """The machine of whoever submits; give it as a target, or give "local"."""

    name = "local"
    type = "local"
