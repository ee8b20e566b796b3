"""From a graph to loops: which sums share a loop, and what is kept in memory between one loop and the next.

Nothing is computed for its own sake. The outputs ask for the elements that they need, those for theirs, down to the
inputs; only a sum over a long axis, which cannot be had before its loop has ended, becomes a *root*: something that a
loop nest computes. Roots with the same axes, none of which needs another, share one nest and everything in it. Short
axes have no loops: their elements are variables of their own.

An elementwise value is computed anew wherever it is asked for, in registers. Two kinds are kept in memory instead:
those that one nest would compute many times over (a hidden unit that every unit of the next layer reads), and those
with an elementary function in them that several nests want. They are found when all is scheduled, which then starts
again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from fastpoly_kernels.log import stage

from .arguments import leaves as flattened
from .expressions import Axis, Expr, Index, Memory, Places, all_places, call, filled
from .graph import Graph, Node
from .in_turns import InTurns, planned
from .ir import FLOAT, Var
from .memories import Memories, lanes_dimension
from .operations import OPERATIONS, record
from .plan import Accumulate, Loops, Nest, Plan, Root, Store, is_at_hand, is_repeated, leaves
from .products import factors
from .rules import NeedsMemory, Sum, batch_of, broadcast, parts_of, reshaped
from .survey import MOST_SUMS, compared_with_itself, is_mixed, samples_of, single, unrolled_up_to
from .terms import combined, divided

if TYPE_CHECKING:
    from .recurrences import Recurrence

MANY_OPERATIONS = 12
"""What takes more than so many operations is kept rather than computed again; an elementary function counts 20."""


@dataclass(eq=False)
class _Reduced:
    """Where the results of a reduction are: variables by their unrolled places, or memory; and their factors."""

    locals: dict[Places, Expr]
    memory: Memory | None


class Schedule(Plan):
    """The plan of a graph.

    Args:
        graph: what a step does. Its inputs are the values carried from step to step; of its outputs the first
            len(inputs) are their successors, and the others are what the step gives back.
        lanes: how many elements fill a register.
        registers: how many of them are taken at a time.
        available: how many vector registers the processor has.
        most_sums: how many sums over the samples may be in variables; more of them have loops over the other axes.
        samples: how long the axis is that registers run along; the one that most of the data has if it is not said.
        kept: what is kept in memory at least, as another plan for the graph has found: this one is sooner made then.
    """

    @stage("schedule")
    def __init__(
        self,
        graph: Graph,
        lanes: int,
        registers: int = 1,
        available: int = 16,
        most_sums: int = MOST_SUMS,
        samples: int | None = None,
        kept: Iterable[Node] = (),
    ) -> None:
        self.graph = graph
        self.is_mixed = is_mixed(graph)
        self.available = available
        self.registers = registers
        self.lanes = lanes * registers
        self.samples = samples_of(graph) if samples is None else samples
        self.unrolled = unrolled_up_to(graph, self.samples, most_sums)
        self._memories = Memories(self.samples, self.unrolled, self.lanes, registers)
        asked = (*graph.inputs, *compared_with_itself(graph))
        self.kept = dict.fromkeys([*(node for node in asked if self.is_long(node.shape)), *kept])
        self._settle()

    def _settle(self) -> None:
        """Plan the outputs, again each time that more is to be kept."""
        while True:
            self._begin()
            try:
                self._outputs()
            except NeedsMemory as need:  # of an input, which lay in variables so far
                if need.node not in self.graph.inputs:
                    raise
                self.kept[need.node] = None
                continue
            more = [node for node in self._worth_keeping() if node not in self.kept]
            if not more:
                break
            self.kept.update(dict.fromkeys(more))
        self.nests = sorted(self._nests.values(), key=lambda nest: nest.level)
        self.recurrences = sorted(self._recurrences.values(), key=lambda recurrence: recurrence.level)
        self.in_turns = sorted(self._in_turns.values(), key=lambda one: one.level)

    def _begin(self) -> None:
        self._nests: dict[tuple[int, Loops], Nest] = {}
        self._elements: dict[tuple[Node, Places], Expr] = {}
        self.origin: dict[Expr, tuple[Node, Places]] = {}
        self._reduced: dict[Node, _Reduced] = {}
        self._memories = Memories(self.samples, self.unrolled, self.lanes, self.registers)
        self._maker: dict[Var | Memory, Nest | Recurrence | InTurns] = {}
        self._recurrences: dict[Node, Recurrence] = {}
        self._in_turns: dict[Node, InTurns] = {}
        self._copies: dict[tuple[Node, int], Memory] = {}
        self._stored: dict[Node, Memory] = {}
        self._values: dict[tuple[Node, Places], Expr] = {}
        self.variables: dict[Node, dict[tuple[int, ...], Var]] = {
            node: {at: Var("_".join([node.label, *map(str, at)]), FLOAT) for at in np.ndindex(*node.shape)}
            for node in self.graph.inputs
            if node not in self.kept
        }
        self.successors: list[dict[Places, Expr] | Memory] = []
        self.results: list[dict[Places, Expr] | Memory] = []

    # -- what the outputs are

    def _outputs(self) -> None:
        inputs = self.graph.inputs
        for position, node in enumerate(self.graph.outputs):
            like = self.carried(inputs[position]) if position < len(inputs) else None
            value: dict[Places, Expr] | Memory = {}  # what stays as it is
            if like is None and (position < len(inputs) or not self._memories.is_long(node.shape)):
                value = {at: self.element(node, at).as_float() for at in all_places(node.shape)}
            elif like is None or node is not inputs[position]:
                value = self._copied(node, like)
            (self.successors if position < len(inputs) else self.results).append(value)

    def _copied(self, node: Node, like: Memory | None) -> Memory:
        """A memory of its own for an output, laid out as the input that it follows."""
        memory = self._memories.new("scratch", node, "next")
        if like is not None:
            memory.order, memory.padded = like.order, like.padded
        self.store_all(memory, node)
        return memory

    # -- elements

    def element(self, node: Node, places: Places) -> Expr:
        """The element of `node` at `places`."""
        key = (node, places)
        if key not in self._elements:
            try:
                value = self._element(node, places)
            except NeedsMemory as need:
                if need.node is not node or node.op == "input":
                    raise
                self.kept[node] = None  # from here on; elements that somebody has already are as good
                value = self._kept(node, places)
            self._elements[key] = value
            for part in (value, value.scaled[1]):  # products lose their constant factors to what they go into
                if part.cost:
                    self.origin.setdefault(part, key)
        return self._elements[key]

    def _element(self, node: Node, places: Places) -> Expr:
        if node.op == "constant":
            return self._constant(node, places)
        if node.op == "input":
            return self._input(node, places)
        value = self._kept(node, places) if node in self.kept else self._computed(node, places)
        value = call("rounded", value) if self._rounds(node) and not record(node).is_view else value
        return value.as_bool() if node.dtype == torch.bool else value  # true and true are 1, not 2

    def _computed(self, node: Node, places: Places) -> Expr:
        if node.op in ("scan_rows", "scan_last"):
            return self._scanned(node, places)
        operation = OPERATIONS[node.op]
        if operation.is_elementwise:
            rounds, args = self._rounds(node), node.args if operation.reads else ()
            return operation.rule(
                # a list: to run a generator takes a frame on the stack, of which there is less than on the heap
                *[broadcast(self, a, places) if isinstance(a, Node) else single(a, rounds) for a in args]
            )
        return operation.rule(self, node, places)

    def _rounds(self, node: Node) -> bool:
        return self.is_mixed and node.dtype == torch.float32

    def _scanned(self, node: Node, places: Places) -> Expr:
        """The element of what comes of a scan."""
        from .recurrences import recurrence  # which is a schedule, too

        scan = node.args[0]
        if scan not in self._recurrences:
            self._recurrences[scan] = made = recurrence(self, scan)
            self._maker.update(dict.fromkeys(made.makes, made))
        return self._recurrences[scan].element(node, places)

    def _constant(self, node: Node, places: Places) -> Expr:
        tensor = node.tensor
        assert tensor is not None
        if node.view_of is not None:
            other, dims = node.view_of
            return self._constant(other, tuple(Index() if d is None else places[d] for d in dims))
        if node.baked is not None:
            if node.baked.size == 1:
                return Expr.of(node.baked.flat[0].item())
            numbers = [place.number for place in places]
            if None not in numbers:
                return Expr.of(node.baked[tuple(numbers)].item())
        if any((d, place.number) in node.ones for d, place in enumerate(places)):
            return Expr.of(1.0)
        places = tuple(Index() if stride == 0 else place for place, stride in zip(places, tensor.stride(), strict=True))
        memory = self._memories.of(node, "data", lanes_dimension(places))
        load = Expr("load", memory, memory.offset(places))
        return load.as_bool() if node.dtype == torch.bool else load

    def _input(self, node: Node, places: Places) -> Expr:
        if node in self.kept:
            memory = self._memories.of(node, "carry")
            return Expr("load", memory, memory.offset(places))
        if any(place.number is None for place in places):
            raise NeedsMemory(node)
        return Expr("local", self.variables[node][tuple(place.constant for place in places)])

    def _kept(self, node: Node, places: Places) -> Expr:
        if node not in self._stored:
            self._stored[node] = memory = self._memory_for(node)
            for shape, element_at in self._parts(node):
                self._store(memory, shape, element_at, node)
        memory = self._stored[node]
        load = Expr("load", memory, self._offset(memory, places))
        value = self._values.get((node, places))
        # what is the same in all lanes is no register, as which everything made of the load is written
        if value is None or any(axis.name == "i" for axis in load.axes - value.axes):
            return load
        return Expr("kept", value, load)

    def _memory_for(self, node: Node) -> Memory:
        """Where a node is to be kept."""
        return self._memories.of(node, "scratch")

    def _offset(self, memory: Memory, places: Places) -> Index:
        return memory.offset(places)

    # -- for the iterations of a scan

    def is_long(self, shape: Sequence[int]) -> bool:
        """Has a tensor of this shape an axis with a loop?"""
        return self._memories.is_long(shape)

    def new_memory(self, node: Node, shape: tuple[int, ...] | None = None, along: int | None = None) -> Memory:
        """Memory for a node's shape or another one; it lies `along` a dimension, or any."""
        return self._memories.new("scratch", node, node.label or node.op.split(":")[-1].strip("_"), shape, along)

    def from_memory(self, node: Node, places: Places) -> Expr:
        """An element, loaded: from here on the node is kept."""
        self.kept[node] = None
        return self._kept(node, places)

    def copied_along(self, node: Node, dim: int, places: Places) -> Expr:
        """An element, loaded from a copy that lies in memory along a dimension."""
        if (node, dim) not in self._copies:
            self._copies[node, dim] = memory = self.new_memory(node, along=dim)
            self.store_all(memory, node)
        memory = self._copies[node, dim]
        return Expr("load", memory, memory.offset(places))

    def store_all(self, memory: Memory, node: Node) -> None:
        """Write the values of `node` to a memory."""
        self._store(memory, node.shape, lambda at: (at, self.element(node, at)), node)

    def store_row(self, memory: Memory, row: int, node: Node) -> None:
        """Write the values of `node` to a row of a memory."""
        self._store(memory, node.shape, lambda at: ((Index((), row), *at), self.element(node, at)), node)

    def level_after(self, exprs: Iterable[Expr]) -> int:
        """The first level at which everything is there that these need."""
        level = 0
        for expr in exprs:
            for leaf in leaves(expr):
                maker = self._maker.get(leaf.args[1].args[0] if leaf.op == "kept" else leaf.args[0])
                level = max(level, maker.level + 1) if maker is not None else level
        return level

    def level_of(self, memories: Iterable[Memory]) -> int:
        """The level of the last nest that writes to these."""
        return max((maker.level for m in memories if (maker := self._maker.get(m)) is not None), default=0)

    def _parts(self, node: Node) -> Iterator[tuple[tuple[int, ...], Callable[[Places], tuple[Places, Expr]]]]:
        """The shapes that `node` consists of; for each, from a place in it to the place in `node` and the element."""
        if node.op == "bmm":
            batch = batch_of(node)
            yield (*batch, *node.shape[1:]), partial(self._within_batch, node, batch)
            return
        if node.op not in ("cat", "stack"):
            yield node.shape, lambda at: (at, self._computed(node, at))
            return
        dim = (node.args[1] or 0) % len(node.shape)
        for part, start in parts_of(node):
            within = self._within_cat if node.op == "cat" else self._within_stack
            yield part.shape, partial(within, dim, part, start)

    def _within_batch(self, node: Node, batch: tuple[int, ...], at: Places) -> tuple[Places, Expr]:
        places = (*reshaped(batch, at[: len(batch)], node.shape[:1]), *at[len(batch) :])
        return places, self._computed(node, places)

    def _within_cat(self, dim: int, part: Node, start: int, at: Places) -> tuple[Places, Expr]:
        return (*at[:dim], at[dim] + start, *at[dim + 1 :]), self.element(part, at)

    def _within_stack(self, dim: int, part: Node, start: int, at: Places) -> tuple[Places, Expr]:
        return (*at[:dim], Index((), start), *at[dim:]), self.element(part, at)

    # -- roots

    def _axes(self, kept: Sequence[int], reduced: Sequence[int], which: int = 0) -> tuple[Places, Places, Loops]:
        """Loop variables for the long dimensions among `kept` and `reduced`; the short ones get the place -1.

        Registers run along that one of them (`which`, if there are several) that is as long as the samples are.
        """
        sizes = [*kept, *reduced]
        long = [d for d, size in enumerate(sizes) if size > self.unrolled]
        is_kept = [d for d in long if d < len(kept)]
        is_reduced = [d for d in long if d >= len(kept)]
        as_samples = [d for d in long if sizes[d] == self.samples]
        along = as_samples[which] if as_samples else next(iter((is_kept or is_reduced)[::-1]), None)
        outer = [d for d in is_kept if d != along]
        inner = [d for d in is_reduced if d != along]
        if along in is_reduced:
            outer, inner = outer + inner, []
        axes = {d: Axis(f"j{n}", sizes[d]) for n, d in enumerate(outer)}
        axes.update({d: Axis(f"k{n}", sizes[d]) for n, d in enumerate(inner)})
        if along is not None:
            axes[along] = Axis("i", sizes[along])
        places = tuple(Index.of(axes[d]) if d in axes else Index((), -1) for d in range(len(sizes)))
        loops = Loops(
            tuple(axes[d] for d in outer), axes[along] if along is not None else None, tuple(axes[d] for d in inner)
        )
        return places[: len(kept)], places[len(kept) :], loops

    def _store(
        self,
        memory: Memory,
        shape: tuple[int, ...],
        element_at: Callable[[Places], tuple[Places, Expr]],
        node: Node,
    ) -> None:
        """Roots that write all elements of a shape to `memory`."""
        template, _, loops = self._axes(shape, ())
        for at in filled(template, shape):
            places, value = element_at(at)
            value = value.as_float()
            if value.cost and node in self._stored:
                self._values[node, places] = value
            self._place(Store(memory, self._offset(memory, places), value, node), loops)

    def reduce(self, node: Node, sum_of: Sum, places: Places) -> Expr:
        """The element at `places` of a reduction."""
        if not any(size > self.unrolled for size in sum_of.reduced):
            over = itertools.product(*(range(size) for size in sum_of.reduced))
            terms = [sum_of.body(places, tuple(Index((), o) for o in at)).as_float() for at in over]
            if not terms:
                return Expr.of({"add": 0.0, "mul": 1.0}[sum_of.kind])
            return combined(sum_of.kind, terms)
        if node not in self._reduced:
            self._reduced[node] = self._accumulate(node, sum_of)
        known = self._reduced[node]
        if known.memory is not None:
            short = tuple(Index() if n > self.unrolled else p for p, n in zip(places, sum_of.kept, strict=True))
            if any(place.number is None for place in short):
                raise NeedsMemory(node)
            factor = known.locals[short]
            return factor * Expr("load", known.memory, known.memory.offset(places))
        if places not in known.locals:
            raise NeedsMemory(node)
        return known.locals[places]

    def lookup(self, node: Node, places: Places, dim: int, which: Expr) -> Expr:
        """The element of `node` whose place along `dim` is a number that is read in the loop."""
        if node.is_constant:
            memory = self._memories.of(node, "data", None if dim == (d := lanes_dimension(places)) else d)
            rest = memory.offset(places)
        else:
            if node.op == "input" and node not in self.kept:
                raise NeedsMemory(node)
            self.kept[node] = None
            element = self._input(node, places) if node.op == "input" else self._kept(node, places)
            memory, rest = (element.args[1] if element.op == "kept" else element).args
        rows = len(memory.shape) - len(places)  # of what a scan hands on there is one for each iteration
        unit = tuple(Index((), int(d == rows + dim)) for d in range(len(memory.shape)))
        return Expr("lookup", memory, rest, memory.offset(unit).constant, which)

    def taking_turns(self, node: Node, places: Places, which: int = 0) -> Expr:
        """The element of what takes turns of its own, of all that it makes."""
        if node not in self._in_turns:
            self._in_turns[node] = made = planned(self, node)
            self._maker.update(dict.fromkeys(made.makes, made))
        return Expr("load", memory := self._in_turns[node].makes[which], memory.offset(places))

    def _axes_of(self, sum_of: Sum) -> tuple[Places, Places, Loops]:
        """Loop variables for a sum: of axes as long as the samples, registers run along one that all it reads lies
        along.
        """
        sizes = sum_of.kept, sum_of.reduced
        count = sum(size == self.samples > self.unrolled for size in itertools.chain(*sizes))
        if count < 2 or 0 in itertools.chain(*sizes):
            return self._axes(*sizes)
        found = [self._axes(*sizes, which) for which in range(count)]
        return next((axes for axes in found if self._lies_along(sum_of, axes)), found[0])

    @staticmethod
    def _lies_along(sum_of: Sum, axes: tuple[Places, Places, Loops]) -> bool:
        """Does all that a sum reads lie along its registers, or is the same for them?"""
        kept, reduced, loops = axes
        assert loops.lanes is not None
        value = sum_of.body(next(filled(kept, sum_of.kept)), next(filled(reduced, sum_of.reduced)))
        read = [leaf.args[1] if leaf.op == "kept" else leaf for leaf in leaves(value)]
        return all(load.op == "local" or load.args[1].factor(loops.lanes) in (0, 1) for load in read)

    def _accumulate(self, node: Node, sum_of: Sum) -> _Reduced:
        kept, reduced, loops = self._axes_of(sum_of)
        memory = None
        if any(size > self.unrolled for size in sum_of.kept):
            memory = self._memories.new("scratch", node, node.op, sum_of.kept)
        known: dict[Places, Expr] = {}
        axes = frozenset(axis for place in reduced for axis in place.axes)
        for at in filled(kept, sum_of.kept):
            terms = [sum_of.body(at, over).as_float() for over in filled(reduced, sum_of.reduced)]
            value = combined(sum_of.kind, terms)
            factor, divisor = 1.0, Expr.of(1.0)
            if sum_of.kind == "add":
                value, divisor = divided(value)  # one division instead of one for every sample
                factor, value = value.scaled
            short = tuple(Index() if place.axes else place for place in at)
            if memory is None and not value.axes and sum_of.kind != "mul":  # the same number, over and over
                count = math.prod(axis.size for axis in axes) if sum_of.kind == "add" else 1
                known[short] = factor * count * value / divisor
                continue
            var = Var(node.op.strip("_"), FLOAT)
            offset = memory.offset(at) if memory else None
            self._place(Accumulate(sum_of.kind, var, value, axes, node, memory, offset), loops)
            known[short] = (Expr.of(1.0) if memory is not None else Expr("local", var)) * factor / divisor
        return _Reduced(known, memory)

    def _place(self, root: Root, loops: Loops) -> None:
        """Put a root into the first nest with its loops that runs after everything it needs."""
        level = 0
        for leaf in leaves(root.value):
            maker = self._maker.get(leaf.args[1].args[0] if leaf.op == "kept" else leaf.args[0])
            if maker is not None:
                level = max(level, maker.level + (not is_at_hand(leaf, maker, loops)))
        nest = self._nests.setdefault((level, loops), Nest(level, loops))
        nest.roots.append(root)
        made = root.memory or root.var if isinstance(root, Accumulate) else root.memory
        before = self._maker.get(made)
        if before is None or before.level < level:
            self._maker[made] = nest

    # -- what to keep in memory

    def _worth_keeping(self) -> list[Node]:
        """Nodes that one nest computes many times over, or several nests compute anew at a price."""
        makers: dict[Node, set[Nest]] = {}  # of what takes many operations: where it is computed
        wanted: dict[Node, None] = {}
        for nest in self._nests.values():
            if self.lanes > 1:  # on a CPU
                sums = (root for root in nest.roots if isinstance(root, Accumulate))
                found = (expr for root in sums for expr in factors(root) if self._can_keep(expr))
                wanted.update((self.origin[expr][0], None) for expr in found)
            seen: set[Expr] = set()
            stack = [root.value for root in nest.roots]
            while stack:
                expr = stack.pop()
                if expr in seen or expr.cost == 0 or not expr.axes:
                    continue
                seen.add(expr)
                if expr.cost > MANY_OPERATIONS and self._can_keep(expr):
                    makers.setdefault(self.origin[expr][0], set()).add(nest)
                if is_repeated(expr, nest.loops) and self._can_keep(expr):
                    wanted[self.origin[expr][0]] = None
                    continue
                stack.extend(expr.operands)
        shared = [node for node, nests in makers.items() if len(nests) > 1]
        inside = {argument for node in shared for argument in flattened(*node.args)}
        wanted.update(dict.fromkeys(node for node in shared if node not in inside))
        return list(wanted)

    def _can_keep(self, expr: Expr) -> bool:
        return expr in self.origin and self.origin[expr][0].op != "input"
