"""What `run.get_details()` tells, in the words of Azure ML's SDK."""

from __future__ import annotations

from typing import Any, Dict, Mapping


def details_of(record: Mapping[str, Any], status: str, client: Any, workspace: str) -> Dict[str, Any]:
    base = "%s/api/v1/workspaces/%s/runs/%s/log?name=" % (client.url, workspace, record["id"])
    details: Dict[str, Any] = {
        "runId": record["id"],
        "target": record.get("target"),
        "status": status,
        "startTimeUtc": record.get("startedAt"),
        "endTimeUtc": record.get("endedAt"),
        "properties": dict(record["properties"]),
        "tags": dict(record["tags"]),
        "inputDatasets": [],
        "outputDatasets": [],
        "runDefinition": record.get("configuration"),
        "logFiles": {one["name"]: base + one["name"] for one in client.logs.list(workspace, record["id"])},
        "submittedBy": record["user"],
        "record": record,
    }
    if record["state"] == "failed":
        details["error"] = {
            "error": {"code": "UserError", "message": record.get("reason", ""), "lastLines": record.get("lastLines") or []}
        }
    return details
