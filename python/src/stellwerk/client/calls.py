"""How a verb's input travels and its answer comes back; the generated verbs stand on this.

Fields named in the path go there, the others into the query or the JSON body; None means not given. Only calls that may be repeated
without harm are repeated.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Type, Union

from .._transport import ServiceError, Transport, Unreachable, path_of
from .activity import Activity
from .download import Download
from .records import Page, Record, recorded

Body = Union[bytes, IO[bytes], "os.PathLike[str]", Iterable[bytes]]
__all__ = ["Activity", "Body", "Calls", "Download", "Page", "Record"]
# A stream may be silent for a while; a dead one is noticed all the same, and goes on.
SILENCE_SECONDS = 90


def address(path: str, fields: Mapping[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """The path with its fields in place, and the fields that are left."""
    left = {name: value for name, value in fields.items() if value is not None}
    named = re.findall(r"\{(\w+)\}", path)
    missing = [name for name in named if name not in left]
    if missing:
        raise TypeError("Give %s." % ", ".join(missing))
    return path_of(path, **{name: left.pop(name) for name in named}), left


class Calls:
    """Sends verbs over one transport."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def _answer(self, method: str, path: str, fields: Mapping[str, Any], query: bool) -> Any:
        where, left = address(path, fields)
        if query:
            return self.transport.call(method, where, query=left)
        # A query changes nothing; what is named by its caller is made only once.
        harmless = True if path.endswith("/query") or (method == "POST" and "id" in left) else None
        return self.transport.call(method, where, left, idempotent=harmless)

    def json(self, method: str, path: str, fields: Mapping[str, Any], query: bool, record: Type[Record] = Record) -> Any:
        return self._bound(record, self._answer(method, path, fields, query))

    def nothing(self, method: str, path: str, fields: Mapping[str, Any], query: bool) -> None:
        self._answer(method, path, fields, query)

    def page(self, method: str, path: str, fields: Mapping[str, Any], query: bool, record: Type[Record] = Record) -> Page:
        answer = self._answer(method, path, fields, query)

        def follow(page: str) -> Page:
            return self.page(method, path, dict(fields, page=page), query, record)

        return Page([self._bound(record, one) for one in answer["items"]], answer.get("nextPage"), follow)

    def _bound(self, record: Type[Record], answer: Any) -> Any:
        made = recorded(answer)
        return record(made, self) if issubclass(record, Activity) else made

    def upload(self, method: str, path: str, fields: Mapping[str, Any], body: Body) -> Record:
        where, left = address(path, fields)
        if isinstance(body, os.PathLike):
            with open(body, "rb") as file:
                return recorded(self.transport.upload(method, where, file, query=left))
        return recorded(self.transport.upload(method, where, body, query=left))

    def download(self, method: str, path: str, fields: Mapping[str, Any], resume: str = "", start: int = 0) -> Download:
        """`resume` says how a cut download goes on: by `range`, by an `offset` in the query, or (empty) not at all."""
        first = int(fields.get("offset") or 0)

        def open_at(position: int) -> Any:
            asked = dict(fields, offset=first + position) if resume == "offset" and (first + position) else fields
            headers = {"Range": "bytes=%d-" % position} if resume == "range" and position else {}
            return self._stream(method, path, asked, headers)

        return Download(open_at, start, resumes=resume != "")

    def _stream(self, method: str, path: str, fields: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        where, left = address(path, fields)
        return self.transport.request(method, where, query=left, headers=headers, timeout=SILENCE_SECONDS)

    def events(
        self, method: str, path: str, fields: Mapping[str, Any], on_begin: Optional[Callable[[], Any]] = None
    ) -> Iterator[Record]:
        """Goes on by Last-Event-ID after a cut; ends after the last event of the one activity that was asked for.

        `on_begin` is called whenever a stream begins that does not go on from an event: what happened before it is not in it. A record that
        it returns comes before the events.
        """
        last, pause = fields.get("after"), 0.2
        while True:
            headers = {"Accept": "text/event-stream"}
            if last is not None:
                headers["Last-Event-ID"] = str(last)
            try:
                stream = self._stream(method, path, fields, headers)
                before = on_begin() if on_begin and last is None else None
                if before is not None:
                    yield before
                for event in server_sent(stream):
                    pause, last = 0.2, event.get("id", last)
                    yield recorded(event)
                    if fields.get("activity") and event.get("activity", {}).get("endedAt"):
                        return
            except ServiceError as error:
                if error.status not in (429, 503):
                    raise
            except (Unreachable, OSError):
                pass
            time.sleep(pause)
            pause = min(pause * 2, 10)


def server_sent(stream: Any) -> Iterator[Dict[str, Any]]:
    """The data of each event of a stream; a last event without its empty line was cut and does not count."""
    data: List[str] = []
    for raw in iter(stream.readline, b""):
        line = raw.rstrip(b"\r\n").decode("utf-8", "replace")
        if line.startswith("data:"):
            data.append(line[5:].lstrip(" "))
        elif line == "" and data:
            yield json.loads("\n".join(data))
            data = []
