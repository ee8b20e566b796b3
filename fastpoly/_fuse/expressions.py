"""Numbers as expressions, and where in memory they lie.

An Expr is one number in one lane of one step: a constant, something in memory, a local variable, or an operation on
other Exprs. Equal Exprs are the same object, so what two results share is computed once. Constant factors float
outwards, (2 * a) * (3 * b) = 6 * (a * b), and from there out of the sums over samples.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastpoly_kernels.functions import FUNCTIONS

from .._lazy import lazy
from .instructions import INSTRUCTIONS

# -- indices
# ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """A loop variable that runs from 0 to size - 1; `is_time` if it is a `Scan`'s, around all nests of its body."""

    name: str
    size: int
    is_time: bool = False

    @property
    def most(self) -> int:
        """Its last value."""
        return self.size - 1

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Division:
    """The quotient or the remainder of an index, where these have no simpler form."""

    index: Index
    by: int
    sign: str

    @property
    def most(self) -> int:
        """A bound on its value."""
        return self.by - 1 if self.sign == "%" else self.index.most // self.by

    def __str__(self) -> str:
        return f"(({self.index}) {self.sign} {self.by})"


@dataclass(frozen=True)
class Index:
    """A sum of multiples of loop variables, and a constant: a place along a dimension, or in memory."""

    terms: tuple[tuple[Axis | Division, int], ...] = ()
    constant: int = 0

    @staticmethod
    def of(value: Place) -> Index:
        """An Index of a number, a loop variable or an Index."""
        if isinstance(value, Index):
            return value
        return Index((), value) if isinstance(value, int) else Index(((value, 1),), 0)

    @lazy
    def every(self) -> frozenset[Axis]:
        """The loop variables it depends on."""
        parts = (part.index.every if isinstance(part, Division) else {part} for part, _ in self.terms)
        return frozenset().union(*parts)

    @lazy
    def axes(self) -> frozenset[Axis]:
        """Those of them that are a nest's."""
        return frozenset(axis for axis in self.every if not axis.is_time)

    @lazy
    def times(self) -> frozenset[Axis]:
        """Those of them that are around the nest."""
        return self.every - self.axes

    @property
    def number(self) -> int | None:
        """Its value if it is the same in every turn of every loop."""
        return None if self.terms else self.constant

    @property
    def most(self) -> int:
        """A bound on its value."""
        return self.constant + sum(part.most * max(factor, 0) for part, factor in self.terms)

    def factor(self, axis: Axis) -> int | None:
        """By how much it grows when `axis` grows by one; None if that is not always the same."""
        if any(isinstance(part, Division) and axis in part.index.axes for part, _ in self.terms):
            return None
        return dict(self.terms).get(axis, 0)

    def moved(self, axis: Axis, by: int) -> Index:
        """The same with axis + by in place of axis."""
        result = Index((), self.constant)
        for part, factor in self.terms:
            if part == axis:
                result += Index(((part, factor),), factor * by)
            elif isinstance(part, Division):
                result += part.index.moved(axis, by).divided(part.by, part.sign) * factor
            else:
                result += Index(((part, factor),))
        return result

    def divided(self, by: int, sign: str) -> Index:
        """The quotient (sign "//") or the remainder (sign "%")."""
        if by == 1:
            return self if sign == "//" else Index()
        whole = Index(tuple(t for t in self.terms if t[1] % by == 0), self.constant - self.constant % by)
        rest = Index(tuple(t for t in self.terms if t[1] % by), self.constant % by)
        if all(factor > 0 for _, factor in rest.terms) and rest.most < by:
            quotient = Index(tuple((part, factor // by) for part, factor in whole.terms), whole.constant // by)
            return quotient if sign == "//" else rest
        return Index(((Division(self, by, sign), 1),))

    def __add__(self, other: Place) -> Index:
        other = Index.of(other)
        factors = dict(self.terms)
        for part, factor in other.terms:
            factors[part] = factors.get(part, 0) + factor
        terms = tuple(sorted(((p, f) for p, f in factors.items() if f), key=lambda term: str(term[0])))
        return Index(terms, self.constant + other.constant)

    def __mul__(self, by: int) -> Index:
        return Index(tuple((part, factor * by) for part, factor in self.terms if by), self.constant * by)

    def __str__(self) -> str:
        parts = [str(part) if factor == 1 else f"{factor} * {part}" for part, factor in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts).replace("+ -", "- ")


Place: TypeAlias = "int | Axis | Division | Index"
Places: TypeAlias = "tuple[Index, ...]"


@dataclass(eq=False)
class Memory:
    """A tensor's values in one of the kernel's arrays: along the last dimension of `order` without gaps.

    Attributes:
        region: which array: "carry", "data" or "scratch".
        name: what its elements are called.
        shape: of the tensor.
        order: its dimensions as they lie in memory, outermost first; a dimension left out has one value for all.
        padded: how long the last of them is made, so that whole registers can be read and written.
        start: where it begins in the array; set when everything has been scheduled.
    """

    region: str
    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    padded: int
    start: int = -1

    @property
    def size(self) -> int:
        """How many elements it takes."""
        return math.prod(self.shape[d] for d in self.order[:-1]) * self.padded

    def offset(self, places: Places) -> Index:
        """Where the element at `places` lies, from `start` on."""
        offset, stride = Index(), 1
        for position, dimension in reversed(list(enumerate(self.order))):
            offset += places[dimension] * stride
            stride *= self.padded if position == len(self.order) - 1 else self.shape[dimension]
        return offset


def filled(template: Places, shape: Sequence[int]) -> Iterator[Places]:
    """All places, with the template's loop variables where it has them and every number elsewhere."""
    choices = [
        [place] if place.axes else [Index((), n) for n in range(size)]
        for place, size in zip(template, shape, strict=True)
    ]
    yield from itertools.product(*choices)


def all_places(shape: Sequence[int]) -> Iterator[Places]:
    """Those of all elements of a shape."""
    yield from itertools.product(*([Index((), n) for n in range(size)] for size in shape))


# -- expressions
# --------------------------------------------------------------------------------------------------------

_KNOWN: weakref.WeakValueDictionary[tuple[Any, ...], Expr] = weakref.WeakValueDictionary()

CHEAP = frozenset({*INSTRUCTIONS, "not", "where", "number", "load", "local", "kept", "position"})
CHEAP |= {name for name, of in FUNCTIONS.items() if of.cost == 1}


class Expr:
    """One number.

    | op       | args                                                      |
    | -------- | --------------------------------------------------------- |
    | number   | its value                                                 |
    | load     | Memory, Index                                             |
    | local    | the variable of the step that it is, an `ir.Var`          |
    | kept     | the Expr that is kept in memory, and the load of it       |
    | position | an Index, as a number                                     |
    | others   | what they are applied to                                  |
    """

    __slots__ = ("__weakref__", "args", "axes", "cost", "invariant", "is_bool", "op", "operands", "times")
    op: str
    args: tuple[Any, ...]
    operands: tuple[Expr, ...]  # the Exprs it is computed from
    axes: frozenset[Axis]
    times: frozenset[Axis]
    is_bool: bool
    cost: int  # how many elementary operations it takes, about
    invariant: bool  # the same in every step?

    def __new__(cls, op: str, *args: Any, is_bool: bool = False) -> Expr:
        """The one Expr with that operation and these arguments."""
        key = (op, is_bool, *(repr(a) if isinstance(a, float) else a for a in args))
        known = _KNOWN.get(key)
        if known is not None:
            return known
        self = super().__new__(cls)
        self.op, self.args, self.is_bool = op, args, is_bool
        depends = [a for a in (args[1:] if op == "kept" else args) if isinstance(a, (Expr, Index))]
        operands = self.operands = () if op == "kept" else tuple(a for a in depends if isinstance(a, Expr))
        # most operands are of the same axes, and few axes are many
        self.axes, self.times = (depends[0].axes, depends[0].times) if depends else (frozenset(), frozenset())
        for other in depends[1:]:
            if other.axes is not self.axes:
                self.axes |= other.axes
            if other.times is not self.times:
                self.times |= other.times
        is_data = op == "load" and args[0].region == "data"
        self.invariant = op == "number" or (is_data and not self.axes and not self.times)
        self.invariant |= bool(operands) and op != "lookup" and all(a.invariant for a in operands)
        free = op in ("number", "local", "load", "kept")
        own = 1 if op in CHEAP else FUNCTIONS[op].cost if op in FUNCTIONS else 20
        self.cost = 0 if free else min(10**6, own + sum([a.cost for a in operands]))
        _KNOWN[key] = self
        return self

    @staticmethod
    def of(value: Any) -> Expr:
        """An Expr of a number."""
        if isinstance(value, Expr):
            return value
        if isinstance(value, bool):
            return Expr("number", value, is_bool=True)
        return Expr("number", float(value))

    @property
    def number(self) -> float | None:
        """Its value, if it is a constant."""
        return self.args[0] if self.op == "number" else None

    @property
    def scaled(self) -> tuple[float, Expr]:
        """(factor, rest): it is factor * rest."""
        if self.op == "mul":
            one, other = self.args
            if one.number is not None:
                return one.args[0], other
            if one.op == "mul" and one.invariant and one.args[0].number is not None:
                return one.args[0].args[0], Expr("mul", one.args[1], other)
        return 1.0, self

    def __mul__(self, other: Any) -> Expr:
        (a, left), (b, right) = self.as_float().scaled, Expr.of(other).as_float().scaled
        if not _is_safe(a * b):
            return _symmetric("mul", self.as_float(), Expr.of(other).as_float())
        if left.number is not None:
            return _times(a * b * left.number, right)
        if right.number is not None:
            return _times(a * b * right.number, left)
        if right.invariant and not left.invariant:
            left, right = right, left
        if left.invariant and right.op == "mul" and right.args[0].invariant and not right.args[1].invariant:
            left, right = _symmetric("mul", left, right.args[0]), right.args[1]
        return _times(a * b, _symmetric("mul", left, right))

    def __add__(self, other: Any) -> Expr:
        left, right = self.as_float(), Expr.of(other).as_float()
        if left.number is not None and right.number is not None:
            return Expr.of(left.number + right.number)
        if left.number == 0 or right.number == 0:
            return right if left.number == 0 else left
        (a, x), (b, y) = left.scaled, right.scaled
        if a == b != 1:
            return _times(a, _symmetric("add", x, y))
        if b < 0:
            return left - _times(-b, y)
        return right - _times(-a, x) if a < 0 else _symmetric("add", left, right)

    def __sub__(self, other: Any) -> Expr:
        left, right = self.as_float(), Expr.of(other).as_float()
        if left.number is not None and right.number is not None:
            return Expr.of(left.number - right.number)
        if right.number == 0:
            return left
        if left.number == 0:
            return right * -1
        (a, x), (b, y) = left.scaled, right.scaled
        if a == b != 1:
            return _times(a, Expr("sub", x, y))
        return _symmetric("add", left, _times(-b, y)) if b < 0 else Expr("sub", left, right)

    def __truediv__(self, other: Any) -> Expr:
        (a, left), (b, right) = self.as_float().scaled, Expr.of(other).as_float().scaled
        if right.number is not None:
            divisor = b * right.number
            inverse = 1 / divisor if divisor else math.inf
            if math.isfinite(inverse) and inverse:
                return self * inverse
            return Expr("div", self.as_float(), Expr.of(divisor))
        factor = a / b if b and math.isfinite(a / b) and a / b else 0.0
        if not factor:
            return Expr("div", self.as_float(), Expr.of(other).as_float())
        return _times(factor, Expr("div", left, right))

    def __neg__(self) -> Expr:
        return self * -1

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Expr:
        return Expr.of(other) - self

    def __rtruediv__(self, other: Any) -> Expr:
        return Expr.of(other) / self

    def as_float(self) -> Expr:
        """1 where it is true, 0 where it is false; a number as it is."""
        return where(self, 1.0, 0.0) if self.is_bool else self

    def as_bool(self) -> Expr:
        """Is it different from 0? A bool as it is."""
        return self if self.is_bool else compare("ne", self, 0.0)

    def power(self, exponent: int) -> Expr:
        """The exponent-th power by repeated squaring; exponent >= 0."""
        result: Expr | None = None
        square = self
        while exponent:
            if exponent & 1:
                result = square if result is None else result * square
            square = square * square if exponent > 1 else square
            exponent >>= 1
        return result if result is not None else Expr.of(1.0)


def _is_safe(factor: float) -> bool:
    """Can two factors become this one, with no overflow or underflow that was not there before?"""
    return 1e-30 < abs(factor) < 1e30


def _times(factor: float, rest: Expr) -> Expr:
    if rest.number is not None:
        return Expr.of(factor * rest.number)
    if factor == 1:
        return rest
    if rest.op == "mul" and rest.args[0].invariant and not rest.args[1].invariant and factor != -1:
        return Expr("mul", Expr("mul", Expr.of(factor), rest.args[0]), rest.args[1])  # once, before all steps
    return Expr("mul", Expr.of(factor), rest)


def _symmetric(op: str, left: Expr, right: Expr, is_bool: bool = False) -> Expr:
    """left op right, or right op left if that is known already."""
    known = _KNOWN.get((op, is_bool, right, left))
    return known if known is not None else Expr(op, left, right, is_bool=is_bool)


def compare(op: str, a: Any, b: Any) -> Expr:
    """The bool a < b ("lt"), and so on."""
    a, b = Expr.of(a).as_float(), Expr.of(b).as_float()
    if a.number is not None and b.number is not None:
        return Expr.of(bool(INSTRUCTIONS[op].known(a.number, b.number)))
    return Expr(op, a, b, is_bool=True)


def logical(op: str, *operands: Any) -> Expr:
    """The bool that `op` ("and", "or", "xor" of two, "not" of one) makes of bools."""
    values = [Expr.of(operand).as_bool() for operand in operands]
    if op == "not":
        known = values[0].number
        return Expr.of(not known) if known is not None else Expr("not", values[0], is_bool=True)
    for one, other in (values, values[::-1]):
        if one.number is not None:
            if op == "xor":
                return logical("not", other) if one.number else other
            return other if bool(one.number) == (op == "and") else one
    return _symmetric(op, values[0], values[1], is_bool=True)


def where(condition: Any, a: Any, b: Any) -> Expr:
    """`a` where the condition holds, else `b`."""
    chosen, one, other = Expr.of(condition).as_bool(), Expr.of(a), Expr.of(b)
    if chosen.number is not None:
        return one if chosen.number else other
    if one is other:
        return one
    if one.is_bool and other.is_bool:
        return logical("or", logical("and", chosen, one), logical("and", logical("not", chosen), other))
    return Expr("where", chosen, one.as_float(), other.as_float())


def call(function: str, *operands: Any) -> Expr:
    """An elementary function, by name; see `fastpoly_kernels.functions`."""
    return Expr(function, *(Expr.of(operand).as_float() for operand in operands))


def in_order(roots: Iterable[Expr], operands: Callable[[Expr], Iterable[Expr]] | None = None) -> list[Expr]:
    """Everything that the roots are made of, operands first."""
    operands = operands or (lambda expr: expr.operands)
    found: dict[Expr, None] = {}
    stack = list(roots)
    while stack:
        waiting = [operand for operand in operands(stack[-1]) if operand not in found]
        stack.extend(waiting)
        if not waiting:
            found[stack.pop()] = None
    return list(found)
