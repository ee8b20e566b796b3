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
import keyword
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from fastpoly_kernels.log import stage

from . import pointwise, rules
from .arguments import leaves as flattened
from .expressions import CHEAP, FUNCTIONS, SIMD, Axis, Expr, Index, Memory, Places
from .graph import Graph, Node
from .rules import COMBINE, NeedsMemory, Sum, broadcast
from .survey import MOST_SUMS, compared_with_extremes, samples_of, unrolled_up_to

MANY_TIMES = 8
"""What a nest would compute so many times over is kept: a load then costs less."""

MANY_OPERATIONS = 12
"""What takes more than so many operations is kept rather than computed again; an elementary function counts 20."""

LONG_TURN = 90
"""Operations on a register of samples, an elementary function counted as 25, beside which loads do not count."""

ALIASED = 32
"""Rows that lie a multiple of so many registers (1,024 bytes with AVX2) apart crowd into few sets of the caches: the
same samples of 64 rows push each other out."""

SHORT = 8
"""Sums of at most so many operations share their loads with their neighbours: several are taken in one turn."""

RESERVED = frozenset(
    {"carry", "data", "scratch", "out", "steps", "every", "wait", "row", "taken", "step", "i", "block", "there", "math"}
    | {
        "float",
        "float32",
        "float64",
        "range",
        "min",
        "int",
        "kernel",
        "first",
        "last",
        "met",
        "side",
        "mine",
        "room",
        "counter",
    }
    | {"begin", "end", "tiles", "thread", "at", "libdevice", "stopped", "tl", "triton", "value", *SIMD, *FUNCTIONS}
)
"""Names that kernels use."""


AXIS = re.compile(r"[jk]\d+")
"""What loop variables are called, besides i."""


def _is_reserved(name: str) -> bool:
    return name in RESERVED or keyword.iskeyword(name) or AXIS.fullmatch(name) is not None


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
    name: str
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


@dataclass(eq=False)
class _Reduced:
    """Where the results of a reduction are: variables by their unrolled places, or memory; and their factors."""

    locals: dict[Places, Expr]
    memory: Memory | None


class Schedule:
    """The loops of one step.

    Args:
        graph: what a step does. Its inputs are the values carried from step to step; of its outputs the first
            len(inputs) are their successors, and the others are what the step gives back.
        lanes: how many elements fill a register.
        registers: how many of them are taken at a time.
        available: how many vector registers the processor has.
        most_sums: how many sums over the samples may be in variables; more of them have loops over the other axes.

    Attributes:
        nests: the loop nests in the order in which they run.
        successors: for each input, what it becomes: the Exprs of its elements where it lies in variables, or the Memory
            that the nests have filled.
        results: the same for the other outputs.
        memories: everything that lies in memory.
    """

    @stage("schedule")
    def __init__(
        self, graph: Graph, lanes: int, registers: int = 1, available: int = 16, most_sums: int = MOST_SUMS
    ) -> None:
        self.graph = graph
        self.available = available
        self.registers = registers
        self.lanes = lanes * registers
        self.samples = samples_of(graph)
        self.unrolled = unrolled_up_to(graph, self.samples, most_sums)
        self.kept = {node: None for node in (*graph.inputs, *compared_with_extremes(graph)) if self._long(node.shape)}
        while True:  # each time more is kept
            self._begin()
            try:
                self._outputs()
            except NeedsMemory as need:  # of an input, which lay in variables so far
                self.kept[need.node] = None
                continue
            more = [node for node in self._worth_keeping() if node not in self.kept]
            if not more:
                break
            self.kept.update(dict.fromkeys(more))
        self.nests = sorted(self._nests.values(), key=lambda nest: nest.level)

    def _begin(self) -> None:
        self._nests: dict[tuple[int, Loops], Nest] = {}
        self._elements: dict[tuple[Node, Places], Expr] = {}
        self.origin: dict[Expr, tuple[Node, Places]] = {}
        self._reduced: dict[Node, _Reduced] = {}
        self._memory: dict[tuple[Node, int | None], Memory] = {}
        self._maker: dict[str | Memory, Nest] = {}
        self._stored: dict[Node, Memory] = {}
        self._values: dict[tuple[Node, Places], Expr] = {}
        self._names: dict[str, int] = {}
        self._taken: set[str] = set()
        self.variables: dict[Node, dict[tuple[int, ...], str]] = {}
        for node in self.graph.inputs:
            if node not in self.kept:
                self.variables[node] = self._new_names(node.label, node.shape)
        self.successors: list[dict[Places, Expr] | Memory] = []
        self.results: list[dict[Places, Expr] | Memory] = []

    # -- what the outputs are

    def _outputs(self) -> None:
        inputs = self.graph.inputs
        for position, node in enumerate(self.graph.outputs):
            like = self.carried(inputs[position]) if position < len(inputs) else None
            value: dict[Places, Expr] | Memory
            if like is not None or (position >= len(inputs) and self._long(node.shape)):
                value = self._copied(node, like)
            else:
                value = {at: self.element(node, at).as_float() for at in _all(node)}
            (self.successors if position < len(inputs) else self.results).append(value)

    def _copied(self, node: Node, like: Memory | None) -> Memory:
        """A memory of its own for an output, laid out as the input that it follows."""
        memory = self._new_memory("scratch", node, "next")
        if like is not None:
            memory.order, memory.padded = like.order, like.padded
        self._store(memory, node.shape, lambda at: (at, self.element(node, at)), node)
        return memory

    @property
    def memories(self) -> list[Memory]:
        """Everything that lies in memory."""
        found = dict.fromkeys(self._memory.values())
        found.update(dict.fromkeys(r.memory for nest in self.nests for r in nest.roots if r.memory))
        found.update(dict.fromkeys(m for m in (*self.successors, *self.results) if isinstance(m, Memory)))  # of nothing
        return list(found)

    def carried(self, node: Node) -> Memory | None:
        """Where an input lies, if not in variables."""
        return self._memory_of(node, None, "carry") if node in self.kept else None

    def data(self) -> list[tuple[Node, Memory]]:
        """Every constant that lies in memory, and where."""
        return [(node, memory) for (node, _), memory in self._memory.items() if memory.region == "data"]

    @property
    def can_be_shared(self) -> bool:
        """Can threads take parts of the samples? No sample may look at another but through sums."""
        stored = {r.memory: r.offset for nest in self.nests for r in nest.roots if isinstance(r, Store)}
        for nest in self.nests:
            lanes = nest.loops.lanes
            if any(axis.size == self.samples for axis in nest.loops.order if axis is not lanes):
                return False
            own = Axis("i", self.samples)
            of_samples = {
                root.memory
                for other in self.nests
                for root in other.roots
                if root.memory is not None and root.offset is not None and own in root.offset.axes
            }
            if any(memory.shape[memory.order[-1]] != self.samples for memory in of_samples):
                return False  # a part of something longer
            if lanes is None or lanes.size != self.samples:
                read = (leaf for root in nest.roots for leaf in leaves(root.value) if leaf.op != "local")
                if any((leaf.args[1] if leaf.op == "kept" else leaf).args[0] in of_samples for leaf in read):
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
        return self.cycles_of(self.nests)

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
        seen: set[Expr] = set()
        stack = [root.value for root in nest.roots]
        while stack:
            expr = stack.pop()
            if expr not in seen and expr.op not in ("number", "local", "kept"):
                seen.add(expr)
                stack.extend(expr.operands)
        operations = sum(1 if e.op in CHEAP else 25 for e in seen) + len(nest.roots)
        turns = math.prod(axis.size for axis in nest.loops.order if axis is not lanes)
        return turns, lanes.size if lanes else 1, operations

    @property
    def waits_for_loads(self) -> bool:
        """Is there so little to do with what is read that reading it counts? Sums that share loads are left out."""
        long = (nest for nest in self.nests if not nest.is_jammed)
        return self.cycles_of(long) < LONG_TURN * -(-self.samples // self.lanes)

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
        return value.as_bool() if node.dtype == torch.bool else value  # true and true are 1, not 2

    def _computed(self, node: Node, places: Places) -> Expr:
        if node.op in pointwise.TABLE:
            return pointwise.TABLE[node.op](
                # a list: to run a generator takes a frame on the stack, of which there is less than on the heap
                *[broadcast(self, a, places) if isinstance(a, Node) else a for a in node.args]
            )
        return rules.TABLE[node.op](self, node, places)

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
        memory = self._memory_of(node, _lanes_dimension(places), "data")
        load = Expr("load", memory, memory.offset(places))
        return load.as_bool() if node.dtype == torch.bool else load

    def _input(self, node: Node, places: Places) -> Expr:
        if node in self.kept:
            memory = self._memory_of(node, None, "carry")
            return Expr("load", memory, memory.offset(places))
        if any(place.number is None for place in places):
            raise NeedsMemory(node)
        return Expr("local", self.variables[node][tuple(place.constant for place in places)])

    def _kept(self, node: Node, places: Places) -> Expr:
        if node not in self._stored:
            self._stored[node] = memory = self._memory_of(node, None, "scratch")
            for shape, element_at in self._parts(node):
                self._store(memory, shape, element_at, node)
        memory = self._stored[node]
        load = Expr("load", memory, memory.offset(places))
        value = self._values.get((node, places))
        # what is the same in all lanes is no register, as which everything made of the load is written
        if value is None or any(axis.name == "i" for axis in load.axes - value.axes):
            return load
        return Expr("kept", value, load)

    def _parts(self, node: Node) -> Iterator[tuple[tuple[int, ...], Callable[[Places], tuple[Places, Expr]]]]:
        """The shapes that `node` consists of; for each, from a place in it to the place in `node` and the element."""
        if node.op not in ("cat", "stack"):
            yield node.shape, lambda at: (at, self._computed(node, at))
            return
        dim = (node.args[1] or 0) % len(node.shape)
        for part, start in rules.parts_of(node):
            within = self._within_cat if node.op == "cat" else self._within_stack
            yield part.shape, partial(within, dim, part, start)

    def _within_cat(self, dim: int, part: Node, start: int, at: Places) -> tuple[Places, Expr]:
        return (*at[:dim], at[dim] + start, *at[dim + 1 :]), self.element(part, at)

    def _within_stack(self, dim: int, part: Node, start: int, at: Places) -> tuple[Places, Expr]:
        return (*at[:dim], Index((), start), *at[dim:]), self.element(part, at)

    # -- roots

    def _axes(self, kept: Sequence[int], reduced: Sequence[int]) -> tuple[Places, Places, Loops]:
        """Loop variables for the long dimensions among `kept` and `reduced`; the short ones get the place -1."""
        sizes = [*kept, *reduced]
        long = [d for d, size in enumerate(sizes) if size > self.unrolled]
        is_kept = [d for d in long if d < len(kept)]
        is_reduced = [d for d in long if d >= len(kept)]
        first = next((d for d in long if sizes[d] == self.samples), None)
        along = first if first is not None else next(iter((is_kept or is_reduced)[::-1]), None)
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
        for at in _filled(template, shape):
            places, value = element_at(at)
            value = value.as_float()
            if value.cost and node in self._stored:
                self._values[node, places] = value
            self._place(Store(memory, memory.offset(places), value, node), loops)

    def reduce(self, node: Node, sum_of: Sum, places: Places) -> Expr:
        """The element at `places` of a reduction."""
        if not any(size > self.unrolled for size in sum_of.reduced):
            over = itertools.product(*(range(size) for size in sum_of.reduced))
            terms = [sum_of.body(places, tuple(Index((), o) for o in at)).as_float() for at in over]
            if not terms:
                return Expr.of({"add": 0.0, "mul": 1.0}[sum_of.kind])
            return _combined(sum_of.kind, terms)
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
            memory = self._memory_of(node, None, "data")
        else:
            if node.op == "input" and node not in self.kept:
                raise NeedsMemory(node)
            self.kept[node] = None
            element = self._input(node, places) if node.op == "input" else self._kept(node, places)
            memory = (element.args[1] if element.op == "kept" else element).args[0]
        unit = tuple(Index((), int(d == dim)) for d in range(len(places)))
        return Expr("lookup", memory, memory.offset(places), memory.offset(unit).constant, which)

    def _accumulate(self, node: Node, sum_of: Sum) -> _Reduced:
        kept, reduced, loops = self._axes(sum_of.kept, sum_of.reduced)
        memory = None
        if any(size > self.unrolled for size in sum_of.kept):
            memory = self._new_memory("scratch", node, node.op, sum_of.kept)
        known: dict[Places, Expr] = {}
        axes = frozenset(axis for place in reduced for axis in place.axes)
        for at in _filled(kept, sum_of.kept):
            terms = [sum_of.body(at, over).as_float() for over in _filled(reduced, sum_of.reduced)]
            value = _combined(sum_of.kind, terms)
            factor, divisor = 1.0, Expr.of(1.0)
            if sum_of.kind == "add":
                value, divisor = _divided(value)  # one division instead of one for every sample
                factor, value = value.scaled
            short = tuple(Index() if place.axes else place for place in at)
            if memory is None and not value.axes and sum_of.kind != "mul":  # the same number, over and over
                count = math.prod(axis.size for axis in axes) if sum_of.kind == "add" else 1
                known[short] = factor * count * value / divisor
                continue
            name = self.new_name(node.op)
            self._place(
                Accumulate(sum_of.kind, name, value, axes, node, memory, memory.offset(at) if memory else None), loops
            )
            known[short] = (Expr.of(1.0) if memory is not None else Expr("local", name)) * factor / divisor
        return _Reduced(known, memory)

    def _place(self, root: Root, loops: Loops) -> None:
        """Put a root into the first nest with its loops that runs after everything it needs."""
        level = 0
        for leaf in leaves(root.value):
            maker = self._maker.get(leaf.args[1].args[0] if leaf.op == "kept" else leaf.args[0])
            if maker is not None:
                level = max(level, maker.level + (not self._is_at_hand(leaf, maker, loops)))
        nest = self._nests.setdefault((level, loops), Nest(level, loops))
        nest.roots.append(root)
        made = root.memory or root.name if isinstance(root, Accumulate) else root.memory
        before = self._maker.get(made)
        if before is None or before.level < level:
            self._maker[made] = nest

    @staticmethod
    def _is_at_hand(leaf: Expr, maker: Nest, loops: Loops) -> bool:
        """Is it a value that `maker`, the last nest that stores to its memory, has in a register in these loops?"""
        return (
            leaf.op == "kept"
            and maker.loops == loops
            and any(isinstance(root, Store) and root.value is leaf.args[0] for root in maker.roots)
        )

    # -- memory

    def _long(self, shape: Sequence[int]) -> bool:
        return any(size > self.unrolled for size in shape)

    def _memory_of(self, node: Node, along: int | None, region: str) -> Memory:
        if along is None:
            known = next((memory for (other, _), memory in self._memory.items() if other is node), None)
            if known is not None:
                return known
        if (node, along) not in self._memory:
            name = node.label or node.op
            self._memory[node, along] = self._new_memory(region, node, name, along=along)
        return self._memory[node, along]

    def _new_memory(
        self, region: str, node: Node, name: str, shape: tuple[int, ...] | None = None, along: int | None = None
    ) -> Memory:
        """Memory with the dimension that registers run along last: `along`, or the samples, or the last long one."""
        shape = node.shape if shape is None else shape
        used = [d for d in range(len(shape)) if shape[d] != 1]
        if node.tensor is not None:
            used = [d for d in used if node.tensor.stride(d) != 0]
        long = [d for d in used if shape[d] > self.unrolled]
        if along is None and long:
            along = next((d for d in long if shape[d] == self.samples), long[-1])
        if along is None and used:
            along = used[-1]
        order = [d for d in used if d != along]
        order.sort(key=lambda d: d in long)  # short dimensions outermost, otherwise as they are
        padded = 1
        if along is not None:
            order.append(along)
            padded = -(-shape[along] // self.lanes) * self.lanes if shape[along] > self.unrolled else shape[along]
            if self.lanes > 1 and len(order) > 1 and padded % (ALIASED * self.lanes) == 0:
                padded += 2 * self.lanes
        return Memory(region, name, tuple(shape), tuple(order), padded)

    def _new_names(self, stem: str, shape: tuple[int, ...]) -> dict[tuple[int, ...], str]:
        """A name for each element of a tensor: that of the tensor, and the element's place."""
        while True:
            own = self.new_name(stem)
            names = {at: "_".join([own, *map(str, at)]) for at in np.ndindex(*shape)}
            if not shape or not any(name in self._taken or _is_reserved(name) for name in names.values()):
                self._taken.update(names.values())
                return names

    def new_name(self, stem: str) -> str:
        """A name that nothing else has: the stem, or the stem with a number."""
        stem = unicodedata.normalize("NFKC", stem)  # as Python reads it
        if stem.isidentifier() and not _is_reserved(stem) and stem not in self._taken:
            self._taken.add(stem)
            return stem
        stem = stem if stem.isidentifier() else "value"
        while True:
            self._names[stem] = self._names.get(stem, 0) + 1
            name = f"{stem}_{self._names[stem]}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    # -- what to keep in memory

    def _worth_keeping(self) -> list[Node]:
        """Nodes that one nest computes many times over, or several nests compute anew at a price."""
        makers: dict[Node, set[Nest]] = {}  # of what takes many operations: where it is computed
        wanted: dict[Node, None] = {}
        for nest in self._nests.values():
            seen: set[Expr] = set()
            stack = [root.value for root in nest.roots]
            while stack:
                expr = stack.pop()
                if expr in seen or expr.cost == 0 or not expr.axes:
                    continue
                seen.add(expr)
                if expr.cost > MANY_OPERATIONS and self._can_keep(expr):
                    makers.setdefault(self.origin[expr][0], set()).add(nest)
                if _repeated(expr, nest.loops) and self._can_keep(expr):
                    wanted[self.origin[expr][0]] = None
                    continue
                stack.extend(expr.operands)
        shared = [node for node, nests in makers.items() if len(nests) > 1]
        inside = {argument for node in shared for argument in flattened(*node.args)}
        wanted.update(dict.fromkeys(node for node in shared if node not in inside))
        return list(wanted)

    def _can_keep(self, expr: Expr) -> bool:
        return expr in self.origin and self.origin[expr][0].op != "input"


def _combined(kind: str, terms: list[Expr]) -> Expr:
    """The sum of the terms in two chains, which wait for each other only at the end."""
    if not terms:
        return Expr.of({"add": 0.0, "mul": 1.0, "maximum": -math.inf, "minimum": math.inf}[kind])
    if len(terms) >= 4:
        half = (len(terms) + 1) // 2
        return COMBINE[kind](_chain(kind, terms[:half]), _chain(kind, terms[half:]))
    return _chain(kind, terms)


def _chain(kind: str, terms: list[Expr]) -> Expr:
    result = terms[0]
    for term in terms[1:]:
        result = COMBINE[kind](result, term)
    return result


def _divided(expr: Expr) -> tuple[Expr, Expr]:
    """(dividend, divisor) whose quotient it is; the divisor is the same in every turn of every loop."""
    if expr.op == "div" and not expr.args[1].axes:
        return expr.args
    if expr.op == "mul":
        # a quotient that is a factor itself is in nobody else's way; one deeper down may be needed anyway
        for one, other in sorted((expr.args, expr.args[::-1]), key=lambda sides: sides[0].op != "div"):
            dividend, divisor = _divided(one)
            if divisor.number != 1:
                return dividend * other, divisor
    return expr, Expr.of(1.0)


def _repeated(expr: Expr, loops: Loops) -> bool:
    """Would the nest compute it again, in whole registers, in many turns of a loop that it does not depend on?"""
    order = loops.order
    innermost = max(order.index(axis) for axis in expr.axes if axis in order)
    again = math.prod(axis.size for axis in order[:innermost] if axis not in expr.axes)
    return again >= MANY_TIMES and loops.lanes in expr.axes


def leaves(expr: Expr) -> list[Expr]:
    """What an expression is made of: every load, variable and kept value in it."""
    found: dict[Expr, None] = {}
    seen: set[Expr] = set()
    stack = [expr]
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        if at.op in ("load", "local", "kept", "lookup"):
            found[at] = None
        stack.extend(at.operands)
    return list(found)


def _filled(template: Places, shape: Sequence[int]) -> Iterator[Places]:
    """All places, with the template's loop variables where it has them and every number elsewhere."""
    choices = [
        [place] if place.axes else [Index((), n) for n in range(size)]
        for place, size in zip(template, shape, strict=True)
    ]
    yield from itertools.product(*choices)


def _all(node: Node) -> Iterator[Places]:
    yield from (tuple(Index((), i) for i in at) for at in np.ndindex(*node.shape))


def _lanes_dimension(places: Places) -> int | None:
    """The dimension that the axis of the registers runs along by itself."""
    for d, place in enumerate(places):
        if any(axis.name == "i" for axis in place.axes):
            return d
    return None
