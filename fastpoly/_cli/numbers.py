"""Numbers on the command line as everybody writes them: Python's int() and float() also read 1_000 and other digits."""

from __future__ import annotations

import typer


def integer(text: int | str) -> int:
    """A whole number; the name stands in the help.

    Raises:
        typer.BadParameter: it is none.
    """
    if isinstance(text, int):  # a default
        return text
    try:
        return int(_plain(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a valid integer; write it like 1000") from None


def real(text: float | str) -> float:
    """Any number, as `integer`."""
    if isinstance(text, float):
        return text
    try:
        return float(_plain(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a valid float; write it like 1e-5") from None


def _plain(text: str) -> str:
    if "_" in text or not text.isascii():
        raise ValueError
    return text
