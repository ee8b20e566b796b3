"""What a reader is asked for, and what it gives: the only two things that the other side of this package knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..._arrays import Array


@dataclass(frozen=True)
class Wanted:
    """What the command line says of a file; what it leaves out is found in the file and said aloud.

    Attributes:
        x, y: columns, by name or number. Each y is fitted by itself, all with the same x.
        separator: one character, "space" or "tab".
        decimal: "." or ",".
        skip: lines at the start that are passed over.
        comment: how a line begins that is passed over.
        encoding: of the text, a name that Python knows.
        nan: "refuse" or "omit" a sample in which x or y is missing or infinite.
    """

    x: str | None = None
    y: tuple[str, ...] = ()
    separator: str | None = None
    decimal: str | None = None
    skip: int = 0
    comment: str | None = None
    encoding: str | None = None
    nan: str = "refuse"


@dataclass(frozen=True)
class Dates:
    """What an x made of dates counts: days or seconds (`unit`) since `origin`, the first row's cell as it stands."""

    origin: str
    unit: str


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a file: its name, its unit ("" if none is told), and its values, (n,), NaN where one is missing."""

    name: str
    unit: str
    values: Array

    @property
    def label(self) -> str:
        """For an axis: the name, and the unit unless the name tells it."""
        return f"{self.name} ({self.unit})" if self.unit and self.unit not in self.name else self.name


@dataclass(frozen=True, eq=False)
class Samples:
    """The columns that were asked for.

    Attributes:
        x: the column of x.
        ys: those of y, each of them as long as x.
        dates: what x counts, if the file has dates there.
        said: what was found in the file and not told by an option, in words; always the columns taken.
    """

    x: Column
    ys: tuple[Column, ...]
    dates: Dates | None
    said: tuple[str, ...]

    def pairs(self) -> Iterator[tuple[Column, Array, Array]]:
        """Each column of y with the samples that have both: (column, x, y)."""
        for column in self.ys:
            both = _both(self.x, column)
            if both.all():
                yield column, self.x.values, column.values
            else:
                yield column, self.x.values[both], column.values[both]


def left_out(x: Column, ys: Sequence[Column]) -> list[str]:
    """How many samples have no number in x or in y, in words.

    Raises:
        ValueError: none has both.
    """
    said = []
    for y in ys:
        both = np.count_nonzero(_both(x, y))
        if not both:
            raise ValueError(f"no sample has numbers in both {x.name!r} and {y.name!r}")
        if both < len(x.values):
            of = f" of {y.name!r}" if len(ys) > 1 else ""
            said.append(f"{len(x.values) - both:,} of {len(x.values):,} samples{of} left out")
    return said


def _both(x: Column, y: Column) -> Array:
    both: Array = np.isfinite(x.values) & np.isfinite(y.values)
    return both
