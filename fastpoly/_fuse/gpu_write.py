"""From a schedule to a GPU's kernel: one program takes all the steps, or several share the samples."""

from __future__ import annotations

from dataclasses import replace

from fastpoly_kernels.log import stage

from .blocks import levels
from .builder import indices, number, shifted
from .exchange import SEEN
from .gpu_builder import LARGEST_BLOCK, GpuBuilder, block_of
from .gpu_grid import GpuExchange, give_each_its_own
from .gpu_nests import write_nest
from .ir import BOOL, Kernel, Op, Var, operation
from .layout import Layout, lay_out
from .plan import Nest
from .recurrences import Recurrence
from .schedule import Schedule
from .write import Writer


@stage("write")
def write(schedule: Schedule, dtype: str, stop_at: int | None = None, programs: int = 1) -> tuple[Kernel, Layout]:
    """The kernel of a schedule, and where its arguments' elements lie.

    It has the arguments of a CPU's (see `write.write`), and what that returns goes to `stopped`: the first step with a
    result that is not finite, or `steps`; what comes after it means nothing. Programs of a grid get a room where they
    tell each other their sums, and a counter of those that have come to a meeting.

    Args:
        schedule: with one lane: nothing needs to be padded to whole registers.
        dtype: "float32" or "float64": of everything.
        stop_at: the result whose first value that is not finite is looked for.
        programs: how many share the samples.
    """
    if programs > 1:
        give_each_its_own(schedule)
    layout = lay_out(schedule, programs)
    builder = GpuBuilder(schedule, dtype, layout.scratch)
    exchange = GpuExchange(builder, layout) if programs > 1 else None
    kernel = _Writer(builder, layout, exchange, stop_at).kernel()
    return kernel, replace(layout, programs=programs, lanes=LARGEST_BLOCK, threads=32 * builder.warps)


class _Writer(Writer):
    """See `Writer`. Threads wait for each other where one may read what another has written."""

    builder: GpuBuilder

    def groups(self) -> list[list[Nest]]:
        return levels(self.builder.schedule.nests)

    def group(self, nests: list[Nest]) -> None:
        written = [write_nest(self.builder, nest) for nest in nests]
        met = self.exchange is not None and self.exchange(nests)
        if any(written) and not met:
            self.builder.barrier(SEEN)
        self.waits |= met or any(written)

    def scan(self, recurrence: Recurrence) -> None:
        super().scan(recurrence)
        self.builder.summed(set(recurrence.variables()))

    def results(self) -> None:
        builder = self.builder
        row, wait, every = map(builder.own, ("row", "wait", "every"))
        due = Op("eq", (wait, number(0)), BOOL)
        self.store_results(operation("and", due, self.is_first) if self.is_first else due)
        builder.assign(row, indices("where", due, shifted(row, self.layout.row), row))
        builder.assign(wait, shifted(indices("where", due, every, wait), -1))

    def finished(self, numbers: dict[str, Var]) -> Kernel:
        builder, programs = self.builder, self.layout.threads
        if self.stop_at is not None:
            builder.store("stopped", number(0), builder.own("taken"), mask=self.is_first)
        shared = ("room", "counter") if self.exchange else ()
        arguments = ("carry", "data", "scratch", "out", "stopped", *shared, *numbers)
        lanes = block_of(self.schedule.samples)
        return Kernel(builder.dtype, lanes, arguments, numbers, self.whole, warps=builder.warps, programs=programs)
