"""A step shared by the programs of a grid: each takes its part of the samples, and all of them the same sums.

What threads of a CPU do (`write`), with a multiprocessor for each program. Every program carries everything and takes
every step. Of scratch, samples have their own part and all else lies in `own`, of which each program has one. Sums go
through `room`: every program writes what it has, they meet, and each adds up what all have, in the same order.
"""

from __future__ import annotations

from . import ir
from .builder import indices, least, number
from .exchange import Exchange
from .expressions import Memory
from .gpu_builder import TOGETHER, GpuBuilder, block_of, numbers_from
from .ir import FLOAT, INDEX, Const, Load, Op, Reduce, Var, View, operation
from .layout import Layout
from .nests import NEUTRAL
from .plan import Accumulate
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
    blocks = -(-schedule.samples // block_of(schedule.samples))
    return max(1, min(most, blocks, int(seconds(schedule.cycles, dtype) / (meetings * MEETING))))


def seconds(cycles: float, dtype: str) -> float:
    """What so many operations on numbers take a whole multiprocessor."""
    return cycles * (2 if dtype == "float64" else 1) / LANES / CLOCK


def give_each_its_own(schedule: Schedule) -> None:
    """Let what has no element for each sample lie in `own`."""
    of_samples = schedule.of_samples()
    for memory in schedule.memories:
        if memory.region == "scratch" and memory not in of_samples:
            memory.region = "own"


class GpuExchange(Exchange):
    """What a kernel says of the grid."""

    names = ("program", "begin", "end")

    def __init__(self, builder: GpuBuilder, layout: Layout) -> None:
        super().__init__(builder, layout, block_of(builder.schedule.samples))
        self.builder: GpuBuilder = builder
        self.programs = builder.new("programs", INDEX.of(block_of(layout.threads)))
        builder.span = self.span
        shared = (root for sums in builder.schedule.shared_sums() for root in sums)
        builder.partial = {root.var for root in shared if root.memory is None}

    def begin(self) -> None:
        builder, layout, end = self.builder, self.layout, self.span[1]
        builder.assign(self.me, Op("program", (), INDEX))
        builder.assign(self.programs, numbers_from(None, self.programs.kind.lanes))
        wide = indices("wide", self.me)
        builder.body.append(View("carry", "carry", indices("mul", wide, number(layout.carry))))
        own = indices("add", number(layout.scratch), indices("mul", wide, number(layout.own)))
        builder.body.append(View("own", "scratch", own))
        super().begin()
        builder.assign(end, least(end, number(builder.schedule.samples)))

    def begin_step(self) -> None:
        self.builder.body.append(View("side", "room", self._side()))

    def _at(self, at: int) -> Const:
        """Where sums lie: of each what every program has, one after the other."""
        return number(at * self.layout.threads)

    def _tell(self, var: Var, at: int) -> None:
        self.builder.store("side", indices("add", self.me, self._at(at)), var)

    def _tell_all(self, memory: Memory, at: int) -> None:
        self.builder.copy("side", indices("add", self.me, self._at(at)), memory, self.layout.threads)

    def _loaded(self, kind: str, place: ir.Expr, program: Var, among: ir.Expr | None = None) -> Load:
        """What programs have there; what there is of none, or not `among` what there is, does not count."""
        mask = operation("lt", program, number(self.layout.threads))
        mask = operation("and", among, mask) if among else mask
        other = float(NEUTRAL[kind].value)
        return Load("side", indices("add", program, place), FLOAT.of(program.kind.lanes), mask, other)

    def _total(self, sums: dict[Accumulate, int]) -> None:
        roots = list(sums)
        for first in range(0, len(roots), TOGETHER):
            some = roots[first : first + TOGETHER]
            self.builder.reduce({root: self._loaded(root.kind, self._at(sums[root]), self.programs) for root in some})
            self.builder.partial.difference_update(root.var for root in some)
            self.builder.summed(root.var for root in some)

    def _total_of(self, memory: Memory, kind: str, at: int) -> None:
        """See `Exchange._total_of`. A tile of the elements at a time: a row of what all programs have of each."""
        builder, width = self.builder, self.programs.kind.lanes
        with builder.elements(memory, TILE // width) as (elements, mask):
            all_of = INDEX.of(elements.kind.lanes * width)
            numbers = builder.assign(builder.new("numbers", all_of), numbers_from(None, all_of.lanes))
            row = indices("floordiv", numbers, number(width))
            element = builder.assign(builder.new("element", all_of), indices("add", builder.own("block"), row))
            program = builder.assign(builder.new("of", all_of), indices("mod", numbers, number(width)))
            place = indices("add", self._at(at), indices("mul", number(self.layout.threads), element))
            values = self._loaded(kind, place, program, operation("lt", element, number(memory.size)))
            total = builder.new("total", FLOAT.of(elements.kind.lanes))
            builder.body.append(Reduce((total,), (kind,), (values,), ("",), elements.kind.lanes))
            builder.store("own", indices("add", number(memory.start), elements), total, mask=mask)
