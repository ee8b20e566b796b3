"""Tables for the terminal, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from .._backends import Backend


def backends_table(backends: Sequence[Backend]) -> Table:
    """Name, availability, precisions and what each does."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("backend", no_wrap=True, style="bold")
    table.add_column("here", no_wrap=True)
    table.add_column("what it does, or why it cannot run here")
    for backend in backends:
        if backend.available:
            what = f"{backend.summary} ({', '.join(backend.precisions)})"
            table.add_row(backend.name, "[green]yes[/]", what)
        else:
            table.add_row(backend.name, "[red]no[/]", escape(f"{backend.summary}: {backend.unavailable}"))
    return table
