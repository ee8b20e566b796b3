"""The loops of a `Scan`: one iteration's own schedule, within that of the step.

What an iteration hands on lies in variables if it is small, as what steps hand on does; else in memory with a row for
each iteration, where the next one finds it and no copy is made. What others read afterwards lies so in any case. Rows
that are cheap to compute are computed in the iteration; others are loaded, by an index that moves with the time axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .expressions import Axis, Expr, Index, Memory, Places
from .graph import Graph, Node
from .ir import FLOAT, Var
from .rules import VIEWS
from .scan import Carry
from .schedule import Schedule, leaves
from .survey import compared_with_extremes, samples_of

RECOMPUTED = 3
"""Operations up to which a row is computed where it is needed: a store and a load cost as much."""

SERIAL = 3
"""Cycles of an operation that waits for the one before."""


@dataclass(eq=False)
class Recurrence:
    """A scan among the nests of a schedule.

    Attributes:
        level: see `Nest`.
        iteration: what it does in each turn.
        starts: what the variables that it hands on begin with.
    """

    level: int
    iteration: Iteration
    starts: list[tuple[Var, Expr]]

    @property
    def cycles(self) -> float:
        """About how long it takes; see `Schedule.cycles`."""
        own = self.iteration
        serial = sum(expr.cost for _, expr in own.following)
        return own.scan.count * (own.cycles + SERIAL * serial)

    @property
    def measured(self) -> list[tuple[int, int, int]]:
        """See `Schedule.measured`, of all its nests and of what it does in variables."""
        own, count = self.iteration, self.iteration.scan.count
        serial = SERIAL * sum(expr.cost for _, expr in own.following)
        return [(count * turns, length, operations) for turns, length, operations in own.all_measured()] + [
            (count, 1, serial)
        ]


class Iteration(Schedule):
    """The schedule of one iteration.

    Args:
        outer: that of the step, or of an iteration around.
        node: the scan's.

    Attributes:
        time: the axis that counts rows.
        following: what the variables that it hands on become.
    """

    def __init__(self, outer: Schedule, node: Node) -> None:
        scan = node.scan
        assert scan is not None
        self.outer, self.node, self.scan = outer, node, scan
        self.depth = outer.depth + 1
        self.time = Axis(f"t{outer.depth}", scan.count, is_time=True)
        _, rows, same = node.args
        self.rows_of = dict(zip(scan.rows, rows, strict=True))
        self.same_as = dict(zip(scan.same, same, strict=True))
        inputs = [one for carry in scan.carries for one in carry.inputs]
        self.graph = Graph(inputs, [carry.next for carry in scan.carries] + scan.outputs, scan.body)
        self.available, self.registers, self.lanes = outer.available, outer.registers, outer.lanes
        self.unrolled = outer.unrolled
        self.samples = samples_of(Graph([*inputs, *scan.rows, *scan.same], [], []))
        kept = (*self.graph.inputs, *self.graph.outputs, *compared_with_extremes(self.graph))
        self.kept = {one: None for one in kept if self._long(one.shape)}
        self._settle()

    # -- what it hands on

    def _begin(self) -> None:
        super()._begin()
        self.following: list[tuple[Var, Expr]] = []
        self.histories: dict[Carry | Node, Memory] = {}
        self.row_of: dict[Memory, Index] = {}
        self.lag_of: dict[Node, tuple[Carry, int]] = {}
        for carry in self.scan.carries:
            lags = range(len(carry.inputs), 0, -1)
            self.lag_of.update({one: (carry, lag) for one, lag in zip(carry.inputs, lags, strict=True)})
            if any(one in self.kept for one in carry.inputs):
                self.kept.update(dict.fromkeys((*carry.inputs, carry.next)))
                self._history(carry, carry.next, len(carry.inputs))
        for node in self.scan.outputs:
            carry = next((c for c in self.scan.carries if c.next is node), None)
            if carry is None or carry not in self.histories:
                self._history(carry or node, node, self.scan.starts_of(node))

    def _history(self, key: Carry | Node, node: Node, starts: int) -> None:
        """Memory with a row for each iteration, and for each start."""
        shape = (self.scan.count + starts, *node.shape)
        memory = self.outer.new_memory("scratch", node, node.label or node.op.strip("_"), shape)
        self.histories[key] = memory
        self.row_of[memory] = Index.of(self.time) + (0 if self.scan.backwards else starts)

    def is_in_memory(self, carry: Carry) -> bool:
        """Does what it hands on have a row for each iteration, and no variables?"""
        return carry.inputs[0] in self.kept

    def memory_of_output(self, node: Node) -> Memory:
        """Where the rows of an output lie, with those of its starts."""
        carry = next((c for c in self.scan.carries if c.next is node), None)
        return self.histories[carry if carry in self.histories else node]  # type: ignore[index]

    def row_of_start(self, carry: Carry, oldest: int) -> int:
        """Which row the start has that is so many after the oldest one."""
        return self.scan.count + len(carry.inputs) - 1 - oldest if self.scan.backwards else oldest

    def last_row(self, carry: Carry) -> int:
        """The row of the last iteration."""
        return 0 if self.scan.backwards else self.scan.count + len(carry.inputs) - 1

    def _outputs(self) -> None:
        for carry in self.scan.carries:
            if self.is_in_memory(carry):
                self._fill(carry, carry.next)
                continue
            variables = [self.variables[one] for one in carry.inputs]
            for one, newer in zip(variables, variables[1:], strict=False):
                self.following += [(var, Expr("local", newer[at])) for at, var in one.items()]
            for at, var in variables[-1].items():
                places = tuple(Index((), n) for n in at)
                self.following.append((var, self.element(carry.next, places).as_float()))
        for node in self.scan.outputs:
            key = next((key for key in self.histories if key is node or isinstance(key, Carry) and key.next is node))
            if isinstance(key, Node) or not self.is_in_memory(key):
                self._fill(key, node)

    def _fill(self, key: Carry | Node, node: Node) -> None:
        """Write this iteration's row."""
        memory = self.histories[key]
        if node in self.kept and node not in self._stored:
            self._stored[node] = memory
            for shape, element_at in self._parts(node):
                self._store(memory, shape, element_at, node)
        elif self._stored.get(node) is not memory:
            self._store(memory, node.shape, lambda at: (at, self.element(node, at)), node)

    def _memory_for(self, node: Node) -> Memory:
        for key, memory in self.histories.items():
            if key is node or (isinstance(key, Carry) and key.next is node):
                return memory
        return super()._memory_for(node)

    def _offset(self, memory: Memory, places: Places) -> Index:
        row = self.row_of.get(memory)
        return memory.offset((row, *places) if row is not None else places)

    # -- what it is given

    def _input(self, node: Node, places: Places) -> Expr:
        if node in self.rows_of:
            return self._given(self.rows_of[node], (Index.of(self.time), *places))
        if node in self.same_as:
            return self._given(self.same_as[node], places)
        if node in self.kept:
            carry, lag = self.lag_of[node]
            memory = self.histories[carry]
            row = self.row_of[memory] + (lag if self.scan.backwards else -lag)
            return Expr("load", memory, memory.offset((row, *places)))
        return super()._input(node, places)

    def _given(self, node: Node, places: Places) -> Expr:
        """An element of a value of the schedule around."""
        if _lies_somewhere(node):
            return self.outer.element(node, places)
        if not self.outer.is_long(node.shape[len(node.shape) - len(places) + (node in self.rows_of.values()) :]):
            value = self.outer.element(node, places)
            if value.cost <= RECOMPUTED or not value.times:
                return value
        return self.outer.from_memory(node, places)

    def element(self, node: Node, places: Places) -> Expr:
        """See `Schedule.element`."""
        return super().element(node, places)


def _lies_somewhere(node: Node) -> bool:
    """Is it, or what it is a view of, in memory or in variables anyway?"""
    while node.op in VIEWS:
        node = node.args[0]
    return node.op in ("input", "constant", "scan_rows", "scan_last")


def recurrence(outer: Schedule, node: Node) -> Recurrence:
    """The loop of a scan's node, for a schedule."""
    iteration = Iteration(outer, node)
    given = iter(node.args[0])
    starts: list[tuple[Var, Expr]] = []
    for carry in iteration.scan.carries:
        for position, one in enumerate(carry.inputs):
            start = next(given)
            if iteration.is_in_memory(carry):
                outer.store_row(iteration.histories[carry], iteration.row_of_start(carry, position), start)
                continue
            for at in np.ndindex(*one.shape):
                places = tuple(Index((), n) for n in at)
                starts.append((iteration.variables[one][at], outer.element(start, places).as_float()))
    exprs = [expr for _, expr in starts] + list(_values(iteration))
    return Recurrence(outer.level_after(exprs), iteration, starts)


def _values(iteration: Iteration) -> Iterator[Expr]:
    """All that is computed in it."""
    yield from (root.value for nest in iteration.nests for root in nest.roots)
    yield from (expr for _, expr in iteration.following)
    for inner in iteration.recurrences:
        yield from (expr for _, expr in inner.starts)
        yield from _values(inner.iteration)


__all__ = ["Iteration", "Recurrence", "leaves", "recurrence"]
