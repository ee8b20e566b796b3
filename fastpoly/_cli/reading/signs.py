"""The separator and the decimal sign: those that make the most numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .cells import has_thousands, is_nothing, is_number, looks_like_a_number
from .dates import is_date
from .lines import WHITE, cells
from .samples import Wanted

SEPARATORS = {"\t": "tab", ";": "';'", "|": "'|'", ",": "','", WHITE: "white space"}
"""What is looked for, and what it is called; of two that do as well, the one that stands first here."""

_WORDS = {"tab": "\t", "\\t": "\t", "space": WHITE, " ": WHITE}
_LESS = 0.9
"""A cell with nothing, or with what only looks like a number, speaks a little less for a separator than a number."""

_WEAK = 0.01
"""A line with a single number in it hardly speaks for one."""

ONE_CELL = "\x1f"
"""A separator that no text has."""

_RIVAL = 0.9
"""A second way to split that makes nine tenths as many numbers may be the right one."""


@dataclass(frozen=True)
class _Way:
    score: float
    separator: str
    decimal: str
    rows: list[list[str]]


def numeric(cell: str, decimal: str) -> bool:
    """Is a cell meant as a number or a date?"""
    return is_number(cell, decimal) or looks_like_a_number(cell, decimal) or is_date(cell)


def has_numbers(row: Sequence[str], decimal: str) -> bool:
    """Is it a row of samples: a number, and another cell with a number or with what stands for a missing one?"""
    numbers = sum(numeric(cell, decimal) for cell in row)
    return numbers > 0 and numbers + sum(map(is_nothing, row)) > 1


def signs(texts: Sequence[str], wanted: Wanted) -> tuple[str, str]:
    """Separator and decimal sign of these lines.

    Raises:
        ValueError: an option is none, or two ways to read are equally likely; the message asks.
    """
    asked = None if wanted.separator is None else _separator(wanted.separator)
    if wanted.decimal not in (None, ".", ","):
        raise ValueError(f"--decimal: wants . or , got {wanted.decimal!r}")
    separators = list(SEPARATORS) if asked is None else [asked]
    decimals = (".", ",") if wanted.decimal is None else (wanted.decimal,)
    quoted = any('"' in text for text in texts)
    ways = [
        _way(texts, separator, decimal)
        for separator in separators
        if not separator or asked is not None or any(separator in text for text in texts)
        for decimal in decimals
        if separator != decimal or quoted or wanted.decimal is not None  # else no cell can have that decimal sign
    ]
    if wanted.like is not None and asked is None and _one_cell_a_line(texts, wanted.decimal or "."):
        ways = [_way(texts, ONE_CELL, decimal) for decimal in decimals]
    if any(way.score >= 2 * _WEAK and way.separator in ("\t", ";", "|") for way in ways):
        ways = [way for way in ways if way.separator != WHITE]  # what stands between them may hold spaces
    best = max(ways, key=lambda way: way.score)
    for other in ways:
        if other.separator != best.separator and other.score > _RIVAL * best.score and other.rows != best.rows:
            either = f"{SEPARATORS[best.separator]} or {SEPARATORS[other.separator]}"
            raise ValueError(f"the separator may be {either}; --sep says which")
    if best.decimal == "," and wanted.decimal is None:
        _refuse_thousands(best.rows)
    return best.separator, best.decimal


def _separator(wanted: str) -> str:
    separator = _WORDS.get(wanted, wanted)
    if len(separator) > 1 or separator in ("\n", "\r", '"'):
        raise ValueError(f"--sep: wants one character, tab or space, got {wanted!r}")
    return separator


def _one_cell_a_line(texts: Sequence[str], decimal: str) -> bool:
    """Is a line a number or a date, and nothing else? By white space a day and a time, or a name, are two cells."""
    lines = [row[0] for row in (cells(text, ONE_CELL) for text in texts) if row and not is_nothing(row[0])]
    return 2 * sum(is_number(line, decimal) or is_date(line) for line in lines) >= len(lines)


def _way(texts: Iterable[str], separator: str, decimal: str) -> _Way:
    rows = [cells(text, separator) for text in texts]
    scores: Counter[int] = Counter()
    for row in rows:
        worth = sum(_worth(cell, decimal) for cell in row) / max(len(row), 1)
        scores[len(row)] += worth if has_numbers(row, decimal) else _WEAK * worth  # type: ignore[assignment]
    return _Way(max(scores.values(), default=0), separator, decimal, rows)


def _worth(cell: str, decimal: str) -> float:
    if is_number(cell, decimal) or is_date(cell):
        return 1
    return _LESS if is_nothing(cell) or looks_like_a_number(cell, decimal) else 0


def _refuse_thousands(rows: Iterable[Sequence[str]]) -> None:
    """1,000 and 2,500 and no other commas: thousands, or three decimal places?"""
    with_comma = [cell for row in rows for cell in row if "," in cell and is_number(cell, ",")]
    if with_comma and all(has_thousands(cell, ".") for cell in with_comma):
        cell = with_comma[0]
        either = f"{cell.replace(',', '')} or {cell.replace(',', '.')}"
        raise ValueError(f"{cell!r} may be {either}; --decimal , or . says which")
