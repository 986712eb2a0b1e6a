"""Doing a run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Mapping, Optional

from ..client import Record
from .model import texts

if TYPE_CHECKING:
    from .experiment import Experiment
    from .run import Run


class HasAgain:
    """The part of a Run that is done again, or does another again."""

    if TYPE_CHECKING:
        id: str
        experiment: Experiment

        def _record(self, fresh: bool = False) -> Record: ...

    def resubmit(
        self,
        target: Any = None,
        arguments: Optional[Mapping[str, Any]] = None,
        *,
        run_id: Optional[str] = None,
        experiment_name: Optional[str] = None,
        display_name: Optional[str] = None,
        tags: Optional[Mapping[str, Any]] = None,
    ) -> "Run":
        """Does this run again: its snapshot, the lock of its environment and its inputs, as a new run. `arguments` gives other values to
        arguments of the script: `{"alpha": 0.5}` for `--alpha`. What could not be held equal is in `differences` of the new run."""
        from .._run_folder import new_run_id
        from .experiment import Experiment, secret_values
        from .run import Run

        workspace = self.experiment.workspace
        record = self._record(fresh=True)
        named = (record.get("configuration") or {}).get("secrets", [])
        made = workspace.client.runs.resubmit(
            workspace.name,
            self.id,
            id=run_id or new_run_id(experiment_name or record["experiment"]),
            target=getattr(target, "name", target),
            experiment=experiment_name,
            set=None if arguments is None else dict(arguments),
            display_name=display_name,
            tags=texts(tags),
            secrets=secret_values(named) or None,
        )
        run = Run._of(Experiment(workspace, made["experiment"]), made)
        if made.get("target") == "local":
            run.start_here()
        return run

    @property
    def resubmitted_from(self) -> Optional["Run"]:
        """The run that this one does again."""
        from .run import Run

        first = self._record().get("resubmittedFrom")
        return Run(self.experiment, first) if first else None

    @property
    def differences(self) -> List[str]:
        """What could not be held equal to the run that this one does again, or was changed on purpose."""
        return [*self._record(fresh=True).get("differences", [])]
