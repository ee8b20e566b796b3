"""What a cell of a text file holds: a number, nothing, or something that only looks like a number."""

from __future__ import annotations

import re

from .dates import is_date

_NOTHING = """na n/a n.a. nan -nan +nan null none nil missing - -- --- . ? * #n/a #na #nv #wert! #value! #div/0! #num!
nan(ind) -nan(ind) 1.#qnan -1.#ind 1.#inf -1.#inf inf +inf -inf infinity +infinity -infinity
\u221e +\u221e -\u221e \u2212\u221e \u2013 \u2014"""
NOTHING = frozenset(_NOTHING.split()) | {""}
"""What programs write where they have no number, in small letters; the infinities are none to fit either."""

_MINUS = "\u2212"

_THOUSANDS = {
    ".": re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+|(?:[ '\u00a0\u202f\u2019]\d{3})+)(?:\.\d*)?"),
    ",": re.compile(r"[+-]?\d{1,3}(?:(?:\.\d{3})+|(?:[ '\u00a0\u202f\u2019]\d{3})+)(?:,\d*)?"),
}
_SUFFIX = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s.,:/\-+][^\d\s,;:]{0,9})")


_MONEY = re.compile(r"[+-]?[$\u20ac\u00a3\u00a5]\s?[+-]?\d[\d.,]*")
_FORTRAN = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+))[dD]([+-]?\d+)")


def number(cell: str, decimal: str = ".") -> float:
    """A number as files hold them, also with a minus sign of print. Python also reads its own 1_000, and other digits.

    Raises:
        ValueError: it is none.
    """
    if not cell.isascii():
        cell = cell.replace(_MINUS, "-")
    if "_" in cell or not cell.isascii():
        raise ValueError
    if decimal == "," and "," in cell:
        if "." in cell or cell[-1] == ",":
            raise ValueError
        return float(cell.replace(",", "."))
    if decimal == "," and "." in cell:
        raise ValueError
    return float(cell)


def is_number(cell: str, decimal: str) -> bool:
    """Is it a number, and a finite one?"""
    if is_nothing(cell):
        return False
    try:
        number(cell, decimal)
    except ValueError:
        return False
    return True


def is_nothing(cell: str) -> bool:
    """Does it say that there is no number?"""
    return cell.lower() in NOTHING


def looks_like_a_number(cell: str, decimal: str) -> bool:
    """Is it meant as one, though it cannot be read safely: with thousands marked, a sign or a unit after it?"""
    return has_thousands(cell, decimal) or any(form.fullmatch(cell) for form in (_SUFFIX, _MONEY, _FORTRAN))


def has_thousands(cell: str, decimal: str) -> bool:
    """Is it a number with its thousands marked, such as 1,000?"""
    return _THOUSANDS[decimal].fullmatch(cell) is not None


def trouble(cell: str, decimal: str) -> str:
    """Why a cell is not read as a number, and the way out."""
    if is_nothing(cell):
        what = f"{cell!r} is no number to fit" if cell else "is empty"
        return f"{what}; --nan omit leaves such samples out"
    if has_thousands(cell, decimal):
        digits = re.sub(r"[^\d+\-.,]", "", cell).replace("," if decimal == "." else ".", "")
        way = f"; if that comma is a decimal one, --decimal {','}" if decimal == "." and cell.count(",") == 1 else ""
        return f"{cell!r} has its thousands marked; write it as {digits}{way}"
    fortran = _FORTRAN.fullmatch(cell)
    if fortran:
        return f"{cell!r} has an exponent as Fortran writes it; write {fortran[1]}e{fortran[2]}"
    suffix = _SUFFIX.fullmatch(cell)
    if suffix and suffix[2] == "%":
        return f"{cell!r} is a percentage; write it without the sign, as {suffix[1]} or as a hundredth of that"
    if is_date(cell):
        return f"{cell!r} is a date among numbers, or in a column of y; only x may hold dates, all of them alike"
    other = "," if decimal == "." else "."
    if is_number(cell, other):
        return f"{cell!r} is not a number with a decimal {_SPOKEN[decimal]}; --decimal {other} reads it"
    if suffix:
        return f"{cell!r} carries a unit; write {suffix[1]} there, and {suffix[2]} into the header"
    if _MONEY.fullmatch(cell):
        return f"{cell!r} is an amount of money; write the number alone"
    return f"{cell!r} is not a number; mend it, or pass over such lines with --skip or --comment"


_SPOKEN = {".": "point", ",": "comma"}
