"""Finding runs by the words of Azure ML's SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional

from ..client import Record
from .model import TagFilter, pairs

if TYPE_CHECKING:
    from .experiment import Experiment

# The words of Azure ML's SDK for the states.
STATUS = {
    "queued": "Queued",
    "preparing": "Preparing",
    "running": "Running",
    "finalizing": "Finalizing",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "lost": "NotResponding",
}
SCRIPT_RUN = "azureml.scriptrun"


def records_of(
    experiment: "Experiment",
    include_children: bool = False,
    type: Optional[str] = None,
    tags: TagFilter = None,
    properties: TagFilter = None,
    status: Optional[str] = None,
    **where: Any,
) -> Iterator[Record]:
    """Runs, newest first; what a filter can say is asked of the server."""
    conditions = [] if include_children else ["parent is null"]
    for field, wanted in (("tags", tags), ("properties", properties)):
        for key, value in pairs(wanted):
            name = '%s."%s"' % (field, key.replace('"', '""'))
            conditions.append("not %s is null" % name if value is None else "%s = %s" % (name, quoted(str(value))))
    if status is not None:
        named = {word.lower(): state for state, word in STATUS.items()}
        conditions.append("state = %s" % quoted(named.get(status.lower(), status.lower())))
    page = experiment.workspace.client.runs.query(
        experiment.workspace.name, experiment=experiment.name, filter=" and ".join(conditions) or None, **where
    )
    return (record for record in page.all() if type in (None, type_of(record)))


def type_of(record: Record) -> Optional[str]:
    return None if record["interactive"] else SCRIPT_RUN


def quoted(text: str) -> str:
    return "'%s'" % text.replace("'", "''")
