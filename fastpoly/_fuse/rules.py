"""From ATen operations that are not elementwise to their elements: sums, products of matrices, views, picks.

A rule gives the element at some place of a node's result, in terms of elements of its arguments. It asks a Reader for
those; what must be summed over comes back as a Sum, which the Reader turns into loops.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .expressions import Expr, Index, Places, call, compare, where
from .graph import Node


class NeedsMemory(Exception):  # noqa: N818 - not an error: the schedule starts again with this node in memory
    """An element is wanted at a place that is only known in the loop, of a value that lies in variables."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.op)
        self.node = node


class Reader(Protocol):
    """What a rule may ask."""

    def element(self, node: Any, places: Places) -> Expr:
        """The element of `node` (or a plain number) at `places`."""

    def lookup(self, node: Node, places: Places, dim: int, which: Expr) -> Expr:
        """The element of `node` at `places`, but for `dim`: there at the place `which`, a number of the data."""

    def reduce(self, node: Node, sum_of: Sum, places: Places) -> Expr:
        """The element at `places` of a reduction."""

    def taking_turns(self, node: Node, places: Places, which: int = 0) -> Expr:
        """The element at `places` of what is computed in turns of its own: see `in_turns`."""


@dataclass(frozen=True)
class Sum:
    """A reduction: the element at `kept` is the sum (or product, ...) of body(kept, reduced) over all `reduced`.

    Attributes:
        kind: "add", "mul", "maximum" or "minimum".
        kept, reduced: the sizes of the dimensions.
        body: an element of what is reduced.
    """

    kind: str
    kept: tuple[int, ...]
    reduced: tuple[int, ...]
    body: Callable[[Places, Places], Expr]


COMBINE: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "maximum": lambda a, b: call("maximum", a, b),
    "minimum": lambda a, b: call("minimum", a, b),
}

Rule = Callable[[Reader, Node, Places], Expr]


def broadcast(reader: Reader, value: Any, places: Places) -> Expr:
    """The element of `value` that stands at `places` of a larger shape."""
    if not isinstance(value, Node):
        return Expr.of(value)
    own = places[len(places) - len(value.shape) :]
    return reader.element(value, tuple(Index() if n == 1 else i for i, n in zip(own, value.shape, strict=True)))


# -- reductions
# ---------------------------------------------------------------------------------------------------------


def _dimensions(dims: Any, of: int) -> tuple[int, ...]:
    if dims is None or (isinstance(dims, Sequence) and not dims):
        return tuple(range(of))
    return tuple(sorted(d % max(of, 1) for d in ([dims] if isinstance(dims, int) else dims)))


def reduction(kind: str, is_mean: bool = False) -> Rule:
    def rule(reader: Reader, node: Node, places: Places) -> Expr:
        source, *rest = node.args
        asked = rest[0] if rest and isinstance(rest[0], (int, Sequence)) else None  # sum(a, dtype) has no dims
        dims = _dimensions(asked, len(source.shape)) if source.shape else ()
        kept = [d for d in range(len(source.shape)) if d not in dims]
        if len(node.shape) != len(kept):  # keepdim
            places = tuple(places[d] for d in kept)

        def body(at: Places, over: Places) -> Expr:
            order = dict(zip((*kept, *dims), (*at, *over), strict=True))
            return reader.element(source, tuple(order[d] for d in range(len(source.shape))))

        sizes = tuple(source.shape[d] for d in dims)
        whole = Sum(kind, tuple(source.shape[d] for d in kept), sizes, body)
        if is_mean and 0 in sizes:
            return Expr.of(math.nan)
        total = reader.reduce(node, whole, places)
        return total * (1 / math.prod(sizes)) if is_mean else total

    return rule


def cumulative(kind: str, neutral: float) -> Rule:
    def rule(reader: Reader, node: Node, places: Places) -> Expr:
        source, dim = node.args[:2]
        if not source.shape:
            return reader.element(source, places)
        dim %= len(source.shape)

        def body(at: Places, over: Places) -> Expr:
            term = reader.element(source, (*at[:dim], *over, *at[dim + 1 :]))
            return where(compare("le", _number(over[0]), _number(at[dim])), term, neutral)

        return reader.reduce(node, Sum(kind, node.shape, (source.shape[dim],), body), places)

    return rule


def product(reader: Reader, node: Node, places: Places) -> Expr:
    """mm, mv, dot and bmm: the last dimension of one with the last but one (or only one) of the other."""
    one, other = node.args
    apart = batch_of(node)
    batch = min(len(apart), 1)
    kept = (*apart, *node.shape[batch:])

    def body(at: Places, over: Places) -> Expr:
        first, rest = reshaped(apart, at[: len(apart)], node.shape[:batch]), at[len(apart) :]
        row, column = rest[: len(one.shape) - batch - 1], rest[len(one.shape) - batch - 1 :]
        return reader.element(one, (*first, *row, *over)) * reader.element(other, (*first, *over, *column))

    there = (*reshaped(node.shape[:batch], places[:batch], apart), *places[batch:])
    return reader.reduce(node, Sum("add", kept, (one.shape[-1],), body), there)


def batch_of(node: Node) -> tuple[int, ...]:
    """The dimensions of the batch that a product of matrices is computed for.

    `matmul` makes one of all that are a batch; sums over each of them are as good, and keep the samples'.
    """
    one, other = node.args
    is_batch = len(one.shape) == len(other.shape) == 3
    return (_flattened(one) or _flattened(other) or node.shape[:1]) if is_batch else ()


def _flattened(node: Node) -> tuple[int, ...]:
    """The dimensions of a batch of matrices that were made one."""
    while node.op in ("transpose", "permute") and (node.args[1:] in ((1, 2), (2, 1)) or node.args[1:] == ([0, 2, 1],)):
        node = node.args[0]
    is_view = node.op in ("view", "_unsafe_view", "reshape")
    return node.args[0].shape[:-2] if is_view and node.args[0].shape[-2:] == node.shape[-2:] else ()


# -- views
# --------------------------------------------------------------------------------------------------------------


def reshape(reader: Reader, node: Node, places: Places) -> Expr:
    source = node.args[0]
    return reader.element(source, reshaped(node.shape, places, source.shape))


def reshaped(shape: Sequence[int], places: Places, into: Sequence[int]) -> Places:
    """Where the element at `places` of `shape` lies when the same elements have the shape `into`."""
    # Dimensions of size 1 say nothing; the others are taken in the smallest groups of equal product, so that a
    # dimension that is only moved along keeps its index as it is.
    if 0 in shape:
        return tuple(Index() for _ in into)
    left = [(n, i) for n, i in zip(shape, places, strict=True) if n != 1]
    result: list[Index] = []
    wanted = [n for n in into if n != 1]
    while wanted:
        (n, flat), wide = left.pop(0), 1
        group = [wanted.pop(0)]
        while n != math.prod(group):
            if n < math.prod(group):
                m, index = left.pop(0)
                n, flat = n * m, flat * m + index
            else:
                group.append(wanted.pop(0))
        for size in reversed(group):
            part = flat.divided(wide, "//")
            result.insert(len(result), part if size == group[0] and size * wide == n else part.divided(size, "%"))
            wide *= size
        result[len(result) - len(group) :] = reversed(result[len(result) - len(group) :])
    rest = iter(result)
    return tuple(Index() if n == 1 else next(rest) for n in into)


def permute(reader: Reader, node: Node, places: Places) -> Expr:
    source, order = node.args
    at = {d % len(source.shape): place for d, place in zip(order, places, strict=True)}
    return reader.element(source, tuple(at[d] for d in range(len(source.shape))))


def transpose(reader: Reader, node: Node, places: Places) -> Expr:
    source, *dims = node.args
    if len(places) < 2:
        return reader.element(source, places)
    one, other = (d % len(places) for d in (dims or (0, 1)))
    swapped = list(places)
    swapped[one], swapped[other] = places[other], places[one]
    return reader.element(source, tuple(swapped))


def diagonal(reader: Reader, node: Node, places: Places) -> Expr:
    source, offset, *dims = node.args
    one, other = (d % len(source.shape) for d in dims)
    rest = iter(places[:-1])
    at = {one: places[-1] + max(-offset, 0), other: places[-1] + max(offset, 0)}
    return reader.element(source, tuple(at[d] if d in at else next(rest) for d in range(len(source.shape))))


def select(reader: Reader, node: Node, places: Places) -> Expr:
    source, dim, index = node.args
    dim %= len(source.shape)
    return reader.element(source, (*places[:dim], Index((), index % source.shape[dim]), *places[dim:]))


def select_backward(reader: Reader, node: Node, places: Places) -> Expr:
    """The gradient of select: zero but at the index."""
    gradient, _, dim, index = node.args
    dim %= len(node.shape)
    value = reader.element(gradient, (*places[:dim], *places[dim + 1 :]))
    at, index = places[dim], index % node.shape[dim]
    if at.number is not None:
        return value if at.number == index else Expr.of(0.0)
    return where(compare("eq", _number(at), index), value, 0.0)


def slice_of(reader: Reader, node: Node, places: Places) -> Expr:
    source, dim, start, _, step = node.args
    dim %= len(source.shape)
    start = max(start + source.shape[dim], 0) if (start or 0) < 0 else min(start or 0, source.shape[dim])
    moved = places[dim] * step + start
    return reader.element(source, (*places[:dim], moved, *places[dim + 1 :]))


def flip(reader: Reader, node: Node, places: Places) -> Expr:
    source, dims = node.args
    flipped = _dimensions(dims, len(places)) if dims else ()
    moved = (p * -1 + (node.shape[d] - 1) if d in flipped else p for d, p in enumerate(places))
    return reader.element(source, tuple(moved))


def unfold(reader: Reader, node: Node, places: Places) -> Expr:
    """Windows along a dimension; what is in one is the last dimension."""
    source, dim, _, step = node.args
    if not source.shape:
        return reader.element(source, ())
    dim %= len(source.shape)
    *others, within = places
    return reader.element(source, (*others[:dim], others[dim] * step + within, *others[dim + 1 :]))


def stack(reader: Reader, node: Node, places: Places) -> Expr:
    parts, dim = node.args[0], (node.args[1] or 0) % len(node.shape)
    which = places[dim].number
    if which is None:
        raise NeedsMemory(node)
    return reader.element(parts[which], (*places[:dim], *places[dim + 1 :]))


def cat(reader: Reader, node: Node, places: Places) -> Expr:
    where_to = places[dim := (node.args[1] or 0) % len(node.shape)].number
    if where_to is None:
        raise NeedsMemory(node)
    for part, start in parts_of(node):
        if where_to < start + part.shape[dim]:
            return reader.element(part, (*places[:dim], Index((), where_to - start), *places[dim + 1 :]))
    raise AssertionError("beyond the last part")


def parts_of(node: Node) -> list[tuple[Node, int]]:
    """What a cat or stack puts together, and where each part begins."""
    parts, dim = node.args[0], (node.args[1] or 0) % len(node.shape)
    if node.op == "stack":
        return [(part, i) for i, part in enumerate(parts)]
    parts = [part for part in parts if part.shape != (0,)]  # torch lets an empty vector pass everywhere
    starts = itertools.accumulate((part.shape[dim] for part in parts), initial=0)
    return list(zip(parts, starts, strict=False))


def unsqueeze(reader: Reader, node: Node, places: Places) -> Expr:
    source, dim = node.args
    dim %= len(node.shape)
    return reader.element(source, (*places[:dim], *places[dim + 1 :]))


def expand(reader: Reader, node: Node, places: Places) -> Expr:
    return broadcast(reader, node.args[0], places)


def squeeze(reader: Reader, node: Node, places: Places) -> Expr:
    source = node.args[0]
    return reader.element(source, reshaped(node.shape, places, source.shape))


# -- picking by constants
# -----------------------------------------------------------------------------------------------


SELECTED = 8
"""Of so many elements one is picked by comparisons, in registers; of more it is read from memory, one by one."""


def _pick(reader: Reader, source: Node, places: Places, dim: int, which: Expr) -> Expr:
    """The element of `source` whose place along `dim` is a number that the data holds."""
    if which.number is not None:
        at = int(which.number) % source.shape[dim]
        return reader.element(source, (*places[:dim], Index((), at), *places[dim + 1 :]))
    if source.shape[dim] > SELECTED:
        return reader.lookup(source, (*places[:dim], Index(), *places[dim + 1 :]), dim, which)
    result: Expr | None = None
    for at in range(source.shape[dim]):
        value = reader.element(source, (*places[:dim], Index((), at), *places[dim + 1 :]))
        result = value if result is None else where(compare("eq", which, at), value, result)
    assert result is not None
    return result


def gather(reader: Reader, node: Node, places: Places) -> Expr:
    source, dim, index = node.args[:3]
    if not source.shape:  # its only element
        return reader.element(source, ())
    if index.op == "fastpoly::order" and index.args[0] is source and (index.args[1] - dim) % len(source.shape) == 0:
        return reader.taking_turns(index, places, 1)  # sorting has the elements at hand
    which = reader.element(index, places)
    return _pick(reader, source, places or (Index(),), dim % len(source.shape), which)  # an index may be a number


def scatter(reader: Reader, node: Node, places: Places) -> Expr:
    """scatter: `value` (or its element) where the index names this place, else what was there.

    See `apart.scattered` for the index.
    """
    source, dim, index, value = node.args[:4]
    dim %= len(source.shape)
    result = reader.element(source, places)
    for at in range(index.shape[dim]):
        there = (*places[:dim], Index((), at), *places[dim + 1 :])
        new = reader.element(value, there) if isinstance(value, Node) else Expr.of(value)
        result = where(compare("eq", reader.element(index, there), _number(places[dim])), new, result)
    return result


def scatter_add(reader: Reader, node: Node, places: Places) -> Expr:
    """scatter_add: what was there, and the sum of all values whose index names this place."""
    source, dim, index, values = node.args
    dim %= max(len(node.shape), 1)

    def body(at: Places, over: Places) -> Expr:
        there = (*at[:dim], *over, *at[dim + 1 :])
        named = compare("eq", reader.element(index, there), _number(at[dim]))
        return where(named, reader.element(values, there), 0.0)

    added = reader.reduce(node, Sum("add", node.shape, (index.shape[dim],), body), places)
    return reader.element(source, places) + added


def in_turns(reader: Reader, node: Node, places: Places) -> Expr:
    return reader.taking_turns(node, places)


def _number(place: Index) -> Expr:
    return Expr.of(place.number) if place.number is not None else Expr("position", place)


def _indexed(node: Node) -> tuple[list[tuple[int, Node]], tuple[int, ...], int]:
    """The indexed dimensions with their indices, the shape of those together, and where it stands in the result."""
    given = [(d, index) for d, index in enumerate(node.args[1]) if index is not None]
    shape = np.broadcast_shapes(*(index.shape for _, index in given))
    adjacent = given[-1][0] - given[0][0] == len(given) - 1
    return given, shape, given[0][0] if adjacent else 0


def _counts(index: Node, shape: tuple[int, ...]) -> bool:
    """Is it 0, 1, 2, ...: does it leave things where they are?"""
    baked = index.baked
    return baked is not None and index.shape == shape and len(shape) == 1 and list(baked) == list(range(shape[0]))


def index(reader: Reader, node: Node, places: Places) -> Expr:
    source = node.args[0]
    given, shape, start = _indexed(node)
    own = places[start : start + len(shape)]
    rest = iter((*places[:start], *places[start + len(shape) :]))
    indices = dict(given)
    there = [Index() if d in indices else next(rest) for d in range(len(source.shape))]
    which = []
    for d, index in given:
        if _counts(index, shape):
            there[d] = own[0]
        else:
            which.append((d, _wrapped(broadcast(reader, index, own), source.shape[d])))
    return _pick_all(reader, source, tuple(there), which)


def _pick_all(reader: Reader, source: Node, places: Places, which: list[tuple[int, Expr]]) -> Expr:
    """The element whose places along several dimensions are numbers that the data holds."""
    if not which:
        return reader.element(source, places)
    (dim, number), *others = which
    if not others:
        return _pick(reader, source, places, dim, number)
    result: Expr | None = None
    for at in range(source.shape[dim]) if number.number is None else [int(number.number)]:
        value = _pick_all(reader, source, (*places[:dim], Index((), at), *places[dim + 1 :]), others)
        result = value if result is None else where(compare("eq", number, at), value, result)
    assert result is not None
    return result


def index_put(reader: Reader, node: Node, places: Places) -> Expr:
    """index_put with accumulate: what was there, and the sum of all values whose indices name this place."""
    source, _, values, _ = node.args
    given, shape, start = _indexed(node)
    indices = dict(given)
    others = [d for d in range(len(node.shape)) if d not in indices]
    whole = (d for d, index in given if _counts(index, shape) and shape[0] == node.shape[d])
    moving = next(whole, None)  # along it each value has one place, which needs no search

    def body(at: Places, over: Places) -> Expr:
        own = [at[d] for d in others]
        there = (*own[:start], *over, *own[start:])[len(others) + len(shape) - len(values.shape) :]
        value = reader.element(
            values, tuple(Index() if n == 1 else i for i, n in zip(there, values.shape, strict=True))
        )
        for d, index in given:
            if d != moving:
                named = _wrapped(broadcast(reader, index, over), node.shape[d])
                value = where(compare("eq", named, _number(at[d])), value, 0.0)
        return value

    before = reader.element(source, places)
    if moving is not None:
        return before + body(places, (places[moving],))
    return before + reader.reduce(node, Sum("add", node.shape, shape, body), places)


def _wrapped(index: Expr, size: int) -> Expr:
    """An index that counts from the end where it is negative."""
    return where(compare("lt", index, 0), index + size, index)
