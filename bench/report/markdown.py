"""Tables as Markdown, as README.md has them. Text is escaped: it can neither end a cell nor begin a marker."""

from __future__ import annotations

import re

from .tables import Cell, Column, Table

VERDICTS = ("short",)
"""What a reader of plain text must not overlook."""


def table(content: Table) -> str:
    """A Markdown table; numbers stand to the right."""
    head = [escaped(column.title) for column in content.columns]
    rule = ["---:" if column.numeric else "---" for column in content.columns]
    rows = [[_cell(column, cell) for column, cell in zip(content.columns, row, strict=True)] for row in content.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def _cell(column: Column, cell: Cell) -> str:
    shown = escaped(cell.text)
    return f"**{shown}**" if cell.tone in VERDICTS or (cell.tone == "ours" and not column.numeric) else shown


def escaped(text: str) -> str:
    """`text` with nothing in it that Markdown or HTML would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")
