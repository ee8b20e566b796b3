"""Where the rows of a table begin, and what stands above them: names, units, a preamble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import units
from .cells import is_nothing
from .lines import WHITE, Record, cells, is_blank
from .signs import SEPARATORS, has_numbers, numeric

ENOUGH = 100
"""Rows that are enough to see what the columns hold."""


@dataclass(frozen=True)
class Row:
    """A line and its cells."""

    record: Record
    cells: list[str]


@dataclass(frozen=True)
class Top:
    """What was found: the first row, a name for each column, the line of the names, the line of units."""

    first: Record
    names: list[str] | None = None
    named_by: Record | None = None
    units: Row | None = None


@dataclass(frozen=True)
class _Table:
    """What the last lines are like: how many cells they have, and which columns have numbers."""

    width: int
    columns: list[int]
    decimal: str

    @classmethod
    def like(cls, rows: Sequence[Row], decimal: str) -> _Table:
        """Like the rows that have numbers; those with a single one only if there are no others."""
        last = [row.cells for row in rows[-ENOUGH:]]
        sure = [row for row in last if has_numbers(row, decimal)]
        sure = sure or [row for row in last if any(numeric(cell, decimal) for cell in row)]
        if not sure:
            few = "has a header and no samples" if len(rows) == 1 else "has no line of numbers"
            raise ValueError(f"{few}; --skip, --sep, --decimal and --encoding say how to read it")
        width = Counter(map(len, sure)).most_common(1)[0][0]
        sure = [row for row in sure if len(row) == width]
        columns = [i for i in range(width) if 2 * sum(numeric(row[i], decimal) for row in sure) >= len(sure)]
        return cls(width, columns, decimal)

    def has_row(self, row: Row) -> bool:
        """Has it nothing but numbers where these belong, and one at least?"""
        numbers, nothing = self._counts(row)
        return numbers > 0 and numbers + nothing == len(self.columns)

    def has_faulty_row(self, rows: Sequence[Row], at: int) -> bool:
        """Is the line above the first row one with nothing in it, or with a mistake, and not the names?

        Names may be numbers too, as those of channels are. But then no other line of as many cells is above them.
        """
        numbers, nothing = self._counts(rows[at])
        if numbers + nothing == len(self.columns):
            return True
        if numbers == 0:
            return False
        here = [rows[at].cells[i] for i in self.columns]
        odd_name = self.width == 2 and not any(cell.isdecimal() for cell in here)
        return odd_name or (at > 0 and len(rows[at - 1].cells) == self.width)

    def _counts(self, row: Row) -> tuple[int, int]:
        if len(row.cells) != self.width:
            return 0, 0
        here = [row.cells[i] for i in self.columns]
        return sum(numeric(cell, self.decimal) for cell in here), sum(map(is_nothing, here))


def find_top(rows: Sequence[Row], decimal: str, separator: str) -> tuple[Top, list[list[str]]]:
    """The top of a table, and the first and the last of its rows, of as many cells each.

    Raises:
        ValueError: there are no rows; or the line above has not as many names as they have cells.
    """
    table = _Table.like(rows, decimal)
    first = next(i for i, row in enumerate(rows) if table.has_row(row))
    while first and table.has_faulty_row(rows, first - 1):
        first -= 1
    body = [row.cells for row in rows[first:] if len(row.cells) == table.width]
    body = body[:ENOUGH] + body[ENOUGH:][-ENOUGH:]
    top = Top(rows[first].record)
    if not first:
        return top, body
    last = rows[first - 1]
    names = _fitted(last.cells, body, top.first)
    if names is None:
        # by white space, names of two words are split; a title has several, and is no name
        if separator != WHITE and (len(last.cells) > 1 or " " not in last.record.text.strip()):
            count = f"{len(last.cells)} name{'s' if len(last.cells) > 1 else ''}"
            told = f"line {last.record.line} has {count} where line {top.first.line} has {table.width} cells"
            raise ValueError(f"{told}; mend it, or pass over it with --skip {last.record.line}")
        return top, body
    if first > 1 and all(is_nothing(names[i]) or units.is_unit(names[i]) for i in table.columns):
        above = _fitted(rows[first - 2].cells, body, top.first)
        if above is not None:
            return replace(top, names=above, named_by=rows[first - 2].record, units=replace(last, cells=names)), body
    return replace(top, names=names, named_by=last.record), body


def _fitted(names: list[str], body: Sequence[Sequence[str]], first: Record) -> list[str] | None:
    """Names for the columns of `body`, one each, or None if they are too few or too many."""
    width = len(body[0])
    more = width - len(names)
    if more <= 0:
        return names[:width] if is_blank(names[width:]) else None
    if all(is_blank(row[len(names) :]) for row in body):  # every line ends with a separator
        return names + [""] * more
    if more == 1 and first.text.lstrip().startswith('"'):
        return ["", *names]  # R does not name its row names, and quotes them; 1,000 without quotes is a thousand
    return None


def named_by_a_comment(top: Top, found: Sequence[Record], comments: tuple[str, ...], separator: str, width: int) -> Top:
    """The same, with names from the line above if that is a comment which has as many: `# x y`, as numpy writes it.

    Its names are those of the comment above, if they are units and that one has as many too.
    """
    above = [record for record in found if record.line < top.first.line][-2:]
    told = [(record, _names_in(record.text.strip(), comments, separator, width)) for record in above]
    if not told or not told[-1][1]:
        return top
    (first, upper), (last, lower) = told[0], told[-1]
    if first is not last and upper and lower and all(map(units.is_unit, lower)):
        return replace(top, names=upper, named_by=first, units=Row(last, lower))
    return replace(top, names=lower, named_by=last)


def _names_in(text: str, comments: tuple[str, ...], separator: str, width: int) -> list[str] | None:
    """So many names that are no numbers, from a comment; the sign of the comment may be the first of them."""
    sign = next((sign for sign in comments if text.startswith(sign)), None)
    if sign is None:
        return None
    for other in (*SEPARATORS, separator):
        for told in (text.lstrip(sign), text):
            names = cells(told, other)
            if len(names) == width and all(names) and not any(numeric(name, ".") for name in names):
                return names
    return None
