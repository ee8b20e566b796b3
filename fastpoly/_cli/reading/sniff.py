"""What a text file looks like, from its beginning: separator, decimal sign, comments, names, units, the first row.

Only what is safe is taken, and all of it is said; where two readings are as good, the user is asked. The first row is
the first line that has numbers where the last lines have them. Right above it stand the units, if it is a line of
units, and the names; what is above those is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import units
from .cells import is_nothing
from .columns import COUNTER, DATE, EMPTY, NUMBER, TEXT, Heading
from .dates import is_date
from .lines import Record, cells, is_blank, records
from .samples import Wanted
from .signs import ONE_CELL, SEPARATORS, numeric, signs
from .top import ENOUGH, Row, Top, find_top, named_by_a_comment

COMMENTS = ("#", "%", "//", "!")
"""How a line begins that is passed over: no number and hardly a name does. So does ";" if it separates no cells."""

_SCORED = 50
"""Lines that are enough to see the separator."""

_COUNTER_NAMES = "index idx sample samples row rows no no. nr nr. # n num number id record point obs scan"
_COUNTERS = frozenset(_COUNTER_NAMES.split())


@dataclass(frozen=True)
class Layout:
    """How to read a text file.

    Attributes:
        separator: one character, or lines.WHITE.
        decimal: "." or ",".
        comments: how lines begin that are passed over.
        headings: one for each cell of a row.
        examples: some of the rows.
        first: the number of the first row's line.
        said: what was found here, in words.
    """

    separator: str
    decimal: str
    comments: tuple[str, ...]
    headings: tuple[Heading, ...]
    examples: tuple[Sequence[str], ...]
    first: int
    said: tuple[str, ...]


def layout(lines: Sequence[str], wanted: Wanted) -> Layout:
    """The layout of a text that begins with `lines`, after those that `wanted` passes over.

    Raises:
        ValueError: it has no columns of numbers, or more than one way to read them; the message says what to do.
    """
    comments: tuple[str, ...] = COMMENTS
    if wanted.comment is not None:
        comments = (wanted.comment,) if wanted.comment else ()
    found = list(records(lines, wanted.skip + 1))
    told = [record for record in found if not record.text.lstrip().startswith(comments)]
    if not told:
        raise ValueError("is empty, wants a header and one line a sample")
    separator, decimal = signs([record.text for record in told[-_SCORED:]], wanted)
    if wanted.comment is None and separator != ";":
        comments += (";",)
        told = [record for record in told if not record.text.lstrip().startswith(";")]
    rows = [Row(record, cells(record.text, separator)) for record in told]
    rows = [row for row in rows if not is_blank(row.cells)]
    top, body = find_top(rows, decimal, separator)
    if top.names is None:
        top = named_by_a_comment(top, found, comments, separator, len(body[0]))
    said = [_said_of_signs(separator, decimal, wanted), *_said_of_top(top, found)]
    return Layout(
        separator,
        decimal,
        comments,
        tuple(_headings(top, body, decimal)),
        tuple(body),
        top.first.line,
        tuple(filter(None, said)),
    )


def _headings(top: Top, body: Sequence[Sequence[str]], decimal: str) -> list[Heading]:
    columns = list(zip(*body, strict=True))
    kinds = [_kind(column, decimal) for column in columns]
    headings = []
    for i, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        name = top.names[i] if top.names else ""
        unit = units.of_name(name)
        if top.units and units.is_unit(top.units.cells[i]):
            unit = units.bare(top.units.cells[i])
        counter = top.names is not None and (not name or name.lower() in _COUNTERS or name.startswith("Unnamed: "))
        others = len([k for k in kinds if k in (NUMBER, DATE)]) - 1
        if counter and others > 1 and _counts(column):
            kind = COUNTER
        headings.append(Heading(i + 1, name, unit, kind))
    return headings


def _kind(column: Sequence[str], decimal: str) -> str:
    """What half of a column's cells are, or more, of those that are something."""
    cells = [cell for cell in column if not is_nothing(cell)]
    if 2 * len(cells) < len(column):
        return EMPTY
    if 2 * sum(map(is_date, cells)) >= len(cells):
        return DATE
    return NUMBER if 2 * sum(numeric(cell, decimal) for cell in cells) >= len(cells) else TEXT


def _counts(column: Sequence[str]) -> bool:
    """Does it count the rows, 0, 1, 2 ...?"""
    column = column[:ENOUGH]  # those after these may be far below
    if not all(cell.isdecimal() and cell.isascii() for cell in column):
        return False
    first = int(column[0])
    return [int(cell) for cell in column] == list(range(first, first + len(column)))


def _said_of_signs(separator: str, decimal: str, wanted: Wanted) -> str:
    found = wanted.separator is None and separator != ONE_CELL
    said = [f"separator {SEPARATORS.get(separator, repr(separator))}"] if found else []
    if decimal == "," and wanted.decimal is None:
        said.append("decimal comma")
    return ", ".join(said)


def _said_of_top(top: Top, found: Sequence[Record]) -> list[str]:
    used = [record for record in (top.named_by, top.units and top.units.record) if record]
    passed = [record for record in found if record.line < top.first.line and record not in used]
    said = [f"{_lines(passed)} passed over"] if passed else []
    if top.named_by is None:
        return [*said, f"no header, first row in line {top.first.line}"]
    said.append(f"names from line {top.named_by.line}")
    if top.units:
        said[-1] += f", units from line {top.units.record.line}"
    return said


def _lines(passed: Sequence[Record]) -> str:
    runs: list[list[int]] = []
    for record in passed:
        if runs and runs[-1][1] == record.line - 1:
            runs[-1][1] = record.last
        else:
            runs.append([record.line, record.last])
    words = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    more = len(words) > 1 or runs[0][0] != runs[0][1]
    return f"{'lines' if more else 'line'} {', '.join(words)}"
