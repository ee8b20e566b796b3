"""Rows: what was found, a JSON object a line, on disk as soon as it is known; read while they are being written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Writer:
    """writer(row): append it to the file, synced, in one write, so that a process that dies leaves whole lines."""

    def __init__(self, path: Path, *, anew: bool = False) -> None:
        self._path = path
        if anew:
            path.write_bytes(b"")

    def __call__(self, row: Row) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write((json.dumps(row, default=_plain) + "\n").encode())
            os.fsync(file.fileno())


def _plain(value: object) -> float | str:
    """numpy's and torch's numbers as numbers; anything else by its name."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)


class Reader:
    """Iterates over the rows that were added since it was last iterated over, or behind so many bytes."""

    def __init__(self, path: Path, behind: int = 0) -> None:
        self._path, self._at = path, behind

    def __iter__(self) -> Iterator[Row]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                self._at += len(line)
                row = parsed(line)
                if row is not None:
                    yield row


def parsed(line: bytes) -> Row | None:
    """The row of a line, or None where it is none: whatever prints into the file, and where a machine stopped."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
