"""Matrices factorized and solved in a kernel, whatever their size: loops whose bounds move with the row at hand.

Each of the operations in `dense` is done in memory that holds what is given to begin with, and what is asked for in the
end; a batch of them has loops around. Registers run along what lies next to each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from . import ir
from .builder import Builder, indices, number
from .expressions import Axis, Expr, Index, Memory
from .graph import Node
from .ir import BOOL, FLOAT, Const, Kind, Load, Op, Var
from .schedule import Schedule


@dataclass(frozen=True, eq=False)
class Operand:
    """What is read and not changed: an element of it, at axes of its own.

    Attributes:
        element: a load from memory, at evenly spaced places.
        axes: which are counted by the loops here.
    """

    element: Expr
    axes: tuple[Axis, ...]

    @property
    def memory(self) -> Memory:
        """Where it lies."""
        memory: Memory = self.element.args[0]
        return memory

    def load(self, builder: Builder, *places: ir.Expr, kind: Kind = FLOAT) -> Load:
        """The element there, or a register from there on."""
        index: Index = self.element.args[1]
        rest = tuple(term for term in index.terms if term[0] not in self.axes)
        start = builder.place(self.memory, Index(rest, index.constant))
        for axis, place in zip(self.axes, places, strict=True):
            start = moved(start, place, index.factor(axis) or 0)
        return Load(self.memory.region, start, kind)


class Elimination:
    """One of these operations among the nests of a schedule; see `in_turns`.

    Attributes:
        node: the operation.
        level: it comes after the nests of this level.
        memory: what it is done in.
        axes: those of the loops around: of a batch.
        operands: what it reads besides.
        width: how many lanes the registers have that are taken at a time; 1 where lanes are problems.
    """

    along = -1
    """The dimension that registers run along."""

    def __init__(self, schedule: Schedule, node: Node) -> None:
        self.node = node
        self.axes = tuple(Axis(f"e{at}", size) for at, size in enumerate(node.shape[: -self.rank]))
        length = node.shape[self.along]
        register = schedule.lanes // schedule.registers
        self.width = schedule.lanes if length > schedule.lanes // 2 else register
        padded = -(-length // schedule.lanes) * schedule.lanes  # which is what nests fill
        if padded // register % 2 == 0 and register > 1:
            padded += register  # columns are read, too: not all of their elements in few sets of the caches
        self.memory = schedule.new_memory(node, along=len(node.shape) + self.along)
        self.memory.padded = padded
        schedule.store_all(self.memory, self.given)
        self.level = schedule.level_of([self.memory])
        self.operands: list[Operand] = []

    rank = 2
    """Of what it is done with: the dimensions before are a batch."""

    @property
    def given(self) -> Node:
        """What is in memory to begin with."""
        first: Node = self.node.args[0]
        return first

    def operand(self, schedule: Schedule, source: Node, *axes: Axis, along: int | None = None) -> Operand:
        """A value that is read besides; `along` is a dimension of which registers are read."""
        places = (*(Index.of(axis) for axis in self.axes), *map(Index.of, axes))
        element = schedule.element(source, places)
        element = element.args[1] if element.op == "kept" else element
        is_there = element.op == "load" and None not in map(element.args[1].factor, (*self.axes, *axes))
        if along is not None:
            is_there = is_there and element.args[1].factor(axes[along]) == 1
        if not is_there:
            dim = len(self.axes) + (len(axes) - 1 if along is None else along)
            element = schedule.copied_along(source, dim, places)
        self.operands.append(Operand(element, axes))
        self.level = max(self.level, schedule.level_of([element.args[0]]))
        return self.operands[-1]

    @property
    def makes(self) -> list[Memory]:
        """What others find afterwards."""
        return [self.memory]

    @property
    def exprs(self) -> list[Expr]:
        """What it reads."""
        return [operand.element for operand in self.operands]

    def changes(self) -> Iterator[Var | Memory]:
        """What it assigns and writes to."""
        yield self.memory

    @property
    def measured(self) -> tuple[int, int, int]:
        """See `Plan.measured`: every row is combined with half of the others."""
        *batch, rows, columns = (*self.node.shape, 1)[: len(self.axes) + 2]
        return math.prod(batch) * rows * (rows // 2 + 1) * -(-columns // self.width), 1, 2

    # -- the statements

    def write(self, builder: Builder) -> None:
        """Write the loops."""
        self.builder = builder
        with ExitStack() as loops:
            for axis in self.axes:
                loops.enter_context(builder.loop(axis.name, number(0), number(axis.size)))
            self.body()

    def body(self) -> None:
        """What is done for each of a batch."""
        raise NotImplementedError

    @contextmanager
    def registers_from(self, first: ir.Expr, end: ir.Expr) -> Iterator[Var]:
        """A loop over what lies next to each other, from where the register with the first element begins."""
        if self.width > 1 and not _is_zero(first):
            first = indices("sub", first, indices("mod", first, number(self.width)))
        with self.builder.loop("j", first, end, self.width) as j:
            yield j

    @contextmanager
    def changed(self, place: ir.Expr) -> Iterator[Var]:
        """A variable that holds what is in memory, and is written back in the end."""
        var = self.assigned("rest", self.read(place))
        yield var
        self.builder.store("scratch", place, var)

    def assigned(self, name: str, value: ir.Expr) -> Var:
        """A new variable."""
        return self.builder.assign(Var(name, value.kind), value, self.node)

    def subtract(self, rest: Var, one: ir.Expr, other: ir.Expr) -> None:
        """rest -= one * other."""
        self.builder.assign(rest, Op("sub", (rest, Op("mul", (one, other), self.kind)), self.kind), self.node)

    def divided(self, value: ir.Expr, by: ir.Expr) -> ir.Expr:
        """A number over another, or so in every lane."""
        return Op("div", (value, self.splat(by) if value.kind.lanes else by), value.kind)

    def from_on(self, edge: ir.Expr, j: ir.Expr, new: ir.Expr, old: ir.Expr) -> ir.Expr:
        """The new value from an element on, the old one in lanes before; `j` is the element of the first lane."""
        return self.up_to(edge, j, old, new) if self.width > 1 else new  # where loops begin at that element

    def up_to(self, edge: ir.Expr, j: ir.Expr, new: ir.Expr, old: ir.Expr) -> ir.Expr:
        """The new value before an element, the old one from there on."""
        if self.width == 1:
            return new
        kind = BOOL.of(self.width)
        return Op("where", (Op("first_lanes", (indices("sub", edge, j),), kind), new, old), self.kind)

    # -- numbers and places

    @property
    def kind(self) -> Kind:
        """Of what is taken at a time."""
        return FLOAT.of(self.width if self.width > 1 else 0)

    def splat(self, value: ir.Expr) -> ir.Expr:
        """A number in every lane."""
        return Op("splat", (value,), self.kind) if self.width > 1 else value

    def zero(self) -> ir.Expr:
        """In every lane."""
        return self.splat(Const(0.0, FLOAT))

    def read(self, place: ir.Expr) -> Load:
        """What is taken at a time, from a place on."""
        return Load("scratch", place, self.kind)

    def number(self, *places: ir.Expr) -> Load:
        """One element of what is worked on."""
        return Load("scratch", self.at(*places), FLOAT)

    def at(self, *places: ir.Expr) -> ir.Expr:
        """Where the element at these places lies, of this one of the batch."""
        start = (*(Index.of(axis) for axis in self.axes), *[Index()] * self.rank)
        result = self.builder.place(self.memory, self.memory.offset(start))
        for dim, place in enumerate(places, len(self.axes)):
            unit = tuple(Index((), int(d == dim)) for d in range(len(self.node.shape)))
            result = moved(result, place, self.memory.offset(unit).constant)
        return result


def _is_zero(place: ir.Expr) -> bool:
    return isinstance(place, Const) and place.value == 0


def moved(start: ir.Expr, place: ir.Expr, by: int) -> ir.Expr:
    """Where something lies that is so many times further on."""
    if by == 0 or _is_zero(place):
        return start
    return indices("add", start, place if by == 1 else indices("mul", place, number(by)))
