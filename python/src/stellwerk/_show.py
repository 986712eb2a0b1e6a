"""How records look in a notebook. Whatever a server or a user wrote is text here, never markup."""

from __future__ import annotations

from html import escape
from typing import Any, Iterable, List, Mapping, Optional, Sequence

ROWS = 50


def html_of_record(record: Mapping[str, Any]) -> str:
    rows = "".join(
        "<tr><th style='text-align:left'>%s</th><td>%s</td></tr>" % (escape(str(key)), text(value))
        for key, value in record.items()
    )
    return "<table>%s</table>" % rows


def html_of_rows(records: Sequence[Mapping[str, Any]], columns: Optional[Sequence[str]] = None) -> str:
    """A table of the first rows, with the columns that hold something simple."""
    shown = list(records[:ROWS])
    names = list(columns) if columns else _columns(shown)
    head = "".join("<th>%s</th>" % escape(str(name)) for name in names)
    body = "".join("<tr>%s</tr>" % "".join("<td>%s</td>" % text(one.get(name)) for name in names) for one in shown)
    more = "" if len(records) <= ROWS else "<p>… and %d more</p>" % (len(records) - ROWS)
    return "<table><thead><tr>%s</tr></thead><tbody>%s</tbody></table>%s" % (head, body, more)


def html_of_fields(title: str, fields: Mapping[str, Any]) -> str:
    """One object: its kind and its fields."""
    shown = {name: value for name, value in fields.items() if value is not None}
    return "<b>%s</b>%s" % (escape(title), html_of_record(shown))


def text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return escape(", ".join("%s: %s" % pair for pair in value.items()))
    if isinstance(value, (list, tuple)):
        return escape(", ".join(str(one) for one in value))
    return escape(str(value))


def _columns(records: Iterable[Mapping[str, Any]]) -> List[str]:
    names: List[str] = []
    for record in records:
        names += [name for name, value in record.items() if name not in names and not isinstance(value, (dict, list))]
    return names
