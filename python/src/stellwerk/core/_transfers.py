"""Many files at once, up or down, with one progress bar; the first failure ends it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, List, Sequence, Tuple

from .._progress import Progress

AT_ONCE = 4


def each(label: str, total: int, jobs: Sequence[Callable[[Callable[[int, Any], None]], Any]], show: bool = True) -> List[Any]:
    """Runs jobs, each with a callback of its own for (bytes done, bytes in all); the results in the order of the jobs."""
    with Progress(label, total, show) as bar:
        if len(jobs) <= 1:
            return [job(difference(bar)) for job in jobs]
        with ThreadPoolExecutor(min(AT_ONCE, len(jobs))) as pool:
            futures = [pool.submit(job, difference(bar)) for job in jobs]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()


def difference(bar: Progress) -> Callable[[int, Any], None]:
    """A callback for one file of several: it says how much of it is done, the bar counts what was added."""
    before = [0]

    def note(done: int, _: Any = None) -> None:
        bar(done - before[0])
        before[0] = done

    return note


def upload_files(
    client: Any, workspace: str, files: Iterable[Tuple[str, str]], label: str = "Uploading", show: bool = True
) -> List[dict]:
    """Brings contents of (path, place on disk) to the server: a list of `{path, digest}`."""
    import os

    from .._uploads import upload_blob

    pairs = list(files)

    def job(path: str, place: str) -> Callable[[Any], dict]:
        return lambda note: {"path": path, "digest": upload_blob(client.transport, workspace, place, progress=note)[0]}

    return each(label, sum(os.path.getsize(place) for _, place in pairs), [job(*pair) for pair in pairs], show)
