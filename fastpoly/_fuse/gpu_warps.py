"""How many warps a step of the GPU runs in: by what it computes, and by the registers that this takes.

One warp adds up by shuffles alone. More of them share out the elements among the four schedulers of a multiprocessor,
but meet at barriers, and hand their sums through shared memory. The cycles are an H100's: those of instructions from
its issue rates, those of meeting from the post's step on an H200 (252 cycles in one warp, 640 in four; in float64 405
and 811). Not measured: steps with elementary functions in several warps.
"""

from __future__ import annotations

import math

from .expressions import CHEAP, Axis, Expr, in_order
from .plan import Accumulate, Nest
from .schedule import Schedule

MOST_ELEMENTS = 16
"""Of an axis for each thread, where the values have registers."""

FUNCTION = {"float32": 17, "float64": 50}
"""Cycles of a scheduler for an elementary function of 32 elements: as many instructions, two cycles each in float64."""

MEETING = 400
"""Cycles of the barriers around the sums that go through the tree together."""

SHARED = 8
"""Cycles of a sum of 32 bits that is handed through shared memory."""

WORTH = (1.5, 1.1)
"""By what factor more warps must be quicker than one, and than several: what the first meeting costs is less well known
than what it saves."""

REGISTERS = {"float32": 250, "float64": 190}
"""As `registers` counts them, with which kernels of the zoo did not spill. In float64 they go by pairs, and LLVM has
all successors at the end of a step, beside what they follow."""


def warps_for(schedule: Schedule, dtype: str, block: int, together: int) -> int:
    """How many warps.

    Args:
        block: elements of the block that the samples lie in.
        together: sums that go through the tree together.
    """
    usual = max(1, block // 128)
    if schedule.recurrences or not _in_registers(schedule):
        return usual
    best: int | None = None
    for count in fitting(schedule, dtype, block):
        if best is None or WORTH[best > 1] * _cycles(schedule, dtype, block, count, together) < _cycles(
            schedule, dtype, block, best, together
        ):
            best = count
    return best or usual


def fitting(schedule: Schedule, dtype: str, block: int) -> list[int]:
    """The numbers of warps with which all values of a thread have registers."""
    counts = [c for c in (1, 2, 4, 8) if block // (32 * MOST_ELEMENTS) <= c <= max(1, block // 32)]
    return [count for count in counts if registers(schedule, dtype, block, count) <= REGISTERS[dtype]]


def registers(schedule: Schedule, dtype: str, block: int, warps: int) -> float:
    """Of a thread, for variables and sums, and for the most blocks of elements that are needed at one time."""
    words = 2 if dtype == "float64" else 1
    variables = sum(map(len, schedule.variables.values()))
    sums = max((len(_sums(nest)) for nest in schedule.nests), default=0)
    live = max((_live(nest) for nest in schedule.nests), default=0)
    return words * (max(variables, sums) + live * max(1, block // (32 * warps)))


def _in_registers(schedule: Schedule) -> bool:
    """Has no loop, and no block goes to memory."""
    return all(not nest.loops.outer and not nest.loops.inner and _sums(nest) == nest.roots for nest in schedule.nests)


def _cycles(schedule: Schedule, dtype: str, block: int, warps: int, together: int) -> float:
    """Of a step, beside the waiting that is the same for any number of warps."""
    words = 2 if dtype == "float64" else 1
    total = 0.0
    for nest in schedule.nests:
        sums = len(_sums(nest))
        own = sum(words if expr.op in CHEAP else FUNCTION[dtype] for expr in _blocks(nest)) + words * sums
        total += own * block / 32 / min(warps, 4)
        total += 5 * sums * words * max(3, warps)  # shuffles, one a cycle for all schedulers, and additions
        if warps > 1:
            total += MEETING * -(-sums // together) + SHARED * words * sums
    return total


def _sums(nest: Nest) -> list[Accumulate]:
    return [root for root in nest.roots if isinstance(root, Accumulate) and root.memory is None]


def _blocks(nest: Nest) -> list[Expr]:
    """What is computed for every element, operands first."""
    lanes: Axis | None = nest.loops.lanes
    return [expr for expr in in_order(root.value for root in nest.roots) if lanes in expr.axes]


def _live(nest: Nest) -> int:
    """The most blocks that are needed at one time, if they are computed in order and sums take theirs at once."""
    blocks = _blocks(nest)
    last: dict[Expr, float] = {}
    for at, expr in enumerate(blocks):
        last[expr] = max(last.get(expr, 0), at)
        for operand in expr.operands:
            last[operand] = math.inf if operand.op == "load" else at
    live, most = set[Expr](), 0
    for at, expr in enumerate(blocks):
        live = {other for other in live if last[other] > at}
        live.add(expr)
        most = max(most, len(live))
    return most
