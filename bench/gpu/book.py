"""The book: every row of this run and of earlier ones that still hold, and from it what is done and what is not.

A unit is the least that is done or not: a row with `ended` says that it is, and how. A row with `op`, of the operator
database, is all that there is of its operation. A stage is done when a row with `whole` says so. Rows of a unit that
never ended are half of something, and are forgotten when a run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from .rows import Row, Writer

RIGHT = "right"
"""How a unit ended whose answers were right. Others are "failed", "crashed", "hung" and "not measured"."""


class NotMeasured(Exception):
    """Raised by a unit that cannot run here; the message says why."""


class Book:
    """Rows, in memory and in a file.

    Args:
        path: of the file, which is written anew.
        digests: of each stage, now.
        earlier: rows of earlier runs; those of other digests are dropped.
    """

    def __init__(self, path: Path, digests: Mapping[str, str], earlier: Iterable[Row] = ()) -> None:
        self.digests, self.rows = digests, list[Row]()
        self._write = Writer(path, anew=True)
        for row in self._holding(earlier):
            self.rows.append(row)
            self._write(row)
        self.kept = len(self.rows)

    def _holding(self, earlier: Iterable[Row]) -> list[Row]:
        rows = [row for row in earlier if row.get("digest") == self.digests.get(row.get("stage", ""), "")]
        whole = {row["stage"] for row in rows if row.get("whole")}
        ended = {(row["stage"], row.get("unit")) for row in rows if "ended" in row}
        return [
            row
            for row in rows
            if row["stage"] in whole or {"units", "op"} & row.keys() or (row["stage"], row.get("unit")) in ended
        ]

    def add(self, stage: str, row: Row) -> None:
        """Keep a row of a stage, on disk at once."""
        row = {"stage": stage, "digest": self.digests[stage], **row}
        self.rows.append(row)
        self._write(row)

    def of(self, stage: str) -> list[Row]:
        """The rows of a stage."""
        return [row for row in self.rows if row["stage"] == stage]

    def in_order(self) -> list[Row]:
        """All rows, those of a stage together."""
        return [row for stage in self.digests for row in self.of(stage)]

    def ended(self, stage: str) -> dict[str, str]:
        """How each unit of a stage ended that did."""
        return {row["unit"]: row["ended"] for row in self.of(stage) if "ended" in row}

    def whole(self, stage: str) -> bool:
        """Is there nothing left to do of it?"""
        return any(row.get("whole") for row in self.of(stage))

    def missing(self) -> list[tuple[str, str]]:
        """(stage, unit) of what was not done; the unit is "" where a stage never said what it has."""
        found = []
        for stage in self.digests:
            if self.whole(stage):
                continue
            named = [unit for row in self.of(stage) for unit in row.get("units", ())]
            ended = self.ended(stage)
            left = [unit for unit in dict.fromkeys(named) if unit not in ended]
            found += [(stage, unit) for unit in left] or [(stage, "")]
        return found

    def failures(self) -> list[Row]:
        """The ends of units that did not end well."""
        return [row for row in self.rows if row.get("ended", RIGHT) not in (RIGHT, "not measured")]
