"""Finding runs by the words of Azure ML's SDK."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional

from ..client import Record
from .model import TagFilter, holds, pairs

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
    conditions = ["tags.%s = %s" % (quoted_name(key), quoted(str(value))) for key, value in pairs(tags) if value is not None]
    if status is not None:
        named = {word.lower(): state for state, word in STATUS.items()}
        conditions.append("state = %s" % quoted(named.get(status.lower(), status.lower())))
    page = experiment.workspace.client.runs.query(
        experiment.workspace.name, experiment=experiment.name, filter=" and ".join(conditions) or None, **where
    )
    for record in page.all():
        found = None if record["interactive"] else SCRIPT_RUN
        if (include_children or "parent" not in record) and holds(record["tags"], tags) and holds(record["properties"], properties):
            if type is None or type == found:
                yield record


def quoted(text: str) -> str:
    return "'%s'" % text.replace("'", "''")


def quoted_name(name: str) -> str:
    plain = name.replace("_", "a").replace("-", "a")
    return name if plain.isascii() and plain.isalnum() and not name[0].isdigit() else '"%s"' % name.replace('"', '""')
