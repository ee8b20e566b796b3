"""A step shared by the programs of a grid: each takes its part of the samples, and all of them the same sums.

What threads of a CPU do (`write`), with a multiprocessor for each program. Every program carries everything and takes
every step. Of scratch, samples have their own part and all else lies in `own`, of which each program has one. Sums go
through `room`: every program writes what it has, they meet, and each adds up what all have, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import ir
from .builder import indices, least, number, shifted
from .expressions import Axis, Memory
from .gpu_builder import SEEN, TOGETHER, GpuBuilder, block_of, numbers_from
from .ir import BOOL, FLOAT, INDEX, Const, Do, Load, Op, Reduce, Var, View, operation
from .layout import Layout
from .nests import NEUTRAL
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
    """What a kernel says of the grid."""

    def __init__(self, builder: GpuBuilder, layout: Layout) -> None:
        self.builder = builder
        self.layout = layout
        self.taken = 0  # of the room, in this step
        self.count = number(layout.programs)
        self.program, self.programs = builder.own("program"), Var("programs", INDEX.of(block_of(layout.programs)))
        self.met = Var("met", INDEX)
        builder.span = Var("begin", INDEX), Var("end", INDEX)
        shared = (root for sums in builder.schedule.shared_sums() for root in sums)
        builder.partial = {root.var for root in shared if root.memory is None}

    def begin(self) -> None:
        """Before all steps: which samples are this program's."""
        builder, layout, samples = self.builder, self.layout, self.builder.schedule.samples
        builder.assign(self.program, Op("program", (), INDEX))
        builder.assign(self.programs, numbers_from(None, self.programs.kind.lanes))
        wide = indices("wide", self.program)
        builder.body.append(View("carry", "carry", indices("mul", wide, number(layout.carry))))
        own = indices("add", number(layout.scratch), indices("mul", wide, number(layout.own)))
        builder.body.append(View("own", "scratch", own))
        begin, end = (
            indices("mul", indices("floordiv", indices("mul", of, number(_blocks(samples))), self.count), block)
            for of, block in ((of, number(block_of(samples))) for of in (self.program, shifted(self.program, 1)))
        )
        for bound, value in zip(builder.span, (begin, least(end, number(samples))), strict=True):
            assert isinstance(bound, Var)
            builder.assign(bound, value)
        builder.assign(self.met, indices("wide", number(0)))

    def begin_step(self) -> None:
        """Two rooms in turn: a program that is a step ahead must not overwrite what another still reads."""
        odd = indices("mod", self.builder.own("step"), number(2))
        room = indices("mul", odd, number(self.layout.programs * self.layout.room))
        self.builder.body.append(View("side", "room", room))

    def __call__(self, nests: Sequence[Nest]) -> bool:
        """Add up the sums of these nests, which have been written. Are there any?"""
        builder = self.builder
        sums = builder.schedule.shared(nests)
        if not sums:
            return False
        variables = [(root, self._place(1)) for root in sums if root.memory is None]
        kinds = {root.memory: root.kind for root in sums if root.memory is not None}
        memories = [(memory, kind, self._place(memory.size)) for memory, kind in kinds.items()]
        for root, place in variables:
            builder.store("side", indices("add", self.program, place), root.var)
        if memories:
            builder.barrier(SEEN)
        for memory, _, place in memories:
            with builder.elements(memory) as (at, mask):
                own = indices("add", number(memory.start), at)
                to = indices("add", indices("add", self.program, place), indices("mul", self.count, at))
                builder.store("side", to, Load("own", own, FLOAT.of(at.kind.lanes), mask), mask=mask)
        builder.assign(self.met, indices("add", self.met, self.count))
        builder.body.append(Do("meet", "counter", (self.met,)))
        for first in range(0, len(variables), TOGETHER):
            self._total(variables[first : first + TOGETHER])
        for memory, kind, place in memories:
            self._total_of(memory, kind, place)
        if memories:
            builder.barrier(SEEN)
        return True

    def _place(self, size: int) -> Const:
        """Where in the room so many sums lie: of each what every program has, one after the other."""
        start, self.taken = self.taken, self.taken + size
        return number(start * self.layout.programs)

    def _loaded(self, kind: str, place: ir.Expr, program: ir.Expr) -> Load:
        """What programs have there; what there is of none does not count."""
        lanes = program.kind.lanes
        mask = Op("lt", (program, self.count), BOOL.of(lanes))
        return Load("side", indices("add", program, place), FLOAT.of(lanes), mask, float(NEUTRAL[kind].value))

    def _total(self, sums: list[tuple[Accumulate, Const]]) -> None:
        """What all programs have of these sums, together."""
        builder = self.builder
        builder.reduce({root: self._loaded(root.kind, place, self.programs) for root, place in sums})
        builder.partial.difference_update(root.var for root, _ in sums)
        builder.summed(root.var for root, _ in sums)

    def _total_of(self, memory: Memory, kind: str, place: Const) -> None:
        """The same for the elements of a memory: a tile of them at a time, a row of what all programs have of each."""
        builder, width = self.builder, self.programs.kind.lanes
        with builder.elements(memory, TILE // width) as (at, mask):
            rows, all_of = at.kind.lanes, INDEX.of(at.kind.lanes * width)
            numbers = builder.assign(builder.new("numbers", all_of), numbers_from(None, all_of.lanes))
            row = indices("floordiv", numbers, number(width))
            element = builder.assign(builder.new("element", all_of), indices("add", builder.own("block"), row))
            program = builder.assign(builder.new("of", all_of), indices("mod", numbers, number(width)))
            values = self._loaded(kind, indices("add", place, indices("mul", self.count, element)), program)
            there = Op("lt", (element, number(memory.size)), BOOL.of(all_of.lanes))
            values.mask = operation("and", there, values.mask) if values.mask else there
            total = builder.new("total", FLOAT.of(rows))
            builder.body.append(Reduce((total,), (kind,), (values,), ("",), rows))
            builder.store("own", indices("add", number(memory.start), at), total, mask=mask)
