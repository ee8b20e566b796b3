"""Numbers as people read them: three digits, a unit that fits, a dash for what was not measured."""

from __future__ import annotations

import math

DASH = "–"


def digits(value: float) -> str:
    """Three significant digits, all of those before the point, thousands apart."""
    if value == 0 or not 1e-3 <= abs(value) < 1e9:
        return f"{value:.3g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))
    return f"{value:,.{decimals}f}"


def seconds(value: float | None) -> str:
    """A time in the unit that leaves one to three digits before the point."""
    if value is None:
        return DASH
    if value < 0:
        return f"−{seconds(-value)}"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if float(f"{value / size:.3g}") >= 1:
            return f"{digits(value / size)} {unit}"
    return f"{digits(value * 1e9)} ns"


def tick(value: float) -> str:
    """As `seconds`, for a power of ten: no digits after the point that say nothing."""
    number, unit = seconds(value).split()
    return f"{float(number.replace(',', '')):g} {unit}"


def nanoseconds(value: float | None) -> str:
    """As `seconds`, of nanoseconds."""
    return seconds(None if value is None else value * 1e-9)


def times(value: float | None) -> str:
    """A ratio: 0.90×, 12.3×, 4,566×."""
    return DASH if value is None else f"{value:.2f}×" if 0.01 <= value < 1 else f"{digits(value)}×"


def count(value: float | None) -> str:
    """A whole number; a power of ten from a million on as one: 10⁸."""
    if value is None:
        return DASH
    power = round(math.log10(value)) if value > 0 else 0
    return _power(power) if power >= 6 and value == 10.0**power else f"{value:,.0f}"


def tick_count(value: float) -> str:
    """As `count`, for a power of ten on an axis: 10⁴ from there on."""
    power = round(math.log10(value))
    return _power(power) if power >= 4 else f"{value:,.0f}"


def _power(power: int) -> str:
    return "10" + str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def deviation(value: float | None) -> str:
    """A rounding error: one digit and its power of ten."""
    return DASH if value is None else "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")


def measured(value: float | None, unit: str) -> str:
    """A value in its own unit; a whole number that has none is a count."""
    if value is None:
        return DASH
    if unit == "×":
        return times(value)
    return count(value) if not unit and value.is_integer() else f"{digits(value)} {unit}".rstrip()
