"""Which sums are products of matrices, large enough to be taken tile by tile.

Such a sum is of products of two tensors in memory, over one axis that both have, and each of them has an axis of its
own: C[row, column] = sum of A[row, over] * B[over, column]. All other axes, which both may have, are a batch of them.
Registers run along the rows, or along what is summed over, wherever the schedule has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .expressions import Axis, Expr, Index, Memory
from .plan import Accumulate, Loops, Nest, Store

LEAST = 8
"""Rows, columns and terms of a product that is taken in tiles: a tile has some of each."""


@dataclass(frozen=True, eq=False)
class Product:
    """A product of matrices.

    Attributes:
        root: the sum that it is.
        memory, offset: where that lies.
        row: the axis that `one` has and `other` has not.
        column: the axis that `other` has and `one` has not.
        over: what is summed over, in both.
        one, other: loads from memory.
        batch: the axes around.
    """

    root: Accumulate
    memory: Memory
    offset: Index
    row: Axis
    column: Axis
    over: Axis
    one: Expr
    other: Expr
    batch: tuple[Axis, ...]


def products(nest: Nest) -> list[Product]:
    """The products of matrices among what a nest computes."""
    if any(isinstance(root, Store) for root in nest.roots):
        return []  # which may be what is multiplied, and not be in memory yet
    found = (product(root, nest.loops) for root in nest.roots if isinstance(root, Accumulate))
    return [one for one in found if one is not None]


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
    along = places[:2] if row is lanes else places[1:]
    if lanes not in (row, over) or any(place.factor(lanes) != 1 for place in along):
        return None
    if row is not lanes and offset.factor(column) != 1:
        return None
    if any(place.factor(axis) is None for place in places for axis in loops.order):
        return None
    batch = tuple(axis for axis in loops.order if axis not in (row, column, over))
    return Product(root, memory, offset, row, column, over, one, other, batch)
