"""Words for the terminal, as they are: nothing in them is a style."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

NO_BREAK = "\ue000"
"""Stands for a space at which no line ends; it is of no script."""


def say(text: str, *, err: bool = False, after: str = "") -> None:
    """Print `text`; on a terminal of any width no word is cut, and what goes on in another line is set below `after`.

    Elsewhere a line stays a line, which other programs can find.
    """
    stream = sys.stderr if err else sys.stdout
    print(_legible("\n".join(_lines(text, width_of(stream.isatty()), after)), stream.encoding), file=stream)


def table(rows: Sequence[tuple[str, str]]) -> None:
    """Print a line for each: what it is, and its value."""
    left = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        say(f"{name:{left}}{value}", after=" " * left)


def width_of(is_terminal: bool) -> int | None:
    """How many columns there are, if anything says so."""
    return shutil.get_terminal_size().columns if is_terminal or os.environ.get("COLUMNS") else None


def _lines(text: str, width: int | None, after: str) -> list[str]:
    if width is None or len(text) <= width:
        return [text]
    lines = textwrap.wrap(
        text,
        max(width, 20),
        subsequent_indent=after,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        expand_tabs=False,
        replace_whitespace=False,
    )
    return lines or [text]


def _legible(text: str, encoding: str | None) -> str:
    """With a question mark for what the terminal does not have."""
    return text.replace(NO_BREAK, " ").encode(encoding or "utf-8", "replace").decode(encoding or "utf-8", "replace")
