"""Dates and times of day as an x, by whole nanoseconds: nothing is rounded but the result."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .samples import Dates

_SECOND = 10**9
_DAY = 86_400 * _SECOND

_LONGEST = 60
"""Signs of a date, with some room: 2020-01-01 00:00:00.000000000 AM +00:00."""

_SECONDS = r"(?P<S>\d{2})(?:[.,](?P<fraction>\d{1,9}))?"
_TIME = rf"(?P<H>\d{{1,2}}):(?P<M>\d{{2}})(?::{_SECONDS})?(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?"
_ZONE = r"(?:\s?(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}))?"


@dataclass(frozen=True)
class Format:
    """A way to write a date or a time: its name, its pattern, and the unit in which such an x counts."""

    name: str
    pattern: re.Pattern[str]
    unit: str

    @property
    def has_day(self) -> bool:
        """Does it tell the day, or only the time of one?"""
        return "day" in self.pattern.groupindex

    def read(self, cell: str) -> tuple[int, bool] | None:
        """Nanoseconds since a moment that is the same for all, and is the zone told? None: `cell` is not written so."""
        found = self.pattern.fullmatch(cell)
        if found is None or not cell.isascii():
            return None
        part = found.groupdict()
        total = 0
        if part.get("day"):
            try:
                total = _DAY * datetime.date(int(part["year"]), int(part["month"]), int(part["day"])).toordinal()
            except ValueError:  # no such day
                return None
        if part.get("H"):
            hour, minute, second = int(part["H"]), int(part["M"]), int(part["S"] or 0)
            if part.get("half"):
                if not 0 < hour < 13:
                    return None
                hour = hour % 12 + (12 if part["half"] in "Pp" else 0)
            if minute > 59 or second > 60 or (hour > 24 and "day" in part):
                return None
            total += (3600 * hour + 60 * minute + second) * _SECOND + int((part["fraction"] or "0").ljust(9, "0"))
        zone = part.get("zone") or ""
        if zone[:1] in ("+", "-"):
            digits = zone[1:].replace(":", "").ljust(4, "0")
            offset = (3600 * int(digits[:2]) + 60 * int(digits[2:])) * _SECOND
            total += -offset if zone[0] == "+" else offset
        return total, bool(zone)


def _dated(name: str, day: str) -> tuple[Format, Format]:
    with_time = Format(f"{name} hours:minutes", re.compile(rf"{day}(?:T|\s+){_TIME}{_ZONE}"), "seconds")
    return Format(name, re.compile(day), "days"), with_time


FORMATS = (
    *_dated("year-month-day", r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})"),
    *_dated("day.month.year", r"(?P<day>\d{1,2})(\.)(?P<month>\d{1,2})\2(?P<year>\d{4})"),
    *_dated("day/month/year", r"(?P<day>\d{1,2})([-/])(?P<month>\d{1,2})\2(?P<year>\d{4})"),
    *_dated("month/day/year", r"(?P<month>\d{1,2})([-/])(?P<day>\d{1,2})\2(?P<year>\d{4})"),
    Format("hours:minutes:seconds", re.compile(rf"(?P<H>\d{{1,5}}):(?P<M>\d{{2}}):{_SECONDS}"), "seconds"),
)


def is_date(cell: str) -> bool:
    """Is `cell` a date, or a time of day? Most are none, and are seen to be quickly."""
    if len(cell) > _LONGEST:
        return False
    signs = ":" in cell or cell.count("-") > 1 or cell.count("/") > 1 or cell.count(".") > 1
    return signs and any(form.read(cell) for form in FORMATS)


def format_of(cells: Sequence[str], likely: str = "") -> Format:
    """The format in which `cells` are written, those of them that are dates; the one named `likely`, if it may be.

    Raises:
        ValueError: there are two, as where 01/02/2020 may be in January or in February; or none for all.
    """
    cells = [cell for cell in cells if is_date(cell)]
    fitting = [form for form in FORMATS if all(form.read(cell) for cell in cells)]
    if any(form.name == likely for form in fitting):
        return next(form for form in fitting if form.name == likely)
    if len(fitting) > 1:
        names = " or ".join(form.name for form in fitting)
        raise ValueError(f"{cells[0]!r} may be {names}; write the year first")
    if fitting:
        return fitting[0]
    return next(form for form in FORMATS if form.read(cells[0]))  # the reader stops where another begins


class Calendar:
    """Reads a column of dates, cell by cell, all of them in one format.

    Attributes:
        origin: the first cell; or that of `since`, from which it counts then, and in whose unit.
        unit: days or seconds.
        cells: those that it has read, if it counts from another's origin.
    """

    def __init__(self, form: Format, since: Dates | None = None) -> None:
        self.form = form
        self.origin = ""
        self.unit = form.unit
        self.cells: list[str] | None = None
        self._zoned = False
        self._first = self._before = 0
        if since is not None:
            self._count_from(since)
        self._per = _DAY if self.unit == "days" else _SECOND

    def _count_from(self, since: Dates) -> None:
        theirs = [form for form in FORMATS if form.name == since.form and form.read(since.origin)]
        if not theirs or since.unit not in ("days", "seconds"):
            raise ValueError(f"the fit counts from {since.origin!r}, which is no date; fit again")
        if theirs[0].has_day is not self.form.has_day:
            raise ValueError(f"the fit counts from {since.origin!r}, and these are as {self.form.name}; write them so")
        found = theirs[0].read(since.origin)
        assert found is not None
        self._first, self._zoned = found
        self._before = self._first
        self.origin, self.unit, self.cells = since.origin, since.unit, []

    def read(self, cell: str) -> float:
        """Days or seconds since the first cell.

        Raises:
            ValueError: it is written otherwise than the first; or it is a time of day beyond midnight.
        """
        found = self.form.read(cell)
        if found is None:
            raise ValueError(f"{cell!r} is not a date as {self.form.name}, as the first is; write them all alike")
        moment, zoned = found
        if not self.origin:
            self.origin, self._zoned, self._first, self._before = cell, zoned, moment, moment
        if zoned is not self._zoned:
            raise ValueError(f"{cell!r} and {self.origin!r}: only one of them tells its time zone; write it with all")
        if moment < self._before - _DAY // 2 and not self.form.has_day:
            raise ValueError(f"{cell!r} goes back by half a day or more: past midnight? Write the dates too")
        self._before = moment
        if self.cells is not None:
            self.cells.append(cell)
        return (moment - self._first) / self._per
