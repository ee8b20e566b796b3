"""The columns of a text file: in blocks by numpy's own reader where every cell is in order, else cell by cell.

A block that numpy's reader takes is right: every line has as many cells as it should, and every number is what Python's
float() makes of it. It knows no quotes, comments, dates and missing cells, and not which line is at fault: a block with
any of these is read again, three times as slowly, and that is what decides and what tells the mistake. Nothing is held
but a block and the columns that were asked for.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np

from ..._arrays import Array
from .cells import is_nothing, number, trouble
from .columns import DATE, EMPTY, TEXT, Heading, choose, samples_of
from .dates import Calendar, format_of
from .lines import WHITE, cells
from .samples import Column, Dates, Samples, Wanted
from .sniff import Layout, layout
from .source import opened, told_of

_HEAD = 2**16
"""Characters that are looked at before anything is read: a long preamble, and enough rows after it."""

_MORE_LINES = 30
"""Lines that are looked at beyond these: a line of names may be as long."""

_BLOCK = 2**18
"""Characters of a block: many lines, so that a call costs nothing, and few bytes."""

_SWAPPED = str.maketrans(",.", ".,")
_OTHER_THAN_UTF8 = "cp1252"


def read_text(file: Path, wanted: Wanted) -> Samples:
    """The samples of a text file; see `read_samples`."""
    with told_of(file), opened(file, wanted.encoding) as (stream, encoding):
        # numbers are ASCII in any case, and a name that is not UTF-8 is looked at again
        errors = "surrogateescape" if encoding is None else "strict"
        text = io.TextIOWrapper(stream, encoding or "utf-8", errors)
        try:
            return _read(text, encoding, wanted)
        except UnicodeDecodeError as error:
            told = f"is not {wanted.encoding or encoding} text ({error.reason})"
            raise ValueError(f"{told}; --encoding says what it is") from None
        finally:
            text.detach()  # or else it closes what it has not opened


def _read(text: TextIO, encoding: str | None, wanted: Wanted) -> Samples:
    for _ in range(wanted.skip):
        text.readline()
    head = text.readlines(_HEAD) + list(islice(text, _MORE_LINES))
    legible, said = _legible(head)
    if encoding not in (None, "utf-8-sig") and wanted.encoding is None:
        said.append(f"encoding {encoding}")
    found = layout(legible, wanted)
    choice = choose(found.headings, wanted)
    rows = _Rows(found, choice.all, wanted)
    block = head[found.first - 1 - wanted.skip :]
    while block:
        rows.take(block, text)
        block = text.readlines(_BLOCK)
    said += [*found.said, *choice.said, *rows.said]
    taken = [
        Column(heading.name or f"column {heading.number}", heading.unit, values, heading.number, bool(heading.name))
        for heading, values in zip(choice.all, rows.columns(), strict=True)
    ]
    dates = cells = None
    if rows.calendar is not None:
        dates = Dates(rows.calendar.origin, rows.calendar.unit, rows.calendar.form.name)
        taken[0] = replace(taken[0], unit=f"{dates.unit} since {dates.origin}")
        said.append(f"x counts {taken[0].unit}")
        cells = None if rows.calendar.cells is None else tuple(rows.calendar.cells)
    return samples_of(choice, taken, dates, said, cells)


def _legible(head: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """The lines with names that can be shown, if they are not UTF-8; numbers are the same in every encoding."""
    odd = [line for line in head if not line.isascii() and any("\udc80" <= sign <= "\udcff" for sign in line)]
    if not odd:
        return head, []
    raw = [line.encode("utf-8", "surrogateescape") for line in head]
    try:
        return [line.decode(_OTHER_THAN_UTF8) for line in raw], [f"encoding {_OTHER_THAN_UTF8}, for it is not UTF-8"]
    except UnicodeDecodeError:  # five bytes mean nothing in it
        return [line.decode("latin-1") for line in raw], ["encoding latin-1, for it is not UTF-8"]


class _Rows:
    """The columns of the rows, taken block by block.

    Attributes:
        calendar: what reads x, if that holds dates.
    """

    def __init__(self, found: Layout, columns: Sequence[Heading], wanted: Wanted) -> None:
        self.calendar: Calendar | None = None
        self._layout = found
        self._columns = columns
        self._omit = wanted.nan == "omit"
        self._has_text = any(heading.kind == TEXT for heading in found.headings)
        self._line = found.first - 1  # of the file, the last one that was taken
        self._parts: list[list[Array]] = [[] for _ in columns]
        self._comments = self._empty = 0
        asked = {heading.number for heading in columns}
        fields = [(f"f{heading.number}", "f8" if heading.number in asked else "S0") for heading in found.headings]
        self._dtype = np.dtype(fields)  # so every line is seen to have all cells, and nothing is kept of the others
        x = columns[0]
        if x.kind == DATE:
            try:
                since = None if wanted.like is None else wanted.like.dates
                cells_of_x = [row[x.number - 1] for row in found.examples]
                self.calendar = Calendar(format_of(cells_of_x, "" if since is None else since.form), since)
            except ValueError as error:
                raise ValueError(f"column {x.shown}: {error}") from None

    def take(self, lines: list[str], more: Iterator[str]) -> None:
        """Take the samples of `lines`, and of the first of `more` if the last of them goes on there."""
        if self._take_whole(lines):
            self._line += len(lines)
        else:
            self._take_by_cell(lines, more)

    def columns(self) -> list[Array]:
        """What was taken, an array for each column."""
        return [np.concatenate(parts) for parts in self._parts]

    @property
    def said(self) -> list[str]:
        """What was passed over, in words."""
        counts = {"comment line": self._comments, "empty row": self._empty}
        return [f"{_count(number, what)} passed over" for what, number in counts.items() if number]

    def _take_whole(self, lines: list[str]) -> bool:
        """Have numpy read the block, if it can; False: it cannot, and nothing is taken."""
        if self.calendar is not None or not any(map(str.strip, lines)):
            return False
        if self._has_text and '"' in "".join(lines):  # a quoted cell may hold a separator, or go on in the next block
            return False
        separator = self._layout.separator
        if self._layout.decimal == ",":
            if separator == ",":
                return False
            lines = "".join(lines).translate(_SWAPPED).split("\n")
        try:
            table = np.loadtxt(lines, self._dtype, comments=None, delimiter=separator or None, ndmin=1)
        except Exception:  # of many kinds, and what is wrong is told by cell
            return False
        parts = [np.ascontiguousarray(table[f"f{heading.number}"]) for heading in self._columns]
        if not all(np.isfinite(part).all() for part in parts):
            return False
        for kept, part in zip(self._parts, parts, strict=True):
            kept.append(part)
        return True

    def _take_by_cell(self, lines: list[str], more: Iterator[str]) -> None:
        last = self._line + len(lines)
        numbers: list[list[float]] = [[] for _ in self._columns]
        for row in self._cells(self._kept(chain(lines, more))):
            if self._is_sample(row):
                for taken, heading in zip(numbers, self._columns, strict=True):
                    taken.append(self._number(row, heading))
            if self._line >= last:
                break
        for kept, column in zip(self._parts, numbers, strict=True):
            kept.append(np.array(column, np.float64))

    def _kept(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._line += 1
            if line.lstrip().startswith(self._layout.comments):
                self._comments += 1
            elif not line.isspace():
                yield line

    def _cells(self, lines: Iterator[str]) -> Iterator[list[str]]:
        separator = self._layout.separator
        if separator == WHITE:
            yield from (cells(line, WHITE) for line in lines)
            return
        before = self._line
        try:
            # strict: or else a quote that is not closed takes in the lines below, and their samples are lost
            for row in csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True):
                before = self._line
                yield row
        except csv.Error as error:
            raise ValueError(f"line {before + 1}: {error}; a quote may not be closed there") from None

    def _is_sample(self, row: list[str]) -> bool:
        """Is it one? False if there is nothing in it."""
        headings = self._layout.headings
        if not any(map(str.strip, row)):
            self._empty += 1
            return False
        if len(row) < len(headings) and self._omit:
            row.clear()  # which cell is missing nobody knows
        elif len(row) != len(headings):
            missing, surplus = headings[len(row) :], row[len(headings) :]
            if any(map(str.strip, surplus)) or any(heading.kind != EMPTY for heading in missing):
                way = "--nan omit leaves it out" if missing else "is a decimal comma or a quote at fault?"
                told = f"line {self._line} has {_count(len(row), 'cell')} where line {self._layout.first} has"
                raise ValueError(f"{told} {len(headings)}; {way}")
        return True

    def _number(self, row: list[str], heading: Heading) -> float:
        cell = row[heading.number - 1].strip() if heading.number <= len(row) else ""
        is_date = self.calendar is not None and heading is self._columns[0]
        try:
            if is_nothing(cell):
                if self._omit:
                    return math.nan
                raise ValueError(trouble(cell, self._layout.decimal))
            return self.calendar.read(cell) if self.calendar and is_date else self._plain(cell)
        except ValueError as error:
            column = heading.name or heading.number
            raise ValueError(f"line {self._line}, column {column}: {error}") from None

    def _plain(self, cell: str) -> float:
        try:
            value = number(cell, self._layout.decimal)
        except ValueError:
            raise ValueError(trouble(cell, self._layout.decimal)) from None
        if math.isinf(value):
            raise ValueError(f"{cell!r} is beyond what float64 can hold; scale the column down")
        return value


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
