"""The statements of a loop nest.

Along the lanes axis `i` whole registers are read; the samples that do not fill one come with a mask, before the loop or
after it, or all come with a mask if the body is long. Where they would be written over what comes next in memory, they
come one by one; and where an element does not lie next to its neighbour, the whole nest goes element by element. An
expression is computed in the outermost loop that it can be computed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from . import ir
from .builder import Builder, is_negative, least, number, shifted
from .expressions import Axis, Expr, Index, Memory
from .graph import Node
from .ir import BOOL, FLOAT, Const, If, Load, Op, Var
from .plan import Accumulate, Loops, Nest, Root, Store, is_written_whole
from .products import Product, products
from .tiles import write_product
from .turns import Part, Turn, turns

PEELED = 150
"""A loop body of at most so many operations is written twice, for whole registers and for the samples that are left."""

MOST_VARIABLES = 64
"""Sums of one nest, or numbers carried from step to step, beyond which they live in memory: registers have spilled long
before."""

BLOCK = 16_384
"""Samples summed in one variable: beyond, a running sum in float32 loses digits (see fastpoly_kernels.descent)."""

NEUTRAL = {
    kind: Const(value, FLOAT)
    for kind, value in {"add": 0.0, "mul": 1.0, "maximum": -math.inf, "minimum": math.inf}.items()
}
LANES = {"add": "total", "mul": "product", "maximum": "largest", "minimum": "smallest"}


def write_nest(builder: Builder, nest: Nest, part: Part | None, begun: bool = False) -> None:
    """Write a nest that takes a part of the samples, or all."""
    lanes = nest.loops.lanes
    if lanes is None or lanes.size != builder.schedule.samples:
        part = None
    matrices = tiled(builder, nest)
    for product in matrices:
        write_product(builder, product, part, begun)
    taken = {root for product in matrices for root in product.roots}
    nest = replace(nest, roots=[root for root in nest.roots if root not in taken])
    with beginning(builder, nest):
        for turn in turns(builder, nest, part) if nest.roots else []:
            body = Body(builder, nest.loops, turn, part)
            body.level(0)
            for expr in body.exprs:  # names given inside of the loops mean nothing outside of them
                builder.names.pop(expr, None)


def tiled(builder: Builder, nest: Nest) -> list[Product]:
    """The products of matrices among what a nest computes, which are written in tiles."""
    found = products(nest)
    return found if found and is_whole(builder, nest) else []


@contextmanager
def beginning(builder: Builder, nest: Nest) -> Iterator[None]:
    """Write what belongs before a nest's loops; within, the builder is that nest's."""
    builder.kept_here = kept_in(nest)
    builder.lanes = builder.schedule.lanes if is_whole(builder, nest) else 0
    builder.hoist(root.value for root in nest.roots)
    yield
    builder.kept_here, builder.lanes = frozenset(), 0


def kept_in(nest: Nest) -> frozenset[Expr]:
    """The values that a nest stores; they are at hand in it."""
    return frozenset(root.value for root in nest.roots if isinstance(root, Store))


def is_whole(builder: Builder, nest: Nest) -> bool:
    """Does a nest take whole registers along the lanes axis?"""
    lanes = nest.loops.lanes
    before, builder.kept_here = builder.kept_here, kept_in(nest)
    whole = lanes is not None and _is_read_whole(builder, nest.roots, lanes)
    builder.kept_here = before
    if not whole or lanes is None or not all(is_written_whole(root, lanes) for root in nest.roots):
        return False
    return not _ends_one_by_one(builder, nest.roots, lanes) or _can_end_one_by_one(builder, nest.roots, lanes)


def _is_read_whole(builder: Builder, roots: list[Root], lanes: Axis) -> bool:
    """Can whole registers be read along the lanes axis?"""
    for expr in builder.unnamed(root.value for root in roots):
        if expr.op == "position" and expr.args[0].factor(lanes) is None:
            return False
        if expr.op == "lookup" and not _is_looked_up_whole(builder, expr, lanes):
            return False
        if expr.op == "load" and expr.args[1].factor(lanes) not in (0, 1):
            return False
    return True


def _is_looked_up_whole(builder: Builder, lookup: Expr, lanes: Axis) -> bool:
    """The same of what is looked up: in each lane somewhere else, where the places are data, 0 in lanes beyond."""
    _, rest, _, which = lookup.args
    if lanes not in which.axes:
        return rest.factor(lanes) in (0, 1)
    place = _place_in_data(builder, which)
    if place is None or rest.factor(lanes) != 0:
        return False
    memory, index = place.args
    if not memory.order or memory.shape[memory.order[-1]] != lanes.size or index.factor(lanes) != 1:
        return False
    width = builder.schedule.lanes
    return bool(memory.padded >= -(-lanes.size // width) * width)


def _place_in_data(builder: Builder, which: Expr) -> Expr | None:
    """What is loaded from the data, of such a number or of one that counts from the end where it is negative."""
    which = builder.resolved(which)
    if which.op == "where":
        test, from_end, plain = map(builder.resolved, which.args)
        counted = map(builder.resolved, (*test.args, *from_end.args))
        if (test.op, from_end.op) != ("lt", "add") or any(e is not plain and e.op != "number" for e in counted):
            return None
        which = plain
    return which if which.op == "load" and which.args[0].region == "data" else None


def _ends_one_by_one(builder: Builder, roots: list[Root], lanes: Axis) -> bool:
    """Would the last register be written over what comes next, as where a part of a tensor ends before its row?"""
    if lanes.size % builder.schedule.lanes == 0:
        return False
    memories = [root.memory for root in roots if isinstance(root, Store)]
    return any(memory.shape[memory.order[-1]] != lanes.size for memory in memories)


def _can_end_one_by_one(builder: Builder, roots: list[Root], lanes: Axis) -> bool:
    """Is nothing summed, and does anything fill a register?"""
    return lanes.size >= builder.schedule.lanes and all(isinstance(root, Store) for root in roots)


class Body:
    """One nest while it is written."""

    def __init__(self, builder: Builder, loops: Loops, turn: Turn, part: Part | None) -> None:
        self.builder = builder
        self.lanes = loops.lanes
        self.order = self._order(loops)
        self.roots = roots = turn.roots
        self.sums = [root for root in roots if isinstance(root, Accumulate)]
        self.steps = turn.steps
        self.span = turn.span
        self.backwards = turn.backwards
        self.part = part
        self.slots = self._slots()
        self.running: dict[Accumulate, Var] = {}  # the sums so far, each in a variable of its own
        self.beginning: list[Accumulate] = []  # the sums that the statements at hand begin
        self.exprs = [expr for expr in builder.unnamed(root.value for root in roots) if expr.axes]
        self.depth = {expr: self._depth(expr) for expr in self.exprs}
        self.named = self._named()

    def _order(self, loops: Loops) -> tuple[Axis, ...]:
        """The axes that have a loop."""
        return loops.order

    def _depth(self, expr: Expr) -> int:
        """Inside of how many loops it is computed."""
        return max((self.order.index(axis) + 1 for axis in expr.axes if axis in self.order), default=0)

    def _slots(self) -> dict[Accumulate, ir.Expr]:
        """Where in memory sums are taken, register by register, if there are too many for variables."""
        sums = [root for root in self.sums if self.lanes in root.reduced] if self.builder.lanes else []
        in_blocks = self.lanes is not None and self.lanes.size > BLOCK
        if len(sums) <= MOST_VARIABLES or in_blocks or self.steps:
            return {}
        return {root: number(self.builder.spare(self.builder.schedule.lanes)) for root in sums}

    def _named(self) -> set[Expr]:
        """What gets a name: what `worth_a_name` says, and data for the name that they have."""
        data = {expr for expr in self.exprs if expr.op == "load" and expr.args[0].region == "data"}
        return data | self.builder.worth_a_name(self.exprs, self.depth, self.roots, len(self.order))

    # -- loops

    def level(self, depth: int) -> None:
        """Everything inside of the first `depth` loops."""
        starting = self._starting(depth)
        if not self._begins_with_rest(depth):
            self._start(starting)
        if depth == 0:
            self._statements(0)
        if depth == len(self.order):
            self._update(None)
        elif self.order[depth] is self.lanes and self.builder.lanes:
            self._along_lanes(depth)
        else:
            with self._one_by_one(depth):
                self._statements(depth + 1)
                self.level(depth + 1)
        self._finish(starting)

    @contextmanager
    def _one_by_one(self, depth: int) -> Iterator[None]:
        """A loop over an axis that is not taken by registers."""
        axis = self.order[depth]
        step = self.steps.get(axis, 1)
        first: ir.Expr = number(0)
        end: ir.Expr = number(axis.size)
        if axis is self.lanes and self.part:
            first, end = self.part[0], least(self.part[1], end)
        if self.backwards and depth == 0:
            first, end, step = number(axis.size - step), number(-step), -step
        with self.builder.loop(axis.name, first, end, step):
            yield

    def _starting(self, depth: int) -> list[Accumulate]:
        """The sums that begin and end inside of so many loops."""
        return [root for root in self.sums if self._scope(root) == depth < len(self.order)]

    def _scope(self, root: Accumulate) -> int:
        """Inside of how many loops a sum begins and ends: of those around the first that it runs over, if any does."""
        return next((depth for depth, axis in enumerate(self.order) if axis in root.reduced), len(self.order))

    def _along_lanes(self, depth: int) -> None:
        builder, axis, width = self.builder, self.order[depth], self.builder.schedule.lanes
        whole = axis.size - axis.size % width
        if _ends_one_by_one(builder, self.roots, axis):
            self._loop(depth, whole)
            self._one_by_one_from(depth, whole)
        elif whole == axis.size or not any(axis in root.reduced for root in self.sums):
            if self._ends_in_one_register(axis, whole):
                self._loop(depth, whole)
                with self._in_one_register(True):
                    self._at(depth, whole, None)
            else:
                self._loop(depth, -(-axis.size // width) * width)
        elif len(self.exprs) > PEELED and whole:
            with builder.loop("i", *(self.part or (number(0), number(axis.size))), width) as i:
                mask = self._mask(Op("sub", (number(axis.size), i), ir.INDEX))
                self._turn(depth, mask)
        elif self._begins_with_rest(depth):
            self.beginning = self._starting(depth)
            narrow = self._fit_in_one(axis.size - whole) and all(
                root.kind == "add" and root in self.beginning for root in self.sums
            )
            with self._in_one_register(narrow):
                self._rest(depth, whole, axis.size - whole)
            self.beginning = []
            self._loop(depth, whole)
        else:
            if whole:
                self._loop(depth, whole)
            if self.part:
                with builder.into(If(Op("gt", (self.part[1], number(whole)), BOOL))):
                    self._rest(depth, whole, axis.size - whole)
            else:
                self._rest(depth, whole, axis.size - whole)

    def _one_by_one_from(self, depth: int, start: int) -> None:
        """The samples from `start` on, as long as they fill one register of several and then without any."""
        builder, axis, schedule = self.builder, self.order[depth], self.builder.schedule
        width = schedule.lanes // schedule.registers
        filled = axis.size - axis.size % width
        with builder.into(If(Op("gt", (self.part[1], number(start)), BOOL))) if self.part else nullcontext():
            for first, end, lanes in ((start, filled, width), (filled, axis.size, 0)):
                if first < end:
                    builder.lanes = lanes
                    with builder.loop(axis.name, number(first), number(end), lanes or 1):
                        self._turn(depth, None)
            builder.lanes = schedule.lanes

    def _begins_with_rest(self, depth: int) -> bool:
        """Do the sums of this loop begin with the samples that do not fill a register?

        At its end a mask would keep the total waiting; and where sums have two registers, those samples need but one.
        """
        if depth + 1 != len(self.order) or self.order[depth] is not self.lanes or not self.builder.lanes:
            return False
        rest = self.lanes.size % self.builder.schedule.lanes
        is_plain = not (self.part or self.slots) and len(self.exprs) <= PEELED
        return is_plain and 0 < rest < self.lanes.size and bool(self._starting(depth))

    def _ends_in_one_register(self, axis: Axis, whole: int) -> bool:
        """Do the samples after the last turn of several registers fit into one, at little text for it?"""
        return self._fit_in_one(axis.size - whole) and not (self.part or self.span) and len(self.exprs) <= PEELED

    def _fit_in_one(self, samples: int) -> bool:
        """Do they fill no more than one of several registers?"""
        schedule = self.builder.schedule
        return 0 < samples <= schedule.lanes // schedule.registers < schedule.lanes

    @contextmanager
    def _in_one_register(self, narrow: bool) -> Iterator[None]:
        """Where `narrow`, take one register of samples, if the schedule has several at a time."""
        schedule = self.builder.schedule
        if narrow:
            self.builder.lanes = schedule.lanes // schedule.registers
        yield
        self.builder.lanes = schedule.lanes

    def _at(self, depth: int, start: int, mask: ir.Expr | None) -> None:
        """The samples from `start` on, without a loop."""
        self.builder.assign(self.builder.new("i"), number(start))
        self._turn(depth, mask)

    def _rest(self, depth: int, start: int, count: int) -> None:
        """The samples that do not fill a register."""
        self._at(depth, start, self._mask(number(count), "the samples that do not fill a register"))

    def _mask(self, count: ir.Expr, about: str = "") -> Var:
        """The first so many lanes."""
        kind = BOOL.of(self.builder.lanes)
        return self.builder.assign(self.builder.new("there", kind), Op("first_lanes", (count,), kind), about)

    def _loop(self, depth: int, end: int) -> None:
        """The samples up to `end` in whole registers."""
        builder, width = self.builder, self.builder.schedule.lanes
        first: ir.Expr
        last: ir.Expr
        if self.span:
            first, last = self.span
        elif self.part:
            first, last = self.part[0], least(self.part[1], number(end))
        else:
            first, last = number(0), number(end)
        width = self.steps.get(self.order[depth], width)
        blocked = [
            r for r in self.sums if r.kind == "add" and self.lanes in r.reduced and end > BLOCK and r.slot is None
        ]
        if not blocked:
            with builder.loop("i", first, last, width):
                self._turn(depth, None)
            return
        wholes = {root: Var(f"{root.var.name}_blocks", self.running[root].kind) for root in blocked}
        for root, whole in wholes.items():
            builder.assign(whole, self.running[root])
        with builder.loop("block", first, last, BLOCK) as block:
            self._start(blocked)
            with builder.loop("i", block, least(shifted(block, BLOCK), last), width):
                self._turn(depth, None)
            for root, whole in wholes.items():
                builder.assign(whole, builder.operation("add", whole, self.running[root]))
        for root, whole in wholes.items():
            builder.assign(self.running[root], whole)

    def _turn(self, depth: int, mask: ir.Expr | None) -> None:
        """One turn of the lanes loop; of a register that is not full, the lanes in `mask` count."""
        self._statements(depth + 1)
        if depth + 1 < len(self.order):
            self.level(depth + 1)
        else:
            self._update(mask)
        for expr in self.exprs:  # the next turn is written anew
            if self.depth[expr] > depth:
                self.builder.names.pop(expr, None)

    # -- statements

    def _statements(self, depth: int) -> None:
        """Everything that has a name and belongs just inside of `depth` loops."""
        for expr in self.exprs:
            if expr in self.named and self.depth[expr] == depth:
                self.builder.name(expr)

    def _update(self, mask: ir.Expr | None) -> None:
        """The innermost statements: write what is stored, add to what is summed."""
        for root in self.roots:
            value = self.builder.resolved(root.value)
            if isinstance(root, Store):
                self._write(root.memory, root.offset, self.builder.value(value), root.node)
                continue
            if root in self.beginning:
                self._set_sum(root, self._begun(root, mask, value), root.node)
                continue
            if self._scope(root) < len(self.order):
                self._set_sum(root, self._with(root, value, mask), root.node)

    def _with(self, root: Accumulate, value: Expr, mask: ir.Expr | None) -> ir.Expr:
        """A sum with one value more, or with those in the lanes of a mask."""
        before = self._sum(root)
        new = self._added(root.kind, before, value)
        if mask is None or self.lanes not in root.reduced:
            return new
        return self.builder.operation("where", mask, new, before)

    def _begun(self, root: Accumulate, mask: ir.Expr | None, expr: Expr) -> ir.Expr:
        """What a sum begins with: the value in the lanes of a mask."""
        builder, value = self.builder, self.builder.value(expr)
        assert mask is not None
        if not value.kind.lanes:
            value = builder.splat(value)
        if root.kind != "add":
            return builder.operation("where", mask, value, builder.splat(NEUTRAL[root.kind]))
        value = Op("masked", (mask, value), value.kind)
        whole = builder.schedule.lanes
        return value if builder.lanes == whole else Op("widened", (value,), FLOAT.of(whole))

    def _sum(self, root: Accumulate) -> ir.Expr:
        """A sum as it stands."""
        slot = self.slots.get(root)
        return self.running[root] if slot is None else Load("scratch", slot, FLOAT.of(self.builder.lanes))

    def _set_sum(self, root: Accumulate, value: ir.Expr, about: Node | None = None) -> None:
        slot = self.slots.get(root)
        if slot is not None:
            self.builder.store("scratch", slot, value, about)
            return
        var = self.running.get(root)
        if var is None or var.kind != value.kind:
            var = root.var if value.kind == root.var.kind else Var(root.var.name, value.kind, root.var)
            self.running[root] = var
        self.builder.assign(var, value, about)

    def _added(self, kind: str, before: ir.Expr, expr: Expr) -> ir.Expr:
        builder = self.builder
        if kind == "add" and is_negative(expr) and expr not in builder.names:
            return builder.operation("sub", before, builder.value(expr.args[1]))
        return (
            builder.joined(kind, before, expr)
            if kind == "mul"
            else builder.operation(kind, before, builder.value(expr))
        )

    def _write(self, memory: Memory, offset: Index, value: ir.Expr, node: Node) -> None:
        """Write to memory, in every lane if it depends on the axis of the lanes."""
        if self.builder.lanes and self.lanes in offset.axes and not value.kind.lanes:
            value = self.builder.splat(value)
        builder = self.builder
        builder.store(memory.region, builder.place(memory, offset), value, node, builder.mask(offset.axes))

    def _start(self, roots: list[Accumulate]) -> None:
        for root in roots:
            neutral = NEUTRAL[root.kind]
            in_lanes = self.builder.lanes and (self.lanes in root.reduced or self._is_inside(root))
            self._set_sum(root, self.builder.splat(neutral) if in_lanes else neutral)

    def _is_inside(self, root: Accumulate) -> bool:
        """Does a sum begin and end within one turn of the loop over the lanes, lane by lane?"""
        return self.lanes is not None and self._scope(root) > self.order.index(self.lanes)

    def _add_parts(self, roots: list[Accumulate]) -> list[Accumulate]:
        """Add the parts of sums to the first one of each; these are the wholes."""
        for part in roots:
            if part.part_of is not None:
                whole = self.running[part.part_of]
                self.builder.assign(whole, self.builder.operation(part.kind, whole, self.running[part]))
        return [root for root in roots if root.part_of is None]

    def _finish(self, roots: list[Accumulate]) -> None:
        builder = self.builder
        for root in self._add_parts(roots):
            value = self._sum(root)
            if root.slot is not None:
                slot = builder.index(root.slot)
                before = Load("scratch", slot, FLOAT.of(builder.lanes))
                builder.store("scratch", slot, builder.operation(root.kind, before, value))
                continue
            if builder.lanes and self.lanes in root.reduced:
                value = Op(LANES[root.kind], (value,), FLOAT)
            if root.memory is not None and root.offset is not None:
                self._write(root.memory, root.offset, value, root.node)
            elif value is not root.var:
                builder.assign(root.var, value)
