"""The plan of a step: its loop nests, what each of them computes, and what can be said of them.

A nest computes *roots*: elements that it stores, or sums that it takes. Nests run level by level, those of one level in
any order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .expressions import CHEAP, Axis, Expr, Index, Memory, Places, in_order
from .graph import Graph, Node
from .ir import Var
from .memories import Memories

if TYPE_CHECKING:
    from .in_turns import InTurns
    from .recurrences import Recurrence

OTHER = 25
"""Operations that an elementary function counts as, and whatever else is none of the cheap ones."""

LONG_TURN = 90
"""Operations on a register of samples beside which loads do not count."""

SHORT = 8
"""Sums of at most so many operations share their loads with their neighbours: several are taken in one turn."""

MANY_TIMES = 8
"""What a nest would compute so many times over is kept: a load then costs less."""


@dataclass(frozen=True)
class Loops:
    """The axes of a nest: `outer` ones around the `lanes` axis, which whole registers run along, and `inner` in it."""

    outer: tuple[Axis, ...] = ()
    lanes: Axis | None = None
    inner: tuple[Axis, ...] = ()

    @property
    def order(self) -> tuple[Axis, ...]:
        """All of them, from the outside in."""
        return (*self.outer, *((self.lanes,) if self.lanes else ()), *self.inner)


@dataclass(eq=False)
class Store:
    """A root: an element that is written to memory at every turn of its nest."""

    memory: Memory
    offset: Index
    value: Expr
    node: Node


@dataclass(eq=False)
class Accumulate:
    """A root: the sum (product, ...) of `value` over the `reduced` axes, into a variable or into memory."""

    kind: str
    var: Var
    value: Expr
    reduced: frozenset[Axis]
    node: Node
    memory: Memory | None = None
    offset: Index | None = None
    part_of: Accumulate | None = None  # one of several sums that are added up at the end
    slot: Index | None = None  # where a register of it lies in scratch from one block of samples to the next


Root = Store | Accumulate


@dataclass(eq=False)
class Nest:
    """A loop nest and what it computes. Nests of one level do not need each other; `level` orders the rest."""

    level: int
    loops: Loops
    roots: list[Root] = field(default_factory=list)

    @property
    def is_of_short_sums(self) -> bool:
        """Is all that it does so little that its loads count?"""
        return all(isinstance(root, Accumulate) and root.value.cost <= SHORT for root in self.roots)

    @property
    def is_jammed(self) -> bool:
        """Can several turns of one of its loops be one, which share what they load?"""
        return self.is_of_short_sums and bool(self.loops.outer or self.loops.inner)


class Plan:
    """The loops of one step.

    Attributes:
        graph: what the step does.
        lanes: how many elements are taken at a time: `registers` times as many as fill a register.
        available: how many vector registers the processor has.
        samples: the size of the axis that registers run along.
        nests: the loop nests in the order in which they run.
        variables: for each input that lies in variables, those of its elements.
        successors: for each input, what it becomes: the Exprs of its elements where it lies in variables, or the Memory
            that the nests have filled.
        results: the same for the other outputs.
        origin: the node and the place of which an Expr is an element.
        recurrences: the loops of scans, in the order in which they run: after the nests of their level.
        in_turns: what takes turns of its own, in the order in which it runs: as recurrences do.
        depth: how many scans are around.
    """

    graph: Graph
    lanes: int
    registers: int
    available: int
    samples: int
    nests: list[Nest]
    variables: dict[Node, dict[tuple[int, ...], Var]]
    successors: list[dict[Places, Expr] | Memory]
    results: list[dict[Places, Expr] | Memory]
    origin: dict[Expr, tuple[Node, Places]]
    recurrences: list[Recurrence]
    in_turns: list[InTurns]
    depth = 0
    _memories: Memories

    @property
    def memories(self) -> list[Memory]:
        """Everything that lies in memory."""
        found = dict.fromkeys(self._memories.found.values())
        found.update(dict.fromkeys(r.memory for nest in self.nests for r in nest.roots if r.memory))
        found.update(dict.fromkeys(m for m in (*self.successors, *self.results) if isinstance(m, Memory)))  # of nothing
        found.update(dict.fromkeys(memory for one in self.in_turns for memory in one.makes))
        for recurrence in self.recurrences:
            found.update(dict.fromkeys(recurrence.iteration.memories))
        return list(found)

    def carried(self, node: Node) -> Memory | None:
        """Where an input lies, if not in variables."""
        return None if node in self.variables else self._memories.of(node, "carry")

    def data(self) -> list[tuple[Node, Memory]]:
        """Every constant that lies in memory, and where."""
        return [(node, memory) for (node, _), memory in self._memories.found.items() if memory.region == "data"]

    def changing(self) -> list[tuple[Var, Expr]]:
        """The variables that the step changes, and their successors."""
        return [
            (var, expr)
            for node, value in zip(self.graph.inputs, self.successors, strict=False)
            if not isinstance(value, Memory)
            for var, expr in zip(self.variables.get(node, {}).values(), value.values(), strict=True)
            if expr is not Expr("local", var)
        ]

    @property
    def can_be_shared(self) -> bool:
        """Can threads take parts of the samples? No sample may look at another but through sums."""
        if self.recurrences or any(map(self._is_of_samples, self.in_turns)):
            return False
        stored = {r.memory: r.offset for nest in self.nests for r in nest.roots if isinstance(r, Store)}
        of_samples = self.of_samples()
        if any(memory.shape[memory.order[-1]] != self.samples for memory in of_samples):
            return False  # a part of something longer
        ends = (value for value in (*self.results, *self.successors) if not isinstance(value, Memory))
        if any(_reads(expr, of_samples) for value in ends for expr in value.values()):
            return False  # of all samples one, which another thread may have
        for nest in self.nests:
            lanes = nest.loops.lanes
            if any(axis.size == self.samples for axis in nest.loops.order if axis is not lanes):
                return False
            if lanes is None or lanes.size != self.samples:
                if any(_reads(root.value, of_samples) for root in nest.roots):
                    return False  # all samples, of which a thread has its own only
                continue
            for root in nest.roots:
                for leaf in leaves(root.value):
                    memory = leaf.args[0] if leaf.op != "kept" else leaf.args[1].args[0]
                    if leaf.op == "lookup" or (leaf.op == "load" and leaf.args[1].factor(lanes) not in (0, 1)):
                        return False
                    if leaf.op != "load" or memory.region == "data" or lanes not in leaf.axes:
                        continue
                    written = stored.get(memory)
                    if memory.region == "carry" or (
                        written is not None and (leaf.args[1].constant - written.constant) % memory.padded
                    ):
                        return False
                if isinstance(root, Store) and (
                    root.memory in {m for m in self.successors if isinstance(m, Memory)}
                    or root.memory in {m for m in self.results if isinstance(m, Memory)}
                ):
                    return False
        return True

    def _is_of_samples(self, one: InTurns) -> bool:
        """Does it go through the samples, or through what has an element for each?"""
        if self.samples in one.memory.shape or any(axis.size == self.samples for axis in one.axes):
            return True
        read = {leaf.args[0] for expr in one.exprs for leaf in read_by(expr)}
        return not read.isdisjoint(self.of_samples())

    def of_samples(self) -> set[Memory]:
        """What the nests write that has an element for each sample."""
        own = Axis("i", self.samples)
        roots = (root for nest in self.nests for root in nest.roots)
        return {root.memory for root in roots if root.memory and root.offset and own in root.offset.axes}

    def shared(self, nests: Sequence[Nest]) -> list[Accumulate]:
        """The sums over the samples that these nests take: what threads add up if each has its own samples."""
        roots = [root for nest in nests for root in nest.roots]
        over = Axis("i", self.samples)
        return [root for root in roots if isinstance(root, Accumulate) and over in root.reduced]

    def shared_sums(self) -> list[list[Accumulate]]:
        """The same for all nests, one list for each level."""
        levels = itertools.groupby(self.nests, key=lambda nest: nest.level)
        return [self.shared(list(nests)) for _, nests in levels]

    @property
    def cycles(self) -> float:
        """About how long a step takes: registers' worth of operations, one a cycle."""
        own = sum(turns * cycles for turns, _, cycles in (one.measured for one in self.in_turns))
        return self.cycles_of(self.nests) + sum(recurrence.cycles for recurrence in self.recurrences) + own

    def all_measured(self) -> list[tuple[int, int, int]]:
        """`measured` of everything."""
        inner = [one for recurrence in self.recurrences for one in recurrence.measured]
        return [*map(self.measured, self.nests), *inner, *(one.measured for one in self.in_turns)]

    def cycles_of(self, nests: Iterable[Nest]) -> float:
        """The same for some nests."""
        total = 0.0
        for nest in nests:
            turns, length, operations = self.measured(nest)
            total += turns * (length / self.lanes if nest.loops.lanes else 1) * operations
        return total

    def measured(self, nest: Nest) -> tuple[int, int, int]:
        """How often its body is run for one element of its lanes axis, how long that is, and the operations in it."""
        lanes = nest.loops.lanes
        free = ("number", "local", "kept")
        parts = in_order((root.value for root in nest.roots), lambda expr: () if expr.op in free else expr.operands)
        operations = sum(1 if e.op in CHEAP else OTHER for e in parts if e.op not in free) + len(nest.roots)
        turns = math.prod(axis.size for axis in nest.loops.order if axis is not lanes)
        return turns, lanes.size if lanes else 1, operations

    @property
    def waits_for_loads(self) -> bool:
        """Is there so little to do with what is read that reading it counts? Sums that share loads are left out."""
        long = (nest for nest in self.nests if not nest.is_jammed)
        return self.cycles_of(long) < LONG_TURN * -(-self.samples // self.lanes)


def _reads(expr: Expr, memories: set[Memory]) -> bool:
    """Is something of these in it?"""
    return any(leaf.args[0] in memories for leaf in read_by(expr))


def leaves(expr: Expr) -> list[Expr]:
    """What an expression is made of: every load, variable and kept value in it."""
    return [part for part in in_order([expr]) if part.op in ("load", "local", "kept", "lookup")]


def read_by(expr: Expr) -> list[Expr]:
    """The loads, lookups and variables that it is made of; what is kept is loaded."""
    return [leaf.args[1] if leaf.op == "kept" else leaf for leaf in leaves(expr)]


def is_written_whole(root: Root, lanes: Axis) -> bool:
    """Can whole registers be written along the lanes axis, or summed?"""
    if isinstance(root, Store):
        return bool(root.memory.order) and root.offset.factor(lanes) == 1  # not of one number
    return root.offset is None or lanes in root.reduced or root.offset.factor(lanes) == 1


def is_at_hand(leaf: Expr, maker: object, loops: Loops) -> bool:
    """Is it a value that `maker`, the last nest that stores to its memory, has in a register in these loops?"""
    if leaf.op != "kept" or not isinstance(maker, Nest) or maker.loops != loops:
        return False
    return any(isinstance(root, Store) and root.value is leaf.args[0] for root in maker.roots)


def is_repeated(expr: Expr, loops: Loops) -> bool:
    """Would the nest compute it again, in whole registers, in many turns of a loop that it does not depend on?"""
    order = loops.order
    innermost = max(order.index(axis) for axis in expr.axes if axis in order)
    again = math.prod(axis.size for axis in order[:innermost] if axis not in expr.axes)
    return again >= MANY_TIMES and loops.lanes in expr.axes
