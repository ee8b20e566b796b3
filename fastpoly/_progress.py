"""`progress=`: True for a bar on the terminal, or any function of (steps done, steps in all)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._monitor import Progress
from ._problem import shown as text_of

if TYPE_CHECKING:
    import rich.progress
    from rich.console import Console


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
        with bar() as report:
            yield report
    elif progress is False:
        yield None
    else:
        raise TypeError(
            f"progress: wants True, False or a function (done, of), got {text_of(progress)}; True shows a bar"
        )


@contextmanager
def bar() -> Iterator[Progress]:
    """A bar while the block runs, on a terminal's standard error or in a notebook; the function that moves it."""
    try:
        from rich.console import Console
    except ModuleNotFoundError as error:
        message = "progress=True draws its bar with rich; pip install 'fastpoly[cli]', or pass a function (done, of)"
        raise ModuleNotFoundError(message, name="rich") from error
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield lambda _done, _of: None
        return
    with new_bar(console) as columns:
        task = columns.add_task("descending", total=None)
        yield lambda done, of: columns.update(task, completed=done, total=of)


def new_bar(console: Console) -> rich.progress.Progress:
    """A bar that vanishes when it is done: what is being done, how far, how much longer."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
