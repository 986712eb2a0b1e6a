"""A Docker Engine as compute target: each run is a container on it."""

from __future__ import annotations

import os
from typing import Dict, Optional

from .compute import ComputeTarget, RemoteAttachConfiguration


class DockerCompute(ComputeTarget):
    """A Docker Engine; what v1 calls container instances."""

    @staticmethod
    def attach_configuration(
        address: str = "unix:///var/run/docker.sock", image: Optional[str] = None, ca_file: Optional[str] = None,
        certificate_file: Optional[str] = None, key_file: Optional[str] = None, key_passphrase: Optional[str] = None,
        password: Optional[str] = None, host_key: Optional[str] = None,
    ) -> RemoteAttachConfiguration:  # fmt: skip
        """By `unix:///…`, `tcp://engine:2376` with the files of its certificates, or `ssh://user@machine` with a password or the file of a
        private key. `image` is that of runs which name none."""
        files = {"ca": ca_file, "certificate": certificate_file, "key": key_file}
        sign_in = {what: _content(file) for what, file in files.items() if file}
        sign_in.update({what: value for what, value in (("passphrase", key_passphrase), ("password", password)) if value})
        settings: Dict[str, str] = {"kind": "docker", "address": address}
        settings.update({name: value for name, value in (("image", image), ("hostKey", host_key)) if value})
        return RemoteAttachConfiguration(settings, sign_in)

    @property
    def address(self) -> str:
        return self._record["settings"]["address"]

    @property
    def image(self) -> str:
        return self._record["settings"]["image"]


def _content(file: str) -> str:
    with open(os.path.expanduser(file), encoding="utf-8") as opened:
        return opened.read()
