"""A loop nest for a GPU.

An axis that fits into one block has no loop at all; a longer one is taken block by block. Sums that end at the same
place go through the tree of threads together: its latency is what a step waits for, and it is the same for one sum and
for many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from . import ir
from .builder import number
from .expressions import CHEAP, Axis, Expr
from .gpu_builder import TOGETHER, GpuBuilder, block_of
from .ir import FLOAT, Op, Var
from .nests import NEUTRAL, Body, kept_in
from .plan import Accumulate, Loops, Nest, Store
from .turns import Turn, jammed

HELD = 96
"""Registers of a thread that hold data through all steps, of 255; more is read in every step, from the cache."""

FINITE = frozenset({"add", "sub", "mul", "where", "maximum", "minimum", "absolute", "kept"})
"""Operations that make finite numbers of finite ones."""


def write_nest(builder: GpuBuilder, nest: Nest) -> bool:
    """Write a nest. Does it write to memory, so that others must wait for it?"""
    roots, axis = jammed(builder.schedule, nest, TOGETHER)
    lanes = nest.loops.lanes
    if lanes is not None and lanes.size <= block_of(lanes.size) and lanes not in builder.blocks:
        step, builder.body = builder.body, builder.before
        builder.block(lanes)
        builder.body = step
    builder.lanes = block_of(lanes.size) if lanes else 0
    # first of all: what is named from here on may not load what this nest has yet to store
    builder.kept_here = kept_in(nest)
    values = [root.value for root in roots]
    builder.hoist(values)
    _hold(builder, values)
    body = _Body(builder, nest.loops, Turn(roots, {axis: len(roots) // len(nest.roots)} if axis else {}))
    body.level(0)
    for expr in body.exprs:  # names given inside of loops mean nothing outside of them
        if body.depth[expr]:
            builder.names.pop(expr, None)
    builder.kept_here, builder.lanes = frozenset(), 0
    return any(root.memory is not None for root in roots)


def _hold(builder: GpuBuilder, values: list[Expr]) -> None:
    """Read data that are a block once, before all steps, as long as there are registers for them."""
    for expr in builder.unnamed(values):
        is_data = expr.op == "load" and expr.args[0].region == "data" and not expr.times
        if is_data and expr.axes and expr.axes <= set(builder.blocks):
            words = 2 if builder.dtype == "float64" else 1
            registers = max(-(-block_of(axis.size) // (32 * builder.warps)) * words for axis in expr.axes)
            if builder.held + registers <= HELD:
                builder.held += registers
                builder.name(expr, before=True)


class _Body(Body):
    """See `Body`. An axis that is one block has no loop."""

    builder: GpuBuilder

    def __init__(self, builder: GpuBuilder, loops: Loops, turn: Turn) -> None:
        super().__init__(builder, loops, turn, None)
        self.vanishes = vanishing(loops.lanes)

    def _order(self, loops: Loops) -> tuple[Axis, ...]:
        return tuple(axis for axis in loops.order if axis not in self.builder.blocks)

    def _slots(self) -> dict[Accumulate, ir.Expr]:
        return {}

    def _named(self) -> set[Expr]:
        """What gets a name: what `worth_a_name` says, and what is stored, which others then have from a register."""
        stored = {self.builder.resolved(root.value) for root in self.roots if isinstance(root, Store)}
        worth = self.builder.worth_a_name(self.exprs, self.depth, self.roots, len(self.order))
        return worth | {value for value in stored if value in self.depth}

    def _along_lanes(self, depth: int) -> None:
        """The lanes axis block by block."""
        builder, axis = self.builder, self.order[depth]
        bounds = builder.span if axis.size == builder.samples else (number(0), number(axis.size))
        with builder.loop("block", *bounds, builder.lanes) as first:
            builder.block(axis, first)
            self._statements(depth + 1)
            self.level(depth + 1)
            del builder.blocks[axis]

    def _update(self, mask: ir.Expr | None) -> None:
        """The innermost statements: write what is stored, add to what is summed, sum what has no loop."""
        super()._update(mask)
        values = {root: self.builder.value(root.value) for root in self.sums if self._scope(root) == len(self.order)}
        self._reduce({root: self._there(root, value) for root, value in values.items()})

    def _with(self, root: Accumulate, value: Expr, mask: ir.Expr | None) -> ir.Expr:
        """See `Body._with`. The mask of one block is for all turns, and comes at the end."""
        if self.lanes not in self.order or self._mask_of(root) is None:
            return super()._with(root, value, mask)
        return self.builder.operation(root.kind, self.running[root], self._there(root, self.builder.value(value)))

    def _mask_of(self, root: Accumulate) -> Var | None:
        """The mask of what a sum over the lanes runs over; None where it needs none."""
        vanishes = root.kind == "add" and self.vanishes(self.builder.resolved(root.value))
        return None if vanishes else self.builder.mask(root.reduced)

    def _there(self, root: Accumulate, value: ir.Expr) -> ir.Expr:
        """What the elements add to a sum over the lanes: nothing where there is none."""
        mask = self._mask_of(root)
        if mask is None:
            return value if value.kind.lanes else self.builder.splat(value)
        if root.kind == "add":
            return Op("masked", (mask, value), FLOAT.of(mask.kind.lanes))
        return self.builder.operation("where", mask, value, NEUTRAL[root.kind])

    def _start(self, roots: list[Accumulate]) -> None:
        for root in roots:
            if self.lanes in root.reduced:
                self.running[root] = Var(f"{root.var.name}_parts", FLOAT.of(self.builder.lanes))
        super()._start(roots)

    def _is_inside(self, root: Accumulate) -> bool:
        """Is it a sum for each element of a block?"""
        return self.lanes in root.value.axes or (root.offset is not None and self.lanes in root.offset.axes)

    def _finish(self, roots: list[Accumulate]) -> None:
        sums = {root: self.running[root] for root in self._add_parts(roots)}
        over_lanes = {root: value for root, value in sums.items() if self.lanes in root.reduced}
        in_blocks = self.lanes in self.order
        self._reduce({root: value if in_blocks else self._there(root, value) for root, value in over_lanes.items()})
        for root, value in sums.items():
            if root not in over_lanes:
                self._store(root, value)

    def _reduce(self, sums: dict[Accumulate, ir.Expr]) -> None:
        """Add up over the lanes, several sums at a time."""
        roots = _by_functions(self.builder, sums)
        together = -(-len(roots) // -(-len(roots) // TOGETHER)) if roots else 1  # as many each time
        for first in range(0, len(roots), together):
            some = roots[first : first + together]
            self.builder.reduce({root: sums[root] for root in some})
            for root in some:
                self._store(root, root.var)
            self.builder.summed(root.var for root in some)

    def _store(self, root: Accumulate, value: ir.Expr) -> None:
        """Write a sum to memory, if it is not one in a variable."""
        if root.memory is not None and root.offset is not None:
            self._write(root.memory, root.offset, value, root.node)


def _by_functions(builder: GpuBuilder, roots: Iterable[Accumulate]) -> list[Accumulate]:
    """Sums in an order in which those are neighbours whose nearest elementary function is the same.

    Its values, one for each of a thread's elements, have their registers until the last of them is taken.
    """
    found: dict[Expr | None, list[Accumulate]] = {}
    for root in roots:
        level, nearest = [root.value], None
        while level and nearest is None:
            level = [builder.resolved(expr) for expr in level]
            nearest = next((expr for expr in level if expr.op not in CHEAP and expr.axes), None)
            level = list(dict.fromkeys(operand for expr in level for operand in expr.operands))
        found.setdefault(nearest, []).append(root)
    return [root for group in found.values() for root in group]


def vanishing(lanes: Axis | None) -> Callable[[Expr], bool]:
    """Is an expression 0 where the data are 0, as they are where a block has no elements? It needs no mask there."""

    @cache
    def vanishes(expr: Expr) -> bool:
        match expr.op:
            case "load":
                return lanes in expr.axes
            case "kept":
                return vanishes(expr.args[0])
            case "add" | "sub":
                return vanishes(expr.args[0]) and vanishes(expr.args[1])
            case "mul":
                one, other = expr.args
                return (vanishes(one) and is_finite(other)) or (vanishes(other) and is_finite(one))
        return False

    @cache
    def is_finite(expr: Expr) -> bool:
        """Is it finite wherever what it is made of is? 0 times infinity is not 0."""
        operands = (operand for operand in expr.args if isinstance(operand, Expr) and not operand.is_bool)
        return expr.op in ("number", "local", "load") or (expr.op in FINITE and all(map(is_finite, operands)))

    return vanishes
