"""Which sums are products of matrices, large enough to be taken tile by tile.

Such a sum is of products of two tensors in memory, over one axis that both have, and each of them has an axis of its
own: C[row, column] = sum of A[row, over] * B[over, column]. All other axes, which both may have, are a batch of them.
Registers run along the rows, along what is summed over, or along a batch, wherever the schedule has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .expressions import Axis, Expr, Index, Memory
from .plan import Accumulate, Loops, Nest, Store

LEAST = 8
"""Rows, columns and terms of a product that is taken in tiles: a tile has some of each."""


@dataclass(frozen=True, eq=False)
class Product:
    """A product of matrices.

    Attributes:
        roots: the sums that it is: one, or those of a short axis that are the same but for the place of what they read.
        memory, offset: where they lie.
        row: the axis that `one` has and `other` has not.
        column: the axis that `other` has and `one` has not.
        over: what is summed over, in both.
        one, other: loads from memory.
        lanes: the axis of the registers: the rows, what is summed over, or one that all have.
        batch: the other axes around.
    """

    roots: tuple[Accumulate, ...]
    memory: Memory
    offset: Index
    row: Axis
    column: Axis
    over: Axis
    one: Expr
    other: Expr
    lanes: Axis
    batch: tuple[Axis, ...]


def products(nest: Nest) -> list[Product]:
    """The products of matrices among what a nest computes."""
    if any(isinstance(root, Store) for root in nest.roots):
        return []  # which may be what is multiplied, and not be in memory yet
    found = (product(root, nest.loops) for root in nest.roots if isinstance(root, Accumulate))
    return _joined([one for one in found if one is not None])


def factors(root: Accumulate) -> list[Expr]:
    """What would be the matrices of a product if it were in memory, and is computed in the innermost loop instead."""
    if root.kind != "add" or root.memory is None or root.value.op != "mul":
        return []
    sides = root.value.args
    own = (math.prod(axis.size for axis in one.axes - other.axes) for one, other in (sides, sides[::-1]))
    return [side for side in sides if side.cost and side.axes] if min(own) >= LEAST else []


def product(root: Accumulate, loops: Loops) -> Product | None:
    """The product of matrices that a sum in these loops is, if it is one."""
    lanes = loops.lanes
    memory, offset = root.memory, root.offset
    if memory is None or offset is None or lanes is None:
        return None
    if root.kind != "add" or root.value.op != "mul" or len(root.reduced) > 1:
        return None
    (over,) = root.reduced
    sides = [side.args[1] if side.op == "kept" else side for side in root.value.args]
    if any(side.op != "load" or side.args[1].factor(over) in (None, 0) for side in sides):
        return None
    # of two axes that one side has alone the inner one is the matrix's
    row, column = (
        next((axis for axis in reversed(loops.order) if axis in side.axes and axis not in other.axes), None)
        for side, other in (sides, sides[::-1])
    )
    one, other = sides
    if row is None or column is None or min(row.size, column.size, over.size) < LEAST:
        return None
    if column is lanes or (row is not lanes and offset.factor(row) == 1):
        row, column, one, other = column, row, other, one
    places = (offset, one.args[1], other.args[1])
    along = places[:2] if row is lanes else places[1:] if over is lanes else places
    if any(place.factor(lanes) != 1 for place in along) or (over is lanes and offset.factor(column) != 1):
        return None
    if any(place.factor(axis) is None for place in places for axis in loops.order):
        return None
    batch = tuple(axis for axis in loops.order if axis not in (lanes, row, column, over))
    return Product((root,), memory, offset, row, column, over, one, other, lanes, batch)


def _joined(products: list[Product]) -> list[Product]:
    """Those whose places are evenly spaced as one, with an axis more around: what the schedule has written out."""
    for size in range(len(products), 1, -1):
        if len(products) % size == 0:
            parts = [products[start : start + size] for start in range(0, len(products), size)]
            joined = [_as_one(part) for part in parts]
            if all(joined):
                return _joined([one for one in joined if one is not None])
    return products


def _as_one(products: list[Product]) -> Product | None:
    """Products of evenly spaced places as one; None if they differ in anything else."""
    first = products[0]
    parts = {(p.memory, p.one.args[0], p.other.args[0], p.row, p.column, p.over, p.lanes, p.batch) for p in products}
    axis = Axis(f"b{len(first.batch)}", len(products))
    places = ([p.offset for p in products], [p.one.args[1] for p in products], [p.other.args[1] for p in products])
    offset, one, other = (_spread(of_each, axis) for of_each in places)
    if len(parts) > 1 or offset is None or one is None or other is None:
        return None
    return replace(
        first,
        roots=tuple(root for p in products for root in p.roots),
        offset=offset,
        one=Expr("load", first.one.args[0], one),
        other=Expr("load", first.other.args[0], other),
        batch=(axis, *first.batch),
    )


def _spread(places: list[Index], axis: Axis) -> Index | None:
    """The place that depends on an axis and is each of these in turn, if they are evenly spaced."""
    first, by = places[0], places[1].constant - places[0].constant
    is_even = all(place == Index(first.terms, first.constant + at * by) for at, place in enumerate(places))
    return first + Index.of(axis) * by if is_even else None
