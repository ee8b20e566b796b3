"""The text of a loop nest for a GPU.

An axis that fits into one block has no loop at all; a longer one is taken block by block. Sums that end at the same
place go through the tree of threads together: its latency is what a step waits for, and it is the same for one sum and
for many.
"""

from __future__ import annotations

import math

from .expressions import CHEAP, Axis, Expr, Index, Memory
from .gpu_page import TOGETHER, GpuPage, block_of
from .graph import Node
from .plan import Accumulate, Loops, Nest, Root, Store
from .to_python import STRENGTH
from .turns import jammed

HELD = 96
"""Registers of a thread that hold data through all steps, of 255; more is read in every step, from the cache."""

NEUTRAL = {"add": 0.0, "mul": 1.0, "maximum": -math.inf, "minimum": math.inf}


def write_nest(page: GpuPage, nest: Nest) -> bool:
    """Write a nest. Does it write to memory, so that others must wait for it?"""
    roots, axis = jammed(page.schedule, nest, TOGETHER)
    steps = {axis: len(roots) // len(nest.roots)} if axis else {}
    lanes = nest.loops.lanes
    is_block = lanes is not None and lanes.size <= block_of(lanes.size)
    if lanes is not None and is_block:
        page.one_block(lanes)
    values = [root.value for root in roots]
    # first of all: what is named from here on may not load what this nest has yet to store
    page.kept_here = frozenset(root.value for root in roots if isinstance(root, Store))
    page.hoist(values)
    _hold(page, values)
    body = _Body(page, nest.loops, roots, steps, is_block)
    body.level(0)
    for expr in body.exprs:  # names given inside of loops mean nothing outside of them
        if body.depth[expr]:
            page.names.pop(expr, None)
    page.kept_here = frozenset()
    return any(root.memory is not None for root in roots)


def _hold(page: GpuPage, values: list[Expr]) -> None:
    """Read data that are a block once, before all steps, as long as there are registers for them."""
    for expr in page.unnamed(values):
        if expr.op == "load" and expr.args[0].region == "data" and expr.axes and expr.axes <= set(page.indices):
            registers = max(registers_of(axis.size, page.warps, page.dtype) for axis in expr.axes)
            if page.held + registers <= HELD:
                page.held += registers
                page.name(expr, before=True)


class _Body:
    """One nest while it is written."""

    def __init__(self, page: GpuPage, loops: Loops, roots: list[Root], steps: dict[Axis, int], is_block: bool) -> None:
        self.page = page
        self.lanes = loops.lanes
        self.order = tuple(axis for axis in loops.order if not (is_block and axis is loops.lanes))
        self.roots = roots
        self.sums = [root for root in roots if isinstance(root, Accumulate)]
        self.steps = steps  # by how much axes grow from turn to turn, if not by one
        self.exprs = [expr for expr in page.unnamed(root.value for root in roots) if expr.axes]
        self.depth = {expr: self._depth(expr) for expr in self.exprs}
        self.named = self._named()
        self.zeros = _Zeros(loops.lanes)
        self.parts = {
            root: page.called(root.var) for root in self.sums
        }  # what a sum is called while it is one for each element

    def _depth(self, expr: Expr) -> int:
        """Inside of how many loops it is computed."""
        return max((self.order.index(axis) + 1 for axis in expr.axes if axis in self.order), default=0)

    def _named(self) -> set[Expr]:
        """What gets a name: what `worth_a_name` says, and what is stored, which others then have from a register."""
        stored = {self.page.resolved(root.value) for root in self.roots if isinstance(root, Store)}
        worth = self.page.worth_a_name(self.exprs, self.depth, self.roots, len(self.order))
        return worth | {value for value in stored if value in self.depth}

    # -- loops

    def level(self, depth: int) -> None:
        """Everything inside of the first `depth` loops."""
        starting = [root for root in self.sums if self._scope(root) == depth < len(self.order)]
        self._start(starting)
        if depth == 0:
            self._statements(0)
        if depth == len(self.order):
            self._update()
        elif self.order[depth] is self.lanes:
            self._blocks(depth)
        else:
            axis = self.order[depth]
            size = f"0, {axis.size}, {self.steps[axis]}" if axis in self.steps else str(axis.size)
            with self.page.block(f"for {axis} in range({size}):"):
                self._statements(depth + 1)
                self.level(depth + 1)
        self._finish(starting)

    def _scope(self, root: Accumulate) -> int:
        """Inside of how many loops a sum begins and ends; all of them if no loop runs over it."""
        return next((depth for depth, axis in enumerate(self.order) if axis in root.reduced), len(self.order))

    def _blocks(self, depth: int) -> None:
        """The lanes axis block by block."""
        page, axis = self.page, self.order[depth]
        block = block_of(axis.size)
        with page.block(f"for block in range({page.bounds_of(axis)}, {block}):"):
            name, mask = page.names_of(axis)
            page.line(f"{name} = block + tl.arange(0, {block})")
            if axis.size % block:
                page.line(f"{mask} = {name} < {axis.size}")
            page.indices[axis] = name, mask if axis.size % block else None
            self._statements(depth + 1)
            self.level(depth + 1)
            del page.indices[axis]

    # -- statements

    def _statements(self, depth: int) -> None:
        """Everything that has a name and belongs just inside of `depth` loops."""
        for expr in self.exprs:
            if expr in self.named and self.depth[expr] == depth:
                self.page.name(expr)

    def _update(self) -> None:
        """The innermost statements: write what is stored, add to what is summed, sum what has no loop."""
        page, at_once = self.page, []
        for root in self.roots:
            value = page.resolved(root.value)
            if isinstance(root, Store):
                self._write(root.memory, root.offset, page.value(value), root.node)
            elif self._scope(root) == len(self.order):
                at_once.append((root, self._of_all(root, self._there(root, page.text(value, STRENGTH["mul"])))))
            else:
                text = page.text(value, STRENGTH["mul"])
                name = self.parts[root]
                # the mask of one block is for all turns, and comes at the end
                new = self._there(root, text) if self.lanes in self.order else text
                page.line(f"{name} = {page.combined(root.kind, name, new)}", root.node)
        self._reduce(at_once)

    def _there(self, root: Accumulate, text: str) -> str:
        """What an element adds to a sum over the lanes: nothing where there is no element."""
        mask = self.page.mask(self.lanes) if self.lanes in root.reduced and self.lanes is not None else None
        if mask is None or (root.kind == "add" and self.zeros.vanishes(self.page.resolved(root.value))):
            return text
        return f"tl.where({mask}, {text}, {self.page.plain(NEUTRAL[root.kind])})"

    def _of_all(self, root: Accumulate, text: str) -> str:
        """The text, as a block: it may be the same number for all elements."""
        if self.lanes is None or self.lanes in root.value.axes or self.page.mask(self.lanes):
            return text
        return f"{text} + {self.page.number(0.0, block_of(self.lanes.size))}"

    def _start(self, roots: list[Accumulate]) -> None:
        for root in roots:
            # one for each element if it runs over the lanes, or within one block of them
            block = self.lanes is not None and (self.lanes in root.reduced or self._is_inside(root))
            if self.lanes in root.reduced:
                self.parts[root] = self.page.new_name(f"{root.var.name}_parts")
            number = self.page.number(NEUTRAL[root.kind], block_of(self.lanes.size) if block and self.lanes else None)
            self.page.line(f"{self.parts[root]} = {number}")

    def _is_inside(self, root: Accumulate) -> bool:
        """Is it a sum for each element of a block?"""
        return self.lanes in root.value.axes or (root.offset is not None and self.lanes in root.offset.axes)

    def _finish(self, roots: list[Accumulate]) -> None:
        page = self.page
        for part in roots:
            if part.part_of is not None:
                whole = self.parts[part.part_of]
                page.line(f"{whole} = {page.combined(part.kind, whole, self.parts[part])}")
        roots = [root for root in roots if root.part_of is None]
        of_lanes = [root for root in roots if self.lanes in root.reduced]
        in_blocks = self.lanes in self.order
        self._reduce(
            [(root, self.parts[root] if in_blocks else self._there(root, self.parts[root])) for root in of_lanes]
        )
        for root in roots:
            if self.lanes not in root.reduced and root.memory is not None and root.offset is not None:
                self._write(root.memory, root.offset, page.called(root.var), root.node)

    def _reduce(self, sums: list[tuple[Accumulate, str]]) -> None:
        """Add up over the lanes, several sums at a time."""
        page = self.page
        order = {root: at for at, root in enumerate(_by_functions(page, [root for root, _ in sums]))}
        sums = sorted(sums, key=lambda pair: order[pair[0]])
        together = -(-len(sums) // -(-len(sums) // TOGETHER)) if sums else 1  # as many each time
        for first in range(0, len(sums), together):
            some = sums[first : first + together]
            page.reduce(some)
            for root, _ in some:
                if root.memory is not None and root.offset is not None:
                    self._write(root.memory, root.offset, page.called(root.var), root.node)
            page.summed(root.var for root, _ in some)

    def _write(self, memory: Memory, offset: Index, text: str, node: Node) -> None:
        place = self.page.place(offset + memory.start)
        self.page.line(f"tl.store({memory.region} + {place}, {text}{self.page.masked(*offset.axes)})", node)


def _by_functions(page: GpuPage, roots: list[Accumulate]) -> list[Accumulate]:
    """Sums in an order in which those are neighbours whose nearest elementary function is the same.

    Its values, one for each of a thread's elements, have their registers until the last of them is taken.
    """
    found: dict[Expr | None, list[Accumulate]] = {}
    for root in roots:
        level, nearest = [root.value], None
        while level and nearest is None:
            level = [page.resolved(expr) for expr in level]
            nearest = next((expr for expr in level if expr.op not in CHEAP and expr.axes), None)
            level = list(dict.fromkeys(operand for expr in level for operand in expr.operands))
        found.setdefault(nearest, []).append(root)
    return [root for group in found.values() for root in group]


def registers_of(size: int, warps: int, dtype: str) -> int:
    """Registers of a thread that a block for an axis of so many elements takes."""
    return -(-block_of(size) // (32 * warps)) * (2 if dtype == "float64" else 1)


class _Zeros:
    """What is 0 where the data are 0, as they are where a block has no elements: nothing there needs a mask.

    Each expression is looked at once; they share their parts.
    """

    def __init__(self, lanes: Axis | None) -> None:
        self.lanes = lanes
        self.zero: dict[Expr, bool] = {}
        self.finite: dict[Expr, bool] = {}

    def vanishes(self, expr: Expr) -> bool:
        """Is it 0 there?"""
        if expr not in self.zero:
            self.zero[expr] = self._vanishes(expr)
        return self.zero[expr]

    def _vanishes(self, expr: Expr) -> bool:
        if expr.op == "load":
            return self.lanes in expr.axes
        if expr.op == "kept":
            return self.vanishes(expr.args[0])
        if expr.op in ("add", "sub"):
            return self.vanishes(expr.args[0]) and self.vanishes(expr.args[1])
        if expr.op == "mul":
            one, other = expr.args
            return (self.vanishes(one) and self.is_finite(other)) or (self.vanishes(other) and self.is_finite(one))
        return False

    def is_finite(self, expr: Expr) -> bool:
        """Is it finite wherever what it is made of is? 0 times infinity is not 0."""
        if expr not in self.finite:
            plain = expr.op in ("add", "sub", "mul", "where", "maximum", "minimum", "absolute", "kept")
            operands = [operand for operand in expr.args if isinstance(operand, Expr) and not operand.is_bool]
            self.finite[expr] = expr.op in ("number", "local", "load") or (plain and all(map(self.is_finite, operands)))
        return self.finite[expr]
