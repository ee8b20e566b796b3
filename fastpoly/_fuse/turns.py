"""What a nest does in one turn of its loops: of several turns of a loop, or several registers of samples, one is made.

They share what they load, and their sums do not wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import ir
from .builder import Builder, number
from .caches import reads_again
from .expressions import Axis, Expr, Index
from .ir import INDEX, Op, Var
from .plan import Accumulate, Nest, Root
from .schedule import Schedule

AT_A_TIME = 4
"""How many neighbours, and how many parts of one sum: an addition takes four cycles, and one can begin in each."""

IN_FLIGHT = 8
"""Registers of sums that hide each other's waiting, two additions a cycle, and leave half of 16 registers to what is
added. So many registers of samples, if no other loop is around theirs, share what is the same for all samples."""

Part = tuple[ir.Expr, ir.Expr]
"""The samples that a nest takes: the first one and the one after the last."""


@dataclass(frozen=True)
class Turn:
    """What is done in one turn of a nest's loops.

    Attributes:
        roots: what it computes.
        steps: by how much axes grow from turn to turn, if not by one, or by a register.
        span: where the loop over the samples begins and ends, if not where the axis does.
        backwards: does the outermost loop begin at its end?
    """

    roots: list[Root]
    steps: dict[Axis, int] = field(default_factory=dict)
    span: Part | None = None
    backwards: bool = False


def turns(builder: Builder, nest: Nest, part: Part | None) -> list[Turn]:
    """Most nests are one loop nest; a tiled one is followed by another for the registers that do not fill a tile."""
    schedule, lanes = builder.schedule, nest.loops.lanes
    tile = _registers_of_a_tile(builder, nest, part)
    if lanes is None or tile == 1:
        at_a_time = AT_A_TIME
        if builder.lanes and schedule.waits_for_loads and len(nest.roots) == 1:
            at_a_time = IN_FLIGHT
        # sums may take half of the registers. Of 16, LLVM kept some of 12 and 24 sums in memory (a step of the zoo's
        # tanh network with 8 instead: 7 % less time in double, 15 % in single)
        roots, axis = jammed(schedule, nest, schedule.available // 2, at_a_time)
        backwards = bool(nest.loops.outer) and reads_again(schedule, builder.dtype, nest)
        return [Turn(roots, {axis: len(roots) // len(nest.roots)} if axis else {}, backwards=backwards)]
    width = schedule.lanes
    end = -(-lanes.size // width) * width
    if part is not None:  # of whole registers, but not of whole tiles
        first, last = part
        size, samples = number(tile * width), Op("sub", (last, first), INDEX)
        whole_tiles = Op("mul", (Op("floordiv", (samples, size), INDEX), size), INDEX)
        tiles = builder.assign(builder.new("tiles"), Op("add", (first, whole_tiles), INDEX))
        return [_tiled(schedule, nest, tile, (first, tiles)), _tiled(schedule, nest, 1, (tiles, last))]
    whole = end - end % (tile * width)
    tiled = [_tiled(schedule, nest, tile, (number(0), number(whole)))]
    rest = (end - whole) // width
    return [*tiled, _tiled(schedule, nest, rest, (number(whole), number(end)))] if rest else tiled


def _registers_of_a_tile(builder: Builder, nest: Nest, part: Part | None) -> int:
    """How many registers of samples share what the sums of an inner loop read; 1 if they do not."""
    outer, lanes, inner = nest.loops.outer, nest.loops.lanes, nest.loops.inner
    if lanes is None or outer or not inner or not (builder.lanes and nest.is_of_short_sums):
        return 1
    if not builder.schedule.waits_for_loads:
        return 1
    most = max(IN_FLIGHT // len(nest.roots), 1)
    if part is not None:
        return most
    registers = -(-lanes.size // builder.schedule.lanes)
    return -(-registers // -(-registers // most))  # so that the last tile is nearly full, too


def _tiled(schedule: Schedule, nest: Nest, tile: int, span: Part) -> Turn:
    """So many registers of samples in a turn, and so many parts of their sums that enough are in flight."""
    lanes, inner, width = nest.loops.lanes, nest.loops.inner[-1], schedule.lanes
    assert lanes is not None
    sums = [root for root in nest.roots if isinstance(root, Accumulate)]
    roots = [_neighbour(root, lanes, at * width) for at in range(tile) for root in sums]
    steps = {lanes: tile * width}
    parts = AT_A_TIME
    while parts > 1 and (inner.size % parts or parts * len(roots) > IN_FLIGHT):
        parts //= 2
    if parts > 1:
        roots += [_part(root, inner, by) for by in range(1, parts) for root in roots]
        steps[inner] = parts
    return Turn([*roots], steps, span)


def moved(expr: Expr, axis: Axis, by: int) -> Expr:
    """The expression at axis + by; what it reads several times is moved once."""
    if by == 0:
        return expr
    known: dict[Expr, Expr] = {}
    stack = [expr]
    while stack:
        one = stack[-1]
        waiting = [a for a in one.args if isinstance(a, Expr) and a not in known] if axis in one.axes else []
        stack += waiting
        if waiting:
            continue
        stack.pop()
        if axis in one.axes and one not in known:
            parts = (
                known[a] if isinstance(a, Expr) else a.moved(axis, by) if isinstance(a, Index) else a for a in one.args
            )
            known[one] = Expr(one.op, *parts, is_bool=one.is_bool)
        known.setdefault(one, one)
    return known[expr]


def jammed(schedule: Schedule, nest: Nest, most_sums: int, most: int = AT_A_TIME) -> tuple[list[Root], Axis | None]:
    """The roots of several turns of a loop in one, where that saves loads or waiting; and the axis of that loop.

    There are AT_A_TIME turns in one, or up to `most` neighbours with at most `most_sums` registers of sums.
    """
    outer, inner = nest.loops.outer, nest.loops.inner
    if not nest.is_of_short_sums:
        return nest.roots, None
    sums = [root for root in nest.roots if isinstance(root, Accumulate)]
    if outer:
        axis, registers = outer[-1], len(sums) * schedule.registers
        fitting = (n for n in (most, AT_A_TIME, 2) if n <= most and axis.size % n == 0 and registers * n <= most_sums)
        count = next(fitting, 1)
        if count == 1 or any(axis in root.reduced for root in sums):
            return nest.roots, None
        return [_neighbour(root, axis, by) for by in range(count) for root in sums], axis
    if inner and len(sums) == 1 and inner[-1].size % AT_A_TIME == 0:
        (root,) = sums
        return [root, *(_part(root, inner[-1], by) for by in range(1, AT_A_TIME))], inner[-1]
    return nest.roots, None


def _neighbour(root: Accumulate, axis: Axis, by: int) -> Accumulate:
    """The sum at axis + by."""
    assert root.offset is not None
    value, offset = moved(root.value, axis, by), root.offset.moved(axis, by)
    var = Var(root.var.name, root.var.kind)
    slot = root.slot and root.slot.moved(axis, by)
    return Accumulate(root.kind, var, value, root.reduced, root.node, root.memory, offset, slot=slot)


def _part(root: Accumulate, axis: Axis, by: int) -> Accumulate:
    """A part of the sum: the elements at axis + by, axis + by + AT_A_TIME, ..."""
    value = moved(root.value, axis, by)
    var = Var(root.var.name, root.var.kind)
    return Accumulate(root.kind, var, value, root.reduced, root.node, root.memory, root.offset, part_of=root)
