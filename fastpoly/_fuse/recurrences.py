"""The loops of a `Scan`: one iteration's own schedule, within that of the step.

What an iteration hands on lies in variables if it is small, as what steps hand on does; else in memory with a row for
each iteration, where the next one finds it and no copy is made. What others read afterwards lies so in any case. Rows
that are cheap to compute are computed in the iteration; others are loaded, by an index that moves with the time axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .expressions import Axis, Expr, Index, Memory, Places
from .graph import Graph, Node
from .ir import Var
from .memories import Memories
from .operations import record
from .rules import NeedsMemory
from .scan import Carry
from .schedule import Schedule
from .survey import compared_with_itself, samples_of

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
    def makes(self) -> list[Var | Memory]:
        """What others find afterwards."""
        variables = (self.iteration.variables.get(carry.inputs[-1], {}) for carry in self.iteration.scan.carries)
        return [*self.iteration.histories.values(), *(var for own in variables for var in own.values())]

    def element(self, node: Node, places: Places) -> Expr:
        """What comes of it, at these places: see `scan`."""
        own = self.iteration
        _, position = node.args
        if node.op == "scan_rows":
            memory = own.memory_of_output(own.scan.outputs[position])
            return Expr("load", memory, memory.offset(places))
        carry = own.scan.carries[position]
        if not own.is_in_memory(carry):
            numbers = [place.number for place in places]
            if None in numbers:
                raise NeedsMemory(node)
            return Expr("local", own.variables[carry.inputs[-1]][tuple(place.constant for place in places)])
        memory = own.histories[carry]
        return Expr("load", memory, memory.offset((Index((), own.last_row(carry)), *places)))

    def fixed(self, resolved: Callable[[Expr], Expr]) -> list[Expr]:
        """What its iterations need of what is the same in all of them, operands first."""
        changing = set(self.iteration.changes())
        around = self.iteration.times_around()
        known: dict[Expr, bool] = {}
        needed: dict[Expr, None] = {}
        for root in map(resolved, values_of(self.iteration)):
            stack = [root]
            while stack:
                expr = stack[-1]
                if expr in known:
                    stack.pop()
                    continue
                operands = [resolved(operand) for operand in expr.operands]
                waiting = [operand for operand in operands if operand not in known]
                stack.extend(waiting)
                if waiting:
                    continue
                stack.pop()
                made_here = expr.op in ("load", "local", "lookup") and expr.args[0] in changing
                is_fixed = not expr.axes and expr.times <= around and not made_here and all(map(known.get, operands))
                known[expr] = is_fixed
                if not is_fixed:
                    needed.update((o, None) for o in operands if known[o] and o.op not in ("number", "local"))
        return list(needed)

    def variables(self) -> list[Var]:
        """Those that have other values after it."""
        return [changed for changed in self.iteration.changes() if isinstance(changed, Var)]

    @property
    def cycles(self) -> float:
        """About how long it takes; see `Schedule.cycles`."""
        own = self.iteration
        return own.scan.count * (own.cycles + own.serial)

    @property
    def measured(self) -> list[tuple[int, int, int]]:
        """See `Schedule.measured`, of all its nests and of what it does in variables."""
        own, count = self.iteration, self.iteration.scan.count
        nests = [(count * turns, length, operations) for turns, length, operations in own.all_measured()]
        return [*nests, (count, 1, own.serial)]


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
        self.outer, self.scan = outer, scan
        self.is_mixed = outer.is_mixed
        self.depth = outer.depth + 1
        self.time = Axis(f"t{outer.depth}", scan.count, is_time=True)
        _, rows, same = node.args
        self.rows_of = dict(zip(scan.rows, rows, strict=True))
        self.same_as = dict(zip(scan.same, same, strict=True))
        inputs = [one for carry in scan.carries for one in carry.inputs]
        self.graph = Graph(inputs, [carry.next for carry in scan.carries] + scan.outputs, scan.body)
        self.available, self.registers, self.lanes = outer.available, 1, outer.lanes // outer.registers
        self.unrolled = outer.unrolled
        self.samples = samples_of(Graph(scan.inputs, [], scan.body))
        self.is_last = False
        self._memories = Memories(self.samples, self.unrolled, self.lanes, self.registers)
        kept = (*self.graph.inputs, *self.graph.outputs, *compared_with_itself(self.graph))
        self.kept = {one: None for one in kept if self.is_long(one.shape)}
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
            key = self.key_of(node)
            if key not in self.histories:
                self._history(key, node, self.scan.starts_of(node))

    def _history(self, key: Carry | Node, node: Node, starts: int) -> None:
        """Memory with a row for each iteration, and for each start."""
        memory = self.outer.new_memory(node, (self.scan.count + starts, *node.shape))
        self.histories[key] = memory
        self.row_of[memory] = Index.of(self.time) + (0 if self.scan.backwards else starts)

    @property
    def serial(self) -> int:
        """Cycles of what the variables that it hands on become, one operation after the other."""
        return SERIAL * sum(expr.cost for _, expr in self.following)

    def is_in_memory(self, carry: Carry) -> bool:
        """Does what it hands on have a row for each iteration, and no variables?"""
        return carry.inputs[0] in self.kept

    def key_of(self, node: Node) -> Carry | Node:
        """What the rows of an output are kept as."""
        return next((carry for carry in self.scan.carries if carry.next is node), node)

    def memory_of_output(self, node: Node) -> Memory:
        """Where the rows of an output lie, with those of its starts."""
        return self.histories[self.key_of(node)]

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
            for one, newer in itertools.pairwise(variables):
                self.following += [(var, Expr("local", newer[at])) for at, var in one.items()]
            for at, var in variables[-1].items():
                places = tuple(Index((), n) for n in at)
                self.following.append((var, self.element(carry.next, places).as_float()))
        for node in self.scan.outputs:
            self._fill(self.key_of(node), node)

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
        return self.histories.get(self.key_of(node)) or super()._memory_for(node)

    def _offset(self, memory: Memory, places: Places) -> Index:
        row = self.row_of.get(memory)
        return memory.offset((row, *places) if row is not None else places)

    def changes(self) -> Iterator[Var | Memory]:
        """What it assigns and writes to, with the loops within."""
        for nest in self.nests:
            for root in nest.roots:
                if root.memory is not None:
                    yield root.memory
                else:
                    yield root.var
        yield from (var for own in self.variables.values() for var in own.values())
        for inner in self.recurrences:
            yield from inner.iteration.changes()
        for one in self.in_turns:
            yield from one.changes()

    def times_around(self) -> frozenset[Axis]:
        """The time axes of the loops around it."""
        outer = self.outer
        return outer.times_around() | {outer.time} if isinstance(outer, Iteration) else frozenset()

    # -- what it is given

    def _constant(self, node: Node, places: Places) -> Expr:
        return self.outer.element(node, places)

    def _input(self, node: Node, places: Places) -> Expr:
        if node in self.rows_of:
            return self._given(self.rows_of[node], node.shape, (Index.of(self.time), *places))
        if node in self.same_as:
            return self._given(self.same_as[node], node.shape, places)
        if node in self.kept:
            carry, lag = self.lag_of[node]
            memory = self.histories[carry]
            row = self.row_of[memory] + (lag if self.scan.backwards else -lag)
            return Expr("load", memory, memory.offset((row, *places)))
        return super()._input(node, places)

    def lookup(self, node: Node, places: Places, dim: int, which: Expr) -> Expr:
        """See `Schedule.lookup`."""
        if node in self.rows_of:
            return self.outer.lookup(self.rows_of[node], (Index.of(self.time), *places), dim + 1, which)
        if node in self.same_as:
            return self.outer.lookup(self.same_as[node], places, dim, which)
        return super().lookup(node, places, dim, which)

    def _given(self, node: Node, shape: tuple[int, ...], places: Places) -> Expr:
        """An element of a value of the schedule around; `shape` is what an iteration has of it."""
        if _lies_somewhere(node):
            return self._in_line(node, self.outer.element(node, places), places)
        if not self.outer.is_long(shape):
            value = self.outer.element(node, places)
            if value.cost <= RECOMPUTED or not value.times:
                return value
        return self._in_line(node, self.outer.from_memory(node, places), places)

    def _in_line(self, node: Node, value: Expr, places: Places) -> Expr:
        """An element of what iterations read again and again, from where registers can be read along the axis i."""
        axis = next((axis for axis in value.axes if axis.name == "i"), None)
        if value.op != "load" or axis is None or value.args[1].factor(axis) in (0, 1):
            return value
        dim = next(d for d, place in enumerate(places) if axis in place.axes)
        if places[dim] != Index.of(axis):
            return value
        return self.outer.copied_along(node, dim, places)


def _lies_somewhere(node: Node) -> bool:
    """Is it, or what it is a view of, in memory or in variables anyway?"""
    while record(node).is_view:
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
            if carry in iteration.histories:
                outer.store_row(iteration.histories[carry], iteration.row_of_start(carry, position), start)
            if iteration.is_in_memory(carry):
                continue
            for at in np.ndindex(*one.shape):
                places = tuple(Index((), n) for n in at)
                starts.append((iteration.variables[one][at], outer.element(start, places).as_float()))
    exprs = [expr for _, expr in starts] + list(values_of(iteration))
    level = max(outer.level_after(exprs), outer.level_of(iteration.histories.values()))
    return Recurrence(level, iteration, starts)


def values_of(iteration: Iteration) -> Iterator[Expr]:
    """All that is computed in it."""
    yield from (root.value for nest in iteration.nests for root in nest.roots)
    yield from (expr for _, expr in iteration.following)
    yield from (expr for one in iteration.in_turns for expr in one.exprs)
    for inner in iteration.recurrences:
        yield from (expr for _, expr in inner.starts)
        yield from values_of(inner.iteration)
