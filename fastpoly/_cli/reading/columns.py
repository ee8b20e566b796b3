"""Which columns are x and y: what was asked for, or what can be nothing else. Where it can, the user is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..._near import near
from .samples import Column, Dates, Like, Samples, Wanted, left_out

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


@dataclass(frozen=True)
class Choice:
    """The columns that are read, and what is to be said of them."""

    x: Heading
    ys: Sequence[Heading]
    sigma: Heading | None
    weight: Heading | None
    said: Sequence[str]

    @property
    def all(self) -> list[Heading]:
        """Every one of them, x first."""
        others = [heading for heading in (self.sigma, self.weight) if heading is not None]
        return [self.x, *self.ys, *others]


def choose(headings: Sequence[Heading], wanted: Wanted) -> Choice:
    """What was asked for, or can be nothing else.

    Raises:
        ValueError: there is no such column; or what is left open could be more than one, and the message asks.
    """
    if wanted.like is not None:
        x = _like(headings, wanted.like, wanted.x)
        return Choice(x, (), None, None, [f"x is {_placed(x)}"])
    sigma = None if wanted.sigma is None else _found(headings, "--sigma", wanted.sigma)
    weight = None if wanted.weight is None else _found(headings, "--weight", wanted.weight)
    ys = [_found(headings, "--y", name) for name in wanted.y]
    for i, heading in enumerate(ys):
        if heading in ys[:i]:
            raise ValueError(f"--y: {heading.shown} is asked for twice; once is enough")
    free = [heading for heading in headings if heading not in (sigma, weight)]
    usable = [heading for heading in free if heading.kind in (NUMBER, DATE)]
    if wanted.x is None and not ys:
        _refuse_same_names(usable)
        _refuse_reversed(usable)
    x = _found(headings, "--x", wanted.x) if wanted.x is not None else _implied_x(headings, usable, ys)
    ys = ys or [_implied_y(headings, usable, x)]
    said = [f"x is {_placed(x)}, y is {' and '.join(map(_placed, ys))}"]
    said += [f"{name} is {_placed(h)}" for name, h in (("sigma", sigma), ("weight", weight)) if h is not None]
    if wanted.x is None or not wanted.y:
        said += _left_out(free, (x, *ys))
    return Choice(x, ys, sigma, weight, said)


def samples_of(
    choice: Choice,
    taken: Sequence[Column],
    dates: Dates | None,
    said: Sequence[str],
    cells: tuple[str, ...] | None = None,
) -> Samples:
    """The samples of the columns `choice.all`, and how many were left out.

    Raises:
        ValueError: none is left.
    """
    number = 1 + len(choice.ys)
    rest = iter(taken[number:])
    sigma = None if choice.sigma is None else next(rest)
    weight = None if choice.weight is None else next(rest)
    x, ys = taken[0], tuple(taken[1:number])
    return Samples(x, ys, dates, (*said, *left_out(x, ys, sigma, weight)), sigma, weight, cells)


def _like(headings: Sequence[Heading], like: Like, named: str | None) -> Heading:
    """The column that is like the x of a fit, or the one that is named."""
    x = _of_the_fit(headings, like) if named is None else _found(headings, "--x", named)
    if like.dates is not None and x.kind != DATE:
        raise ValueError(f"{x.shown} holds no dates, and the fit's x is dates; write them as {like.dates.origin!r}")
    if like.dates is None and x.kind == DATE:
        raise ValueError(f"{x.shown} holds dates, and the fit's x is numbers; another column? --x names it")
    if like.dates is None and like.unit and x.unit and x.unit != like.unit:
        raise ValueError(f"{x.shown} is in {x.unit}, and the fit's x in {like.unit}; write it in {like.unit}")
    return x


def _of_the_fit(headings: Sequence[Heading], like: Like) -> Heading:
    usable = [heading for heading in headings if heading.kind in (NUMBER, DATE)]
    if like.name:
        named = [heading for heading in headings if heading.name == like.name]
        if len(named) == 1:
            return named[0]
        if named:
            numbers = " or ".join(str(heading.number) for heading in named)
            raise ValueError(f"{len(named)} columns are named {like.name!r}; choose by number with --x: {numbers}")
    elif len(headings) == 1 and not headings[0].name:
        return headings[0]
    elif like.place is not None and like.place <= len(headings) and not headings[like.place - 1].name:
        return headings[like.place - 1]
    elif like.place is None and len(usable) == 1:
        return usable[0]
    if not usable:
        raise ValueError(f"wants a column of numbers, got {_with_kinds(headings)}")
    what = f"{like.name!r}" if like.name else "a column without a name"
    example = next((heading for heading in usable if heading.like_x), usable[0])
    raise ValueError(
        f"which column is x: the fit's is {what}, and here {'is' if len(usable) == 1 else 'are'} "
        f"{_either(usable).replace(' or ', ' and ')}? Name it, as in --x {example.option}"
    )


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
