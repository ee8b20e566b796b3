"""Nests that run one after the other on a block of samples, and then on the next block.

What several nests read, or one writes and another reads, then comes from the processor's first cache all but the first
time. It can be done where no nest of the group needs a sum over the samples that another one takes. Sums over the
samples are kept from block to block in memory, a register each, and added up lane by lane at the end.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from contextlib import ExitStack

import numpy as np

from .builder import Builder, least, number, shifted
from .caches import FIRST_CACHE
from .expressions import Axis, Index, Memory
from .ir import FLOAT, Load, Op, Var
from .nests import LANES, NEUTRAL, beginning, is_whole, tiled, write_nest
from .plan import Accumulate, Nest, leaves, read_by
from .tiles import TILES, write_zeros
from .turns import IN_FLIGHT, Part

MATRICES = 2**22
"""Bytes that a block of samples takes where there are products of matrices: a part of the last cache."""

LEAST_TERMS = 32
"""Registers of samples in such a block at least: a sum over them costs as much as some of its terms."""

MOST_BLOCKS = 2048
"""Blocks whose sums are added up one after the other: beyond, a running sum in float32 loses digits."""


def groups(builder: Builder) -> list[list[Nest]]:
    """The nests of a schedule in the order in which they run: those of one level, or of several that share blocks."""
    by_level = levels(builder.schedule.nests)
    if builder.schedule.in_turns or not builder.schedule.can_be_shared:
        return by_level
    if any(tiled(builder, nest) for nest in builder.schedule.nests):
        return _of_matrices(builder, by_level)
    if not builder.schedule.waits_for_loads:
        return by_level
    found: list[list[Nest]] = []
    for level in by_level:
        if found and _go_together(builder, found[-1], level):
            found[-1] = found[-1] + level
        else:
            found.append(level)
    return [part for group in found for part in ([group] if block_of(builder, group) else levels(group))]


def _of_matrices(builder: Builder, by_level: list[list[Nest]]) -> list[list[Nest]]:
    """Where there are products of matrices, what is not over the samples waits for the end of a group if it can."""
    found: list[list[Nest]] = []
    together: list[Nest] = []
    waiting: list[list[Nest]] = []
    for level in by_level:
        over = [nest for nest in level if _is_over_samples(builder, nest)]
        roots = (root for nests in waiting for nest in nests for root in nest.roots)
        made = {root.memory or root.var if isinstance(root, Accumulate) else root.memory for root in roots}
        if not _go_together(builder, together, over) or made & _read(over):
            found += [together, *waiting]
            together, waiting = [], []
        together = together + over
        waiting.append([nest for nest in level if nest not in over])
    found += [together, *waiting]
    return [nests for nests in found if nests] if any(block_of(builder, nests) for nests in found) else by_level


def levels(nests: list[Nest]) -> list[list[Nest]]:
    """The nests of each level."""
    return [list(level) for _, level in itertools.groupby(nests, key=lambda nest: nest.level)]


def _go_together(builder: Builder, nests: list[Nest], others: list[Nest]) -> bool:
    """Are all of them over the samples, and do the others need no sum over all samples of the first ones?"""
    sums = {root.memory or root.var for root in builder.schedule.shared(nests)}
    return all(_is_over_samples(builder, nest) for nest in (*nests, *others)) and not sums & _read(others)


def _is_over_samples(builder: Builder, nest: Nest) -> bool:
    lanes = nest.loops.lanes
    return lanes is not None and lanes.size == builder.schedule.samples and is_whole(builder, nest)


def _read(nests: list[Nest]) -> set[Memory | Var]:
    """What nests read."""
    read = (leaf for nest in nests for root in nest.roots for leaf in leaves(root.value))
    return {leaf.args[1].args[0] if leaf.op == "kept" else leaf.args[0] for leaf in read}


def block_of(builder: Builder, nests: list[Nest]) -> int:
    """How many samples are a block; 0 if blocks would not pay."""
    schedule = builder.schedule
    own = Axis("i", schedule.samples)
    slots = sum(_registers(builder, nest) for nest in nests)
    users = Counter(memory for nest in nests for memory in _memories(nest, own))
    rows = {memory: memory.size // memory.padded for memory in users}
    again = sum(rows[memory] for memory, count in users.items() if count > 1)
    size = np.dtype(builder.dtype).itemsize
    sample = sum(rows.values()) * size
    unit = schedule.lanes * IN_FLIGHT
    if sample and any(tiled(builder, nest) for nest in nests):
        fitting = max(MATRICES // sample, LEAST_TERMS * schedule.lanes // schedule.registers)
        block = -(-fitting // unit_of(builder)) * unit_of(builder)
        return block if 2 * block < schedule.samples else 0
    # what is little more than the cache holds comes back from its end (`caches.reads_again`), which is faster; and
    # sums are read and written once a block: they should be no more than the samples' own numbers
    if again * size * schedule.samples <= 2 * FIRST_CACHE or slots > sum(rows.values()):
        return 0
    fitting = FIRST_CACHE // 2 // sample // unit * unit
    return max(fitting, unit, -(-schedule.samples // MOST_BLOCKS // unit) * unit)


def unit_of(builder: Builder) -> int:
    """How many samples must go together: what is taken at a time, or the rows of a tile where there are matrices."""
    schedule = builder.schedule
    if not any(tiled(builder, nest) for nest in schedule.nests):
        return schedule.lanes
    return math.lcm(schedule.lanes, TILES[schedule.available][0] * schedule.lanes // schedule.registers)


def _memories(nest: Nest, own: Axis) -> set[Memory]:
    """What a nest reads or writes that has a number for each sample."""
    return {memory for memory, offset in _places(nest) if own in offset.axes}


def _places(nest: Nest) -> list[tuple[Memory, Index]]:
    """What a nest reads and writes, and where in that."""
    loads = (load for root in nest.roots for load in read_by(root.value))
    found = [(load.args[0], load.args[1]) for load in loads if load.op in ("load", "lookup")]
    return found + [(root.memory, root.offset) for root in nest.roots if root.memory and root.offset is not None]


def _registers(builder: Builder, nest: Nest) -> int:
    """How many registers the sums over the samples take that a nest is in the middle of; a matrix has none to spare."""
    taken = {root for product in tiled(builder, nest) for root in product.roots}
    roots = builder.schedule.shared([nest])
    return sum(-(-_count(nest, root) // (builder.schedule.lanes if root in taken else 1)) for root in roots)


def _count(nest: Nest, root: Accumulate) -> int:
    """How many sums a root is."""
    return math.prod(axis.size for axis in _around(nest, root))


def _around(nest: Nest, root: Accumulate) -> list[Axis]:
    """The axes that one sum has no part of."""
    return list(itertools.takewhile(lambda axis: axis not in root.reduced, nest.loops.order))


def write_group(builder: Builder, nests: list[Nest], part: Part | None) -> None:
    """Write nests that take a part of the samples, or all, in blocks if that pays."""
    schedule = builder.schedule
    block = block_of(builder, nests) if len({nest.level for nest in nests}) > 1 else 0
    if not block:
        for nest in nests:
            write_nest(builder, nest, part)
        return
    for nest in nests:
        with beginning(builder, nest):
            pass
    shared = [(nest, root) for nest in nests for root in schedule.shared([nest])]
    matrices = [product for nest in nests for product in tiled(builder, nest)]
    taken = {root for product in matrices for root in product.roots}
    sums = [(nest, root) for nest, root in shared if root not in taken]
    width = schedule.lanes
    for nest, root in sums:
        _start(builder, nest, root)
    for product in matrices:
        if product.over is product.lanes:
            write_zeros(builder, product)
    first, last = part or (number(0), number(-(-schedule.samples // width) * width))
    with builder.loop("begin", first, last, block) as begin:
        end = builder.assign(builder.new("end"), least(shifted(begin, block), last))
        builder.begins.update(dict.fromkeys(_passing(builder, nests), begin))
        for nest in nests:
            write_nest(builder, nest, (begin, end), begun=True)
    for nest, root in sums:
        _finish(builder, nest, root)


def _passing(builder: Builder, nests: list[Nest]) -> set[Memory]:
    """What only these nests have to do with, and only for the samples of their block: each block has it where the one
    before had it, in a cache.
    """
    schedule = builder.schedule
    register = schedule.lanes // schedule.registers
    if schedule.recurrences or schedule.lanes % (TILES[schedule.available][0] * register):
        return set()  # or a tile may begin before its block does
    own = Axis("i", schedule.samples)
    lasting = {value for value in (*schedule.results, *schedule.successors) if isinstance(value, Memory)}
    lasting.update(memory for nest in schedule.nests if nest not in nests for memory, _ in _places(nest))
    lasting.update(memory for nest in nests for memory, offset in _places(nest) if offset.factor(own) != 1)
    return {memory for nest in nests for memory, _ in _places(nest) if memory.region == "scratch"} - lasting


def _start(builder: Builder, nest: Nest, root: Accumulate) -> None:
    """Give each sum of a root its register in memory, and that its first value."""
    width, around = builder.schedule.lanes, _around(nest, root)
    count = math.prod(axis.size for axis in around)
    start = -(-builder.spare(width * (count + 1)) // width) * width  # where a register begins
    slot, stride = Index((), start), width
    for axis in reversed(around):
        slot, stride = slot + Index.of(axis) * stride, stride * axis.size
    root.slot = slot
    with builder.loop("i", number(start), number(start + count * width), width) as i:
        builder.store("scratch", i, Op("splat", (NEUTRAL[root.kind],), FLOAT.of(width)))


def _finish(builder: Builder, nest: Nest, root: Accumulate) -> None:
    """Add up the lanes of each sum of a root."""
    assert root.slot is not None
    with ExitStack() as loops:
        for axis in _around(nest, root):
            loops.enter_context(builder.loop(axis.name, number(0), number(axis.size)))
        register = Load("scratch", builder.index(root.slot), FLOAT.of(builder.schedule.lanes))
        value = Op(LANES[root.kind], (register,), FLOAT)
        if root.memory is not None and root.offset is not None:
            builder.store(root.memory.region, builder.place(root.memory, root.offset), value, root.node)
        else:
            builder.assign(root.var, value, root.node)
