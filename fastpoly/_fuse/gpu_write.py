"""From a schedule to a GPU's kernel: one program takes all the steps, or several share the samples."""

from __future__ import annotations

import itertools
from dataclasses import replace

from fastpoly_kernels.log import stage

from .builder import Builder, indices, number, shifted
from .gpu_builder import LARGEST_BLOCK, SEEN, GpuBuilder, block_of
from .gpu_grid import Exchange, give_each_its_own
from .gpu_nests import write_nest
from .ir import BOOL, Kernel, Loop, Op, Store, operation
from .layout import Layout, lay_out
from .nests import MOST_VARIABLES
from .schedule import Schedule
from .write import loaded, numbers_of, places_of, store_results, write_end


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
    layout = replace(lay_out(schedule, programs), programs=programs)
    builder = GpuBuilder(schedule, dtype, layout.scratch)
    exchange = Exchange(builder, layout) if programs > 1 else None
    places = places_of(schedule, layout)
    in_memory = len(places) > MOST_VARIABLES
    step = builder.body
    if exchange:
        exchange.begin_step()
    if in_memory:
        step += loaded(places)
    waits = in_memory
    for _, level in itertools.groupby(schedule.nests, key=lambda nest: nest.level):
        nests = list(level)
        written = [write_nest(builder, nest) for nest in nests]
        if exchange and exchange(nests):
            waits = True
        elif any(written):
            builder.barrier(SEEN)
            waits = True
    write_end(builder, layout, stop_at, places if in_memory else {}, _write_results)
    if waits:
        builder.barrier("before the next step overwrites it")

    builder.body = whole = []
    if exchange:
        exchange.begin()
    whole += [*([] if in_memory else loaded(places)), *builder.before]
    numbers = numbers_of(builder)
    builder.assign(builder.own("row"), indices("wide", number(0)), "long results leave 32 bits")
    if stop_at is not None:
        builder.assign(builder.own("first"), numbers["steps"])
    whole.append(Loop(builder.own("step"), number(0), numbers["steps"], 1, step))
    if not in_memory:
        whole += [Store("carry", place, var) for var, place in places.items()]
    if stop_at is not None:
        is_first = Op("eq", (exchange.program, number(0)), BOOL) if exchange else None
        builder.store("stopped", number(0), builder.own("first"), mask=is_first)
    arguments = ("carry", "data", "scratch", "out", "stopped", *(("room", "counter") if exchange else ()), *numbers)
    kernel = Kernel(
        dtype, block_of(schedule.samples), arguments, numbers, whole, warps=builder.warps, programs=programs
    )
    return kernel, replace(layout, lanes=LARGEST_BLOCK, threads=32 * builder.warps)


def _write_results(builder: Builder, layout: Layout) -> None:
    row, wait, every = map(builder.own, ("row", "wait", "every"))
    now = due = Op("eq", (wait, number(0)), BOOL)
    if layout.programs > 1:
        due = operation("and", now, Op("eq", (builder.own("program"), number(0)), BOOL))
    store_results(builder, layout, due)
    builder.assign(row, indices("where", now, shifted(row, layout.row), row))
    builder.assign(wait, indices("sub", indices("where", now, every, wait), number(1)))
