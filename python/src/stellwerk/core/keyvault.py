"""The secrets of a workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Mapping, Optional

from ..client import Record

if TYPE_CHECKING:
    from .workspace import Workspace

__all__ = ["Keyvault"]


class Keyvault:
    """`workspace.get_default_keyvault()`: secrets by name, kept sealed. Who reads one is written down."""

    def __init__(self, workspace: "Workspace") -> None:
        self.workspace = workspace

    def set_secret(self, name: str, value: str) -> None:
        """Keeps a secret; a name that is there gets its next version."""
        self._secrets.set(self.workspace.name, name, value=value)

    def set_secrets(self, secrets_batch: Mapping[str, str]) -> None:
        for name, value in secrets_batch.items():
            self.set_secret(name, value)

    def get_secret(self, name: str, version: Optional[int] = None) -> str:
        """The value of the newest version, or of the given one."""
        value: str = self._secrets.get(self.workspace.name, name, version=version)["value"]
        return value

    def get_secrets(self, secrets: List[str]) -> Dict[str, str]:
        return {name: self.get_secret(name) for name in secrets}

    def list_secrets(self) -> List[Record]:
        """Names, newest versions, when and by whom; no values."""
        return [*self._secrets.list(self.workspace.name).all()]

    def delete_secret(self, name: str) -> None:
        """Deletes a secret, all its versions."""
        self._secrets.delete(self.workspace.name, name)

    def delete_secrets(self, secrets: List[str]) -> None:
        for name in secrets:
            self.delete_secret(name)

    @property
    def _secrets(self):  # type: ignore[no-untyped-def]
        return self.workspace.client.secrets

    def __repr__(self) -> str:
        return "Keyvault(workspace=%r)" % self.workspace.name
