"""What calls answer: records with the names of the wire, and pages of them.

A Record is a plain dict; its fields can also be read as attributes in snake_case (`run.created_at` is `run["createdAt"]`).
A Page is a plain list of records that knows how to go on.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Optional


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


class Record(dict):
    """A dict whose fields can be read as attributes; a field that is absent is an AttributeError naming those there are."""

    def __getattr__(self, name: str) -> Any:
        for key in (name, camel(name)):
            if key in self:
                return self[key]
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError("This record has no field %r; it has %s." % (name, ", ".join(sorted(map(str, self)))))

    def __dir__(self) -> list:
        return [*super().__dir__(), *(key for key in self if isinstance(key, str) and key.isidentifier())]

    def _repr_html_(self) -> str:
        from .._show import html_of_record

        return html_of_record(self)


def recorded(value: Any) -> Any:
    """JSON with every object as a Record."""
    if isinstance(value, dict):
        return Record((key, recorded(one)) for key, one in value.items())
    return [recorded(one) for one in value] if isinstance(value, list) else value


class Page(list):
    """Records of one answer; `next_page` is absent (None) on the last page, and `all()` goes on through all pages."""

    def __init__(self, items: list, next_page: Optional[str] = None, follow: Optional[Callable[[str], "Page"]] = None) -> None:
        super().__init__(items)
        self.next_page = next_page
        self._follow = follow

    def all(self) -> Iterator[Record]:
        page = self
        while True:
            yield from page
            if page.next_page is None or page._follow is None:
                return
            page = page._follow(page.next_page)

    def _repr_html_(self) -> str:
        from .._show import html_of_rows

        return html_of_rows(self)
