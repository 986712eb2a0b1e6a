"""Where code for Azure ML finds data references."""

from ..core.datastore import DataReference

__all__ = ["DataReference"]
