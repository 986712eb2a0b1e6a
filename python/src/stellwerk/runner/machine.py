"""What this machine has, for whoever resolves an environment for it."""

from __future__ import annotations

import platform
import shutil
import sys

from stellwerk.runner.pythons import find_all

_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_PROCESSORS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def describe_machine():
    """As the contract's EnvironmentTarget: platform, Python minors (that of `python3` first), whether there is a conda."""
    processor = _PROCESSORS.get(platform.machine().lower(), platform.machine())
    conda = any(shutil.which(name) for name in ("micromamba", "mamba", "conda"))
    return {"platform": "%s-%s" % (_SYSTEMS.get(sys.platform, sys.platform), processor), "pythons": list(find_all()), "conda": conda}
