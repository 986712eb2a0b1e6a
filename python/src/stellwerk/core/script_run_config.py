"""A script to submit: its directory, its arguments, and how and where it runs."""

from __future__ import annotations

import copy
import os
from typing import Any, Dict, List, Optional

from .environment import Environment
from .exceptions import RunConfigurationException, UserErrorException
from .runconfig import RunConfiguration


class ScriptRunConfig:
    """`run_config` may be left out; `script`, `arguments`, `compute_target`, `environment` and the time limit stand over what it says."""

    def __init__(
        self,
        source_directory: str,
        script: Optional[str] = None,
        arguments: Optional[List[Any]] = None,
        run_config: Optional[RunConfiguration] = None,
        compute_target: Any = None,
        environment: Optional[Environment] = None,
        distributed_job_config: Any = None,
        resume_from: Any = None,
        max_run_duration_seconds: Optional[float] = None,
        command: Any = None,
        docker_runtime_config: Any = None,
        **_: Any,
    ) -> None:
        if command is not None:
            raise UserErrorException("A run starts a Python script, not a command; give `script` and `arguments`.")
        self.source_directory = os.fspath(source_directory)
        self.run_config = run_config if run_config is not None else RunConfiguration()
        self.script = script if script is not None else self.run_config.script
        self.arguments = list(arguments) if arguments is not None else self.run_config.arguments
        if compute_target is not None:
            self.run_config.target = compute_target
        if environment is not None:
            self.run_config.environment = environment
        if max_run_duration_seconds is not None:
            self.run_config.max_run_duration_seconds = max_run_duration_seconds

    def configuration(self) -> Dict[str, Any]:
        """The contract's `RunConfiguration`; files of the environment that the snapshot will not hold are put into it."""
        whole = copy.copy(self.run_config)
        whole.script, whole.arguments = self.script, self.arguments
        if not os.path.isdir(self.source_directory):
            raise UserErrorException("There is no directory %s to submit." % self.source_directory)
        if not whole.script:
            raise RunConfigurationException("No script is named; give `script`, a file in %s." % self.source_directory)
        script = str(whole.script).replace(os.sep, "/")
        if os.path.isabs(whole.script):
            script = os.path.relpath(whole.script, self.source_directory).replace(os.sep, "/")
        whole.script = script
        if not os.path.isfile(os.path.join(self.source_directory, script)):
            raise RunConfigurationException("There is no script %s in the directory %s." % (script, self.source_directory))
        made = whole.configuration()
        self._keep_files(made.get("environment", {}))
        return made

    def _keep_files(self, environment: Dict[str, Any]) -> None:
        """Folders of settings are not part of a snapshot, and neither is what lies outside of the directory."""
        from .conda_dependencies import CondaDependencies
        from .environment import requirement_lines

        for key, content in (("condaFile", "conda"), ("requirementsFile", "requirements")):
            path = environment.get(key)
            if not path:
                continue
            inside = os.path.join(self.source_directory, path)
            hidden = path.replace("\\", "/").split("/")[0] in (".azureml", ".stellwerk", "..") or os.path.isabs(path)
            if not hidden and os.path.isfile(inside):
                continue
            found = next((one for one in (inside, path) if os.path.isfile(one)), None)
            if found is None:
                raise RunConfigurationException("There is no file %s in the directory %s." % (path, self.source_directory))
            del environment[key]
            environment[content] = CondaDependencies(found).as_dict() if content == "conda" else requirement_lines(found)
