"""Is a word a unit? A line of them may stand between the names and the numbers."""

from __future__ import annotations

import re

_SYMBOLS = """s S m g A K mol cd Hz N Pa J W C V F Ω Ω ohm ohms Ohm Ohms H Wb T G lm lx Bq Gy Sv eV bar l L B b
Vpp Vrms dB dBm dBV rad sr"""
_WORDS = r"""seconds? secs? minutes? mins? hours? hrs? days? weeks? months? years? yrs? met(?:er|re)s? grams? volts?
amperes? amps? watts? joules? newtons? pascals? kelvins? celsius fahrenheit hertz farads? henrys? teslas? gauss ohms?
moles? lit(?:er|re)s? radians? degrees? deg degc degf counts? cts samples? points? pixels? px percent units? torr mmhg
psi atm sekunden? minuten? stunden? tage?"""
_OTHERS = r"°[CF]? º[CF] % ‰ ppm ppb a\.?u\.? arb\.? min h d in ft 1 -"


def _one_of(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


_SYMBOL = rf"(?:da|[yzafpnuµμmcdhkKMGTPE])?{_one_of(_SYMBOLS)}"
_WORD = rf"(?i:(?:milli|micro|nano|kilo|mega)?{_one_of(_WORDS)})"
_ATOM = rf"(?:{_SYMBOL}|{_WORD}|{_one_of(_OTHERS)})(?:\^?-?\d+|[²³⁻¹]+)?"
_UNIT = re.compile(rf"{_ATOM}(?:\s*[*·/ ]\s*{_ATOM})*")
_BRACKETED = re.compile(r"\((.*)\)|\[(.*)\]|<(.*)>")
_TRAILING = re.compile(r".*?[\s\w]\s*(?:\(([^()]+)\)|\[([^\[\]]+)\])")


def is_unit(cell: str) -> bool:
    """Is `cell` a unit: s, Volt, m/s^2, [mV], (%)?"""
    return _BRACKETED.fullmatch(cell) is not None or _UNIT.fullmatch(cell) is not None


def bare(cell: str) -> str:
    """A unit without its brackets."""
    bracketed = _BRACKETED.fullmatch(cell)
    return next(part for part in bracketed.groups() if part is not None).strip() if bracketed else cell


def of_name(name: str) -> str:
    """The unit in a name, "" if there is none: V of "Channel 1 (V)"."""
    trailing = _TRAILING.fullmatch(name)
    inside = next((part for part in trailing.groups() if part), "").strip() if trailing else ""
    return inside if inside and is_unit(inside) else ""
