"""Numbers on the command line: as everybody writes them. Python's int() and float() read 1_000 and other digits, too."""

from __future__ import annotations

from typing import Any

import click


class _Number(click.ParamType):
    """What `kind` makes of plain text; its name stands in the help."""

    def __init__(self, name: str, kind: type[int] | type[float], example: str) -> None:
        self.name, self.kind, self.example = name, kind, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        if not isinstance(value, str):
            return value
        try:
            if "_" in value or not value.isascii():
                raise ValueError
            return self.kind(value)
        except ValueError:
            self.fail(f"{value!r} is not a valid {self.name}; write it like {self.example}", param, ctx)


WHOLE = _Number("integer", int, "1000")
REAL = _Number("float", float, "1e-5")
