"""Which columns are x and y: what was asked for, or what can be nothing else. Where it can, the user is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..._near import near
from .samples import Wanted

NUMBER, DATE, TEXT, EMPTY, COUNTER = "number", "date", "text", "empty", "counter"
"""What a column holds; EMPTY: nothing in most of its cells; COUNTER: it only numbers the rows."""

_X_NAMES = re.compile(r"x|t|time|zeit|dates?|datum|date ?time|time ?stamp|x[ -_]?(axis|data|values?)|elapsed.*|.*time")
_Y_NAMES = re.compile(r"y|f\(x\)|y[ -_]?(axis|data|values?)")
_MOST_LISTED = 20


@dataclass(frozen=True)
class Heading:
    """A column before it is read: its number as --x and --y count, its name ("" if it has none), unit and kind."""

    number: int
    name: str
    unit: str = ""
    kind: str = NUMBER

    @property
    def shown(self) -> str:
        """For a message."""
        return repr(self.name) if self.name else f"column {self.number}"

    @property
    def option(self) -> str:
        """What --x or --y takes for it."""
        return _quoted(self.name) if self.name else str(self.number)

    @property
    def like_x(self) -> bool:
        """Does it say of itself that it is x?"""
        return self.kind == DATE or _X_NAMES.fullmatch(_without_unit(self.name)) is not None

    @property
    def like_y(self) -> bool:
        """Does it say of itself that it is y?"""
        return _Y_NAMES.fullmatch(_without_unit(self.name)) is not None


def choose(headings: Sequence[Heading], wanted: Wanted) -> tuple[Heading, list[Heading], list[str]]:
    """x, every y, and what is to be said of them.

    Raises:
        ValueError: there is no such column; or what is left open could be more than one, and the message asks.
    """
    ys = [_found(headings, "--y", name) for name in wanted.y]
    for i, heading in enumerate(ys):
        if heading in ys[:i]:
            raise ValueError(f"--y: {heading.shown} is asked for twice; once is enough")
    usable = [heading for heading in headings if heading.kind in (NUMBER, DATE)]
    if wanted.x is None and not ys:
        _refuse_same_names(usable)
        _refuse_reversed(usable)
    x = _found(headings, "--x", wanted.x) if wanted.x is not None else _implied_x(headings, usable, ys)
    ys = ys or [_implied_y(headings, usable, x)]
    said = [f"x is {_placed(x)}, y is {' and '.join(map(_placed, ys))}"]
    if wanted.x is None or not wanted.y:
        said += _left_out(headings, (x, *ys))
    return x, ys, said


def _found(headings: Sequence[Heading], option: str, wanted: str) -> Heading:
    """The column of that name, or else of that number."""
    named = [heading for heading in headings if heading.name == wanted]
    if len(named) > 1:
        numbers = " or ".join(str(heading.number) for heading in named)
        raise ValueError(f"{option}: {len(named)} columns are named {wanted!r}; choose by number: {numbers}")
    numbered = [heading for heading in headings if str(heading.number) == wanted]
    if not named and not numbered:
        names = [heading.name for heading in headings if heading.name]
        listed = _listed(headings)
        raise ValueError(f"{option}: no column {wanted!r}; it has {listed}{near(wanted, names)}")
    return (named or numbered)[0]


def _implied_x(headings: Sequence[Heading], usable: Sequence[Heading], ys: Sequence[Heading]) -> Heading:
    rest = [heading for heading in usable if heading not in ys]
    if not rest or (not ys and len(usable) < 2):
        raise ValueError(f"wants two columns of numbers, got {_with_kinds(headings)}")
    first = rest[0]
    clear = len(rest) == 1 or (first is usable[0] and (first.like_x or not any(other.like_x for other in rest)))
    dates = sum(heading.kind == DATE for heading in rest)
    if clear and dates < 2:
        return first
    if ys:
        raise ValueError(f"which column is x: {_either(rest)}? Name it, as in --x {first.option}")
    example = next((heading for heading in rest if heading.like_x), first)
    other = next((heading for heading in rest if heading is not example and heading.kind == NUMBER), rest[-1])
    options = f"--x {example.option} --y {other.option}"
    raise ValueError(f"which columns are x and y: {_either(rest)}? Name them, as in {options}")


def _implied_y(headings: Sequence[Heading], usable: Sequence[Heading], x: Heading) -> Heading:
    rest = [heading for heading in usable if heading is not x and heading.kind == NUMBER]
    if not rest:
        raise ValueError(f"wants two columns of numbers, got {_with_kinds(headings)}")
    if len(rest) > 1:
        raise ValueError(f"which column is y: {_either(rest)}? Name it, as in --y {rest[0].option} (x is {x.shown})")
    return rest[0]


def _refuse_same_names(usable: Sequence[Heading]) -> None:
    for heading in usable:
        same = [other for other in usable if other.name == heading.name]
        if heading.name and len(same) > 1:
            other = next((other for other in usable if other.name != heading.name), same[1])
            way = f"--x {heading.number} --y {other.number}"
            raise ValueError(f"{len(same)} columns are named {heading.name!r}; choose by number, as in {way}")


def _refuse_reversed(usable: Sequence[Heading]) -> None:
    """Two columns, and their names say that y comes first: it may be so, or the names may be wrong."""
    if len(usable) != 2:
        return
    first, second = usable
    if (second.like_x and not first.like_x) or (first.like_y and not second.like_y):
        way = f"--x {second.option} --y {first.option}, or the other way round"
        raise ValueError(f"which column is x: {first.shown} comes first, but {second.shown} may be meant? Say {way}")


def _left_out(headings: Sequence[Heading], taken: Sequence[Heading]) -> list[str]:
    reasons = {COUNTER: "it counts the rows", EMPTY: "nothing is in most of its cells", TEXT: "it is text"}
    return [
        f"{heading.shown} left out, {reasons[heading.kind]}"
        for heading in headings[:_MOST_LISTED]
        if heading not in taken and heading.kind in reasons and (heading.name or heading.kind == COUNTER)
    ]


def _placed(heading: Heading) -> str:
    return f"{heading.shown} (column {heading.number})" if heading.name else heading.shown


def _either(headings: Sequence[Heading]) -> str:
    shown = [heading.shown for heading in headings[:_MOST_LISTED]]
    if len(headings) > _MOST_LISTED:
        return f"{', '.join(shown)} or one of {len(headings) - _MOST_LISTED} more"
    return f"{', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else shown[0]


def _listed(headings: Sequence[Heading]) -> str:
    shown = [heading.name or str(heading.number) for heading in headings[:_MOST_LISTED]]
    more = [f"and {len(headings) - _MOST_LISTED} more"] if len(headings) > _MOST_LISTED else []
    return ", ".join(shown + more) or "none"


def _with_kinds(headings: Sequence[Heading]) -> str:
    kinds = {NUMBER: "", DATE: " (dates)", TEXT: " (text)", EMPTY: " (mostly empty)", COUNTER: " (counts the rows)"}
    return ", ".join(f"{h.name or h.number}{kinds[h.kind]}" for h in headings[:_MOST_LISTED]) or "none"


def _without_unit(name: str) -> str:
    return re.sub(r"\s*[\[(][^\])]*[\])]$", "", name).lower() if not name.lower().startswith("f(") else name.lower()


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.%+-]+", name) else f'"{name}"'
