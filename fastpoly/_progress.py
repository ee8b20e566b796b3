"""`progress=`: True for a bar on the terminal, or any function of (steps done, steps in all)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ._monitor import Progress


@contextmanager
def shown(progress: bool | Progress) -> Iterator[Progress | None]:
    """The function to report to while the block runs, or None.

    Raises:
        TypeError: `progress` is neither a bool nor callable.
        ModuleNotFoundError: a bar is asked for and rich is not installed.
    """
    if callable(progress):
        yield progress
    elif progress is True:
        with _bar() as report:
            yield report
    elif progress is False:
        yield None
    else:
        raise TypeError(f"progress: wants True, False or a function (done, of), got {progress!r}")


@contextmanager
def _bar() -> Iterator[Progress]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    except ModuleNotFoundError as error:
        message = "progress=True draws its bar with rich; pip install 'fastpoly[cli]', or pass a function (done, of)"
        raise ModuleNotFoundError(message, name="rich") from error

    columns = (BarColumn(), MofNCompleteColumn(), "steps", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("steps", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
