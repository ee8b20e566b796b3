"""Numbers on the command line as everybody writes them: Python's int() and float() also read 1_000 and other digits."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import typer

AUTO = "auto"
"""What stands for a number that fastpoly chooses."""

NONE = "none"
"""What stands for no domain."""

_MOST_DIGITS = 30
"""More than any count has: 1e999999999 would be a number of as many digits before anybody could refuse it."""


def integer(text: int | str) -> int:
    """A whole number, also as 1e6; the name stands in the help.

    Raises:
        typer.BadParameter: it is none.
    """
    if isinstance(text, int):  # a default
        return text
    try:
        number = Decimal(_plain(text))
        if number.is_finite() and number.adjusted() < _MOST_DIGITS and number == number.to_integral_value():
            return int(number)
    except (ValueError, InvalidOperation):
        pass
    raise typer.BadParameter(f"{text!r} is not a valid integer; write it like 1000 or 1e3")


def real(text: float | str) -> float:
    """Any number, as `integer`."""
    if isinstance(text, float):
        return text
    try:
        return float(_plain(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a valid float; write it like 1e-5") from None


def integer_or_auto(text: int | str) -> int | str:
    """As `integer`, or the word auto."""
    return AUTO if text == AUTO else integer(text)


def real_or_auto(text: float | str) -> float | str:
    """As `real`, or the word auto."""
    return AUTO if text == AUTO else real(text)


def domain(text: str | tuple[float, float]) -> tuple[float, float] | str:
    """Two numbers with a comma between them, or one of the words auto and none."""
    if text in (AUTO, NONE) or not isinstance(text, str):
        return text
    ends = text.split(",")
    if len(ends) != 2:
        raise typer.BadParameter(f"{text!r} is not a valid domain; write auto, none or the two ends, like -1,1")
    lower, upper = real(ends[0]), real(ends[1])
    if not lower < upper:
        raise typer.BadParameter(f"{text!r} is not a valid domain; write the lower end first, like -1,1")
    return lower, upper


def reals(text: float | str) -> float | tuple[float, ...]:
    """A number, or several with commas between them."""
    if isinstance(text, float) or "," not in text:
        return real(text)
    return tuple(map(real, text.split(",")))


def _plain(text: str) -> str:
    if "_" in text or not text.isascii():
        raise ValueError
    return text
