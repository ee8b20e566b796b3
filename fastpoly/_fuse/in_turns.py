"""What takes turns of its own between loop nests: sorting, and putting at places that change from step to step.

Both read and write at places that only memory tells, one element after the other, which no nest does. Matrices that are
factorized or solved with are a third kind (`eliminations`). Only kernels of a CPU have these; for others all places are
compared (`orders`, `rules`), and small matrices taken apart (`factorizations`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .expressions import Axis, Expr, Index, Memory, Places
from .graph import Node
from .ir import FLOAT, Var

if TYPE_CHECKING:
    from .eliminations import Elimination
    from .schedule import Schedule

RECOMPUTED = 3
"""Operations up to which a value is computed where it is put: a store and a load cost as much."""

PER_TURN = 6
"""Cycles of an element in a merge, and of one that is put: it waits for what the one before has loaded or stored."""


@dataclass(eq=False)
class Sorting:
    """The elements of each row in order.

    Attributes:
        level: see `Nest`.
        node: the operation.
        memory: where the places go that the elements in order come from.
        values: where those elements go.
        axes: those of the rows.
        first: where a row of the memory begins.
        size: how many elements a row has.
        place: what the key is the element at.
        key: an element of what is sorted.
        descending: does the largest come first?
    """

    level: int
    node: Node
    memory: Memory
    values: Memory
    axes: tuple[Axis, ...]
    first: Index
    size: int
    place: Var
    key: Expr
    descending: bool

    @property
    def makes(self) -> list[Memory]:
        """What others find afterwards."""
        return [self.memory, self.values]

    @property
    def exprs(self) -> list[Expr]:
        """What it computes."""
        return [self.key]

    def changes(self) -> Iterator[Var | Memory]:
        """What it assigns and writes to."""
        yield self.place
        yield from self.makes

    @property
    def measured(self) -> tuple[int, int, int]:
        """See `Plan.measured`."""
        turns = math.prod(axis.size for axis in self.axes) * self.size
        return turns, 1, PER_TURN * max(self.size - 1, 1).bit_length()


@dataclass(eq=False)
class Putting:
    """Elements that are put, or added, each where its index says; what lies there has been stored before.

    Attributes:
        level, node, memory: as of `Sorting`.
        axes: those of the index, the one that it replaces innermost.
        rest: where the place 0 of a row lies.
        stride: how far the next one is.
        which: the place.
        value: what is put there.
        adds: is it added to what is there?
    """

    level: int
    node: Node
    memory: Memory
    axes: tuple[Axis, ...]
    rest: Index
    stride: int
    which: Expr
    value: Expr
    adds: bool

    @property
    def makes(self) -> list[Memory]:
        """What others find afterwards."""
        return [self.memory]

    @property
    def exprs(self) -> list[Expr]:
        """What it computes."""
        return [self.which, self.value]

    def changes(self) -> Iterator[Var | Memory]:
        """What it assigns and writes to."""
        yield self.memory

    @property
    def measured(self) -> tuple[int, int, int]:
        """See `Plan.measured`."""
        return math.prod(axis.size for axis in self.axes), 1, PER_TURN + self.which.cost + self.value.cost


InTurns: TypeAlias = "Sorting | Putting | Elimination"


def planned(schedule: Schedule, node: Node) -> InTurns:
    """What computes an operation of ours."""
    from .matrices import ELIMINATIONS  # which know schedules

    if node.op in ELIMINATIONS:
        return ELIMINATIONS[node.op](schedule, node)
    return _sorting(schedule, node) if node.op == "fastpoly::order" else _putting(schedule, node)


def _sorting(schedule: Schedule, node: Node) -> Sorting:
    source, dim, descending = node.args
    dim %= len(node.shape)
    memory, values = (schedule.new_memory(node, along=dim) for _ in range(2))
    axes, places = _axes(node.shape, dim)
    places[dim] = Index()
    place = Var("place", FLOAT)
    key = schedule.lookup(source, tuple(places), dim, Expr("local", place))
    first = memory.offset(tuple(places))
    level, size = schedule.level_after([key]), node.shape[dim]
    return Sorting(level, node, memory, values, axes[:-1], first, size, place, key, descending)


def _putting(schedule: Schedule, node: Node) -> Putting:
    source, dim, index, values = node.args
    dim %= len(node.shape)
    memory = schedule.new_memory(node, along=dim)
    schedule.store_all(memory, source)
    axes, places = _axes(index.shape, dim)
    which, value = (_at_hand(schedule, one, tuple(places)) for one in (index, values))
    level = max(schedule.level_after([which, value]), schedule.level_of([memory]))
    unit = tuple(Index((), int(d == dim)) for d in range(len(places)))
    places[dim] = Index()
    rest, stride = memory.offset(tuple(places)), memory.offset(unit).constant
    return Putting(level, node, memory, axes, rest, stride, which, value, node.op == "fastpoly::put_add")


def _axes(shape: tuple[int, ...], dim: int) -> tuple[tuple[Axis, ...], list[Index]]:
    """An axis for each dimension, that of `dim` innermost, and where an element lies."""
    numbers = itertools.count()
    of = [Axis("k0", size) if d == dim else Axis(f"j{next(numbers)}", size) for d, size in enumerate(shape)]
    return (*of[:dim], *of[dim + 1 :], of[dim]), [Index.of(axis) for axis in of]


def _at_hand(schedule: Schedule, node: Node, places: Places) -> Expr:
    """An element that takes little, or lies in memory."""
    value = schedule.element(node, places).as_float()
    if value.cost <= RECOMPUTED or node.op in ("input", "constant"):
        return value
    return schedule.from_memory(node, places)
