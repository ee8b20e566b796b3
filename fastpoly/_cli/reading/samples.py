"""What a reader is asked for, and what it gives: the only two things that the other side of this package knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..._arrays import Array


@dataclass(frozen=True)
class Wanted:
    """What the command line says of a file; what it leaves out is found in the file and said aloud.

    Attributes:
        x, y: columns, by name or number. Each y is fitted by itself, all with the same x.
        sigma, weight: the columns of these, if they are wanted.
        separator: one character, "space" or "tab".
        decimal: "." or ",".
        skip: lines at the start that are passed over.
        comment: how a line begins that is passed over.
        encoding: of the text, a name that Python knows.
        nan: "refuse" or "omit" a sample in which x or y is missing or infinite.
        like: the x of an earlier fit. The one like it is wanted, and nothing else.
    """

    x: str | None = None
    y: tuple[str, ...] = ()
    separator: str | None = None
    decimal: str | None = None
    skip: int = 0
    comment: str | None = None
    encoding: str | None = None
    nan: str = "refuse"
    sigma: str | None = None
    weight: str | None = None
    like: Like | None = None


@dataclass(frozen=True)
class Dates:
    """What an x made of dates counts: days or seconds (`unit`) since `origin`, the first row's cell as it stands.

    `form` is the name of the format in which it is written, one of `dates.FORMATS`.
    """

    origin: str
    unit: str
    form: str = field(default="", compare=False)


@dataclass(frozen=True)
class Like:
    """The x of an earlier fit, as it was found: its name, None if it has none, and its place, 1 for the first column.

    The place is None if nothing is known of it.
    """

    name: str | None = None
    place: int | None = None
    unit: str = ""
    dates: Dates | None = None


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a file.

    Attributes:
        name: its own, or what it is called: "column 2".
        unit: "" if none is told.
        values: (n,), NaN where one is missing.
        place: 1 for the first of the file.
        is_named: is the name its own?
    """

    name: str
    unit: str
    values: Array
    place: int = 0
    is_named: bool = True

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
        sigma, weight: those columns, if they were asked for.
        cells: if x is of dates, and no y was asked for: how they are written, those that are there.
    """

    x: Column
    ys: tuple[Column, ...]
    dates: Dates | None
    said: tuple[str, ...]
    sigma: Column | None = None
    weight: Column | None = None
    cells: tuple[str, ...] | None = None

    def pairs(self) -> Iterator[tuple[Column, Array, Array]]:
        """Each column of y with the samples that have both: (column, x, y)."""
        for column in self.ys:
            x, y = (self.of(values, column) for values in (self.x, column))
            assert x is not None
            assert y is not None
            yield column, x, y

    def of(self, column: Column | None, y: Column) -> Array | None:
        """Of `column`, the values of the samples that have all: x, y, and sigma and weight if there are any."""
        if column is None:
            return None
        all_of_it = _all(self.x, y, self.sigma, self.weight)
        return column.values if all_of_it.all() else column.values[all_of_it]


def left_out(x: Column, ys: Sequence[Column], *others: Column | None) -> list[str]:
    """How many samples have no number in x, in y or in one of the others, in words.

    Raises:
        ValueError: none has all.
    """
    said = []
    for y in ys:
        both = np.count_nonzero(_all(x, y, *others))
        if not both:
            raise ValueError(f"no sample has numbers in both {x.name!r} and {y.name!r}")
        if both < len(x.values):
            of = f" of {y.name!r}" if len(ys) > 1 else ""
            said.append(f"{len(x.values) - both:,} of {len(x.values):,} samples{of} left out")
    return said


def _all(*columns: Column | None) -> Array:
    found: Array = np.logical_and.reduce([np.isfinite(column.values) for column in columns if column is not None])
    return found
