"""Metrics as Azure ML's SDK gives them: a number, a list of numbers, or a table by column."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping

PAGE = 10_000


def values_of(client: Any, workspace: str, run: str, summaries: Iterable[Mapping[str, Any]]) -> Dict[str, Any]:
    return {one["name"]: value_of(client, workspace, run, one) for one in summaries}


def value_of(client: Any, workspace: str, run: str, summary: Mapping[str, Any]) -> Any:
    if summary["kind"] in ("number", "list") and summary["count"] == 1 and "last" in summary:
        return plain(summary["last"], summary["kind"])
    points: List[Any] = []
    rows: List[Mapping[str, Any]] = []
    offset = 0
    while offset is not None:
        part = client.metrics.get_series(workspace, run, summary["name"], offset=offset or None, limit=PAGE)
        points += [plain(one["value"], summary["kind"]) for one in part.get("points") or []]
        rows += [one["row"] for one in part.get("rows") or []]
        offset = part.get("nextOffset")
    if summary["kind"] in ("number", "list"):
        return points[0] if len(points) == 1 else points
    if summary["kind"] in ("row", "table"):
        return columns(rows)
    return rows[0] if len(rows) == 1 else rows


def plain(value: Any, kind: str) -> Any:
    """Numbers as floats; those that JSON has no word for come back as what they were."""
    if kind == "number" and isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value.replace("Infinity", "inf"))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return float(value)


def columns(rows: List[Mapping[str, Any]]) -> Dict[str, Any]:
    """Rows and tables by column; a single row as it is."""
    if len(rows) == 1:
        return {
            name: plain(value, "row") if not isinstance(value, list) else [plain(one, "row") for one in value]
            for name, value in rows[0].items()
        }
    made: Dict[str, List[Any]] = {}
    for row in rows:
        for name, value in row.items():
            made.setdefault(name, []).extend(plain(one, "row") for one in (value if isinstance(value, list) else [value]))
    return made
