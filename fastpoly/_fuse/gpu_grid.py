"""A step shared by the programs of a grid: each takes its part of the samples, and all of them the same sums.

What threads of a CPU do (`write`), with a multiprocessor for each program. Every program carries everything and takes
every step. Of scratch, samples have their own part and all else lies in `own`, of which each program has one. Sums go
through `room`: every program writes what it has, they meet, and each adds up what all have, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

from .expressions import Axis, Memory
from .gpu_nests import NEUTRAL
from .gpu_page import TOGETHER, GpuPage, block_of
from .layout import Layout
from .plan import Accumulate, Nest
from .schedule import Schedule

CLOCK = 1.98e9
"""Cycles a second of an H100 or H200."""

LANES = 128
"""Numbers of 32 bits that a multiprocessor computes in a cycle."""

MEETING = 2e-6
"""Seconds that programs take to meet and to read each other's sums, about: they come and go through the second cache.
Each must have as much to do in between."""

TILE = 4096
"""Numbers that are read at a time of what all programs have of several sums."""


def programs_for(schedule: Schedule, dtype: str, most: int) -> int:
    """How many programs share the samples; at most one for each of `most` multiprocessors."""
    meetings = sum(bool(sums) for sums in schedule.shared_sums())
    if most < 2 or not meetings or not schedule.can_be_shared:
        return 1
    return max(1, min(most, _blocks(schedule.samples), int(seconds(schedule.cycles, dtype) / (meetings * MEETING))))


def _blocks(samples: int) -> int:
    """In how many blocks they are taken."""
    return -(-samples // block_of(samples))


def seconds(cycles: float, dtype: str) -> float:
    """What so many operations on numbers take a whole multiprocessor."""
    return cycles * (2 if dtype == "float64" else 1) / LANES / CLOCK


def give_each_its_own(schedule: Schedule) -> None:
    """Let what has no element for each sample lie in `own`."""
    samples = Axis("i", schedule.samples)
    of_samples = {
        root.memory
        for nest in schedule.nests
        for root in nest.roots
        if root.offset is not None and samples in root.offset.axes
    }
    for memory in schedule.memories:
        if memory.region == "scratch" and memory not in of_samples:
            memory.region = "own"


class Exchange:
    """What a page says of the grid."""

    def __init__(self, page: GpuPage, layout: Layout) -> None:
        self.page = page
        self.layout = layout
        self.taken = 0  # of the room, in this step
        page.partial = {root.var for sums in page.schedule.shared_sums() for root in sums if root.memory is None}

    def begin(self) -> None:
        """Before all steps: which samples are this program's."""
        page, count, samples = self.page, self.layout.programs, self.page.schedule.samples
        blocks, block = _blocks(samples), block_of(samples)
        page.line("program = tl.program_id(0)")
        page.line(f"programs = tl.arange(0, {block_of(count)})")
        page.line(f"carry += program.to(tl.int64) * {self.layout.carry}")
        page.line(f"own = scratch + {self.layout.scratch} + program.to(tl.int64) * {self.layout.own}")
        page.line(f"begin = program * {blocks} // {count} * {block}")
        page.line(f"end = tl.minimum((program + 1) * {blocks} // {count} * {block}, {samples})")
        page.line("met = tl.full([], 0, tl.int64)")

    def begin_step(self) -> None:
        """Two rooms in turn: a program that is a step ahead must not overwrite what another still reads."""
        self.page.line(f"side = room + step % 2 * {self.layout.programs * self.layout.room}")

    def __call__(self, nests: Sequence[Nest]) -> bool:
        """Add up the sums of these nests, which have been written. Are there any?"""
        page, count = self.page, self.layout.programs
        sums = page.schedule.shared(nests)
        if not sums:
            return False
        variables = [(root, self._place(1)) for root in sums if root.memory is None]
        kinds = {root.memory: root.kind for root in sums if root.memory is not None}
        memories = [(memory, kind, self._place(memory.size)) for memory, kind in kinds.items()]
        for root, place in variables:
            page.line(f"tl.store(side + program + {place}, {page.called(root.var)})")
        if memories:
            page.line("tl.debug_barrier()  # until every thread sees what was written")
        for memory, _, place in memories:
            with page.elements(memory) as mask:
                page.line(f"value = tl.load(own + {memory.start} + at, mask={mask}, other=0.0)")
                page.line(f"tl.store(side + program + {place} + {count} * at, value, mask={mask})")
        page.line(f"met += {count}")
        page.line(f"{page.use('meet')}(counter, met)")
        for first in range(0, len(variables), TOGETHER):
            self._total(variables[first : first + TOGETHER])
        for memory, kind, place in memories:
            self._total_of(memory, kind, place)
        if memories:
            page.line("tl.debug_barrier()  # until every thread sees what was written")
        return True

    def _place(self, size: int) -> int:
        """Where in the room so many sums lie: of each what every program has, one after the other."""
        start, self.taken = self.taken, self.taken + size
        return start * self.layout.programs

    def _total(self, sums: list[tuple[Accumulate, int]]) -> None:
        """What all programs have of these sums, together."""
        page, count = self.page, self.layout.programs
        loads = [
            f"tl.load(side + programs + {place}, mask=programs < {count}, other={page.plain(NEUTRAL[root.kind])})"
            for root, place in sums
        ]
        page.reduce([(root, load) for (root, _), load in zip(sums, loads, strict=True)])
        page.partial.difference_update(root.var for root, _ in sums)
        page.summed(root.var for root, _ in sums)

    def _total_of(self, memory: Memory, kind: str, place: int) -> None:
        """The same for the elements of a memory: a tile of them and of all programs at a time."""
        page, count = self.page, self.layout.programs
        with page.elements(memory, TILE // block_of(count)) as mask:
            there = f"({mask})[:, None] & (programs < {count})[None, :]"
            page.line(f"at_programs = side + {place} + {count} * at[:, None] + programs[None, :]")
            page.line(f"value = tl.load(at_programs, mask={there}, other={page.plain(NEUTRAL[kind])})")
            total = f"tl.reduce(value, 1, {page.combine((kind,))})"
            page.line(f"tl.store(own + {memory.start} + at, {total}, mask={mask})")
