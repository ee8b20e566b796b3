"""Lines of text into cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

WHITE = ""
"""The separator that is any white space: several spaces are one."""

_QUOTED_OR_BARE = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_MOST_LINES = 20
"""A quote that is not closed after so many lines is no quote that goes on, but an inch."""


def cells(text: str, separator: str) -> list[str]:
    """The cells of a line, without the spaces around them and without quotes."""
    if '"' not in text:
        parts = text.split(separator) if separator else text.split()
    elif separator:
        parts = next(csv.reader(text.splitlines(keepends=True), delimiter=separator, skipinitialspace=True), [])
    else:
        parts = [quoted or plain for quoted, plain in _QUOTED_OR_BARE.findall(text)]
    return [" ".join(part.split()) for part in parts]


def is_blank(row: Sequence[str]) -> bool:
    """Is there nothing in any cell?"""
    return not any(row)


@dataclass(frozen=True)
class Record:
    """A line, or several if a quoted cell goes on in the next: where it begins and ends in the file, and its text."""

    line: int
    last: int
    text: str


def records(lines: Iterable[str], first: int) -> Iterator[Record]:
    """The records of `lines`, of which the first is line number `first` of the file; blank lines are left out."""
    lines = list(lines)
    at = 0
    while at < len(lines):
        text, used = lines[at], 1
        if text.count('"') % 2:
            text, used = _closed(lines, at)
        if text and not text.isspace():
            yield Record(first + at, first + at + used - 1, text)
        at += used


def _closed(lines: Sequence[str], at: int) -> tuple[str, int]:
    """The lines from `at` on, up to where the quotes are even; the one alone if that is nowhere near."""
    text = lines[at]
    for used in range(2, _MOST_LINES + 1):
        if at + used > len(lines):
            break
        text += lines[at + used - 1]
        if text.count('"') % 2 == 0:
            return text, used
    return lines[at], 1
