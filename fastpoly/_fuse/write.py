"""From a schedule to a kernel, the loop over the steps on the outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import reduce

from fastpoly_kernels.log import stage

from . import ir
from .blocks import groups, write_group
from .builder import Builder, number, shifted
from .expressions import Axis, Expr, Index, Memory
from .ir import BOOL, FLOAT, INDEX, Do, If, Kernel, Load, Loop, Op, Statement, Store, Var
from .layout import Layout, lay_out
from .nests import MOST_VARIABLES
from .plan import Nest
from .recurrences import Recurrence
from .schedule import Schedule
from .turns import Part

Place = tuple[str, ir.Expr]
"""A buffer, and an index in it."""


@stage("write")
def write(schedule: Schedule, dtype: str, stop_at: int | None = None, threads: int = 1) -> tuple[Kernel, Layout]:
    """The kernel of a schedule, and where its arguments' elements lie.

    Its arguments are carry: what goes from step to step; data: what never changes; scratch: room for what one step
    keeps; out: a row of results after `wait` steps and then after every `every` steps; how many steps to take, `every`
    and `wait`. It returns how many it took. Threads get a room where they tell each other their sums, a counter of
    those that have come to a meeting, and the thread's number.

    Args:
        dtype: "float32" or "float64": of everything.
        stop_at: the result that ends the run when it is not finite.
        threads: how many share the samples.
    """
    layout = lay_out(schedule, threads)
    builder = Builder(schedule, dtype, layout.scratch)
    places = places_of(schedule, layout)
    in_memory = len(places) > MOST_VARIABLES
    exchange = _Exchange(builder, layout) if threads > 1 else None
    body = builder.body
    if in_memory:
        body += loaded(places)
    if exchange:
        exchange.begin_step()
    write_nests(builder, schedule, exchange.span if exchange else None, exchange)
    write_end(builder, layout, stop_at, places if in_memory else {}, _write_results)
    taken = builder.own("taken")
    builder.assign(taken, shifted(taken, 1))

    builder.body = whole = [Do("aligned_stack"), *([] if in_memory else loaded(places)), *builder.before]
    if exchange:
        exchange.begin()
    builder.assign(builder.own("row"), number(0))
    builder.assign(taken, number(0))
    numbers = numbers_of(builder, *(["thread"] if threads > 1 else []))
    whole.append(Loop(builder.own("step"), number(0), numbers["steps"], 1, body))
    if not in_memory:
        whole += [Store("carry", place, var) for var, place in places.items()]
    shared = ("room", "counter", "thread") if threads > 1 else ()
    arguments = ("carry", "data", "scratch", "out", "steps", "every", "wait", *shared)
    kernel = Kernel(dtype, schedule.lanes, arguments, numbers, whole, taken)
    return kernel, replace(layout, scratch=builder.scratch)


def places_of(schedule: Schedule, layout: Layout) -> dict[Var, ir.Expr]:
    """Where in `carry` each variable lies that goes from step to step."""
    return {
        var: number(start + at)
        for node, (memory, start) in zip(schedule.graph.inputs, layout.carried, strict=True)
        if memory is None
        for at, var in enumerate(schedule.variables[node].values())
    }


def loaded(places: dict[Var, ir.Expr]) -> list[Statement]:
    """Statements that load them."""
    return [ir.Assign(var, Load("carry", place, FLOAT)) for var, place in places.items()]


def numbers_of(builder: Builder, *others: str) -> dict[str, Var]:
    """A kernel's arguments that are numbers."""
    return {name: builder.own(name) for name in ("steps", "every", "wait", *others)}


def write_nests(
    builder: Builder, schedule: Schedule, part: Part | None, after: Callable[[Sequence[Nest]], None] | None = None
) -> None:
    """Write what the nests of a schedule do, where the builder is.

    Args:
        part: the samples to take, if not all.
        after: called with nests that have been written and need each other's sums no longer.
    """
    outer, builder.schedule = builder.schedule, schedule
    recurrences = list(schedule.recurrences)
    for together in groups(builder):
        while recurrences and recurrences[0].level < together[0].level:
            _write_recurrence(builder, recurrences.pop(0))
        write_group(builder, together, part)
        if after:
            after(together)
    for recurrence in recurrences:
        _write_recurrence(builder, recurrence)
    builder.schedule = outer


def _write_recurrence(builder: Builder, recurrence: Recurrence) -> None:
    """Write the loop of a scan. What is named within it means nothing outside."""
    iteration = recurrence.iteration
    fixed = recurrence.fixed(builder.resolved)
    builder.hoist([*fixed, *(start for _, start in recurrence.starts)])
    for expr in fixed:
        if expr not in builder.names:
            builder.name(expr, before=expr.invariant)
    for var, start in recurrence.starts:
        builder.assign(var, builder.value(start))
    count = iteration.scan.count
    turns = (number(count - 1), number(-1), -1) if iteration.scan.backwards else (number(0), number(count), 1)
    names = dict(builder.names)
    with builder.loop(iteration.time.name, *turns):
        write_nests(builder, iteration, None)
        outer, builder.schedule = builder.schedule, iteration
        builder.hoist(expr for _, expr in iteration.following)
        assign_together(builder, iteration.following, {})
        builder.schedule = outer
    builder.names = names


class _Exchange:
    """Threads that add up what they have summed over their samples; all of them get the same sums, bit for bit."""

    def __init__(self, builder: Builder, layout: Layout) -> None:
        self.builder = builder
        self.layout = layout
        self.span = builder.own("first"), builder.own("last")
        self.taken = 0  # of the threads' room, in this step

    def begin(self) -> None:
        """Before all steps: which samples are this thread's."""
        builder, schedule = self.builder, self.builder.schedule
        registers, lanes = number(-(-schedule.samples // schedule.lanes)), number(schedule.lanes)
        thread, threads = builder.own("thread"), number(self.layout.threads)
        first, last = self.span
        for bound, of in ((first, thread), (last, shifted(thread, 1))):
            share = Op("floordiv", (Op("mul", (registers, of), INDEX), threads), INDEX)
            builder.assign(bound, Op("mul", (share, lanes), INDEX), "this thread's samples")
        builder.assign(builder.own("met"), number(0))

    def begin_step(self) -> None:
        """Two rooms in turn: a thread that is a step ahead must not overwrite what another still reads."""
        builder, room = self.builder, self.layout.room
        odd = Op("and", (builder.own("step"), number(1)), INDEX)
        side = builder.assign(builder.own("side"), Op("mul", (odd, number(self.layout.threads * room)), INDEX))
        own = Op("mul", (builder.own("thread"), number(room)), INDEX)
        builder.assign(builder.own("mine"), Op("add", (side, own), INDEX))

    def __call__(self, nests: Sequence[Nest]) -> None:
        """Add up the sums of these nests."""
        builder = self.builder
        sums = builder.schedule.shared(nests)
        if not sums:
            return
        variables = [root for root in sums if root.memory is None]
        memories = {root.memory: root.kind for root in sums if root.memory is not None}
        mine = builder.own("mine")
        for at, root in enumerate(variables, self.taken):
            builder.store("room", _sum(mine, number(at)), root.var)
        start = self.taken + len(variables)
        blocks: list[tuple[Memory, str, int]] = []
        for memory, kind in memories.items():
            blocks.append((memory, kind, start))
            builder.copy("room", _sum(mine, number(start)), memory)
            start += memory.size
        met = builder.own("met")
        builder.assign(met, _sum(met, number(self.layout.threads)))
        builder.body.append(Do("meet", "counter", (met,)))
        for at, root in enumerate(variables, self.taken):
            builder.assign(root.var, self._total(root.kind, number(at)))
        for memory, kind, first in blocks:
            axis, everywhere = _elements(memory)
            with builder.loop(axis.name, number(0), number(memory.size)) as i:
                total = self._total(kind, number(first), i)
                builder.store(memory.region, builder.place(memory, everywhere), total)
        self.taken = start

    def _total(self, kind: str, *at: ir.Expr) -> ir.Expr:
        """What all threads have at a place of their rooms, together."""
        builder, side, room = self.builder, self.builder.own("side"), self.layout.room
        starts = [side, *(_sum(side, number(thread * room)) for thread in range(1, self.layout.threads))]
        total: ir.Expr | None = None
        for start in starts:
            value = Load("room", reduce(_sum, at, start), FLOAT)
            total = value if total is None else builder.operation(kind, total, value)
        assert total is not None
        return total


def _sum(one: ir.Expr, other: ir.Expr) -> ir.Expr:
    return Op("add", (one, other), INDEX)


def _elements(memory: Memory) -> tuple[Axis, Index]:
    """An axis through all elements of a memory, one after the other, and where that is from its start on."""
    axis = Axis("i", memory.size)
    return axis, Index.of(axis)


def write_end(
    builder: Builder,
    layout: Layout,
    stop_at: int | None,
    places: dict[Var, ir.Expr],
    write_results: Callable[[Builder, Layout], None],
) -> None:
    """What comes after the nests: the test for divergence, the results, and the successors.

    `places` are those in `carry` of variables that are stored in every step.
    """
    schedule = builder.schedule
    results, successors = schedule.results, schedule.successors
    builder.hoist(expr for value in (*results, *successors) if not isinstance(value, Memory) for expr in value.values())
    if stop_at is not None:
        value = results[stop_at]
        assert not isinstance(value, Memory)
        (loss,) = map(builder.value, value.values())
        builder.stop_unless(Op("isfinite", (loss,), BOOL))
    if results:
        write_results(builder, layout)
    assign_together(builder, schedule.changing(), places)
    moved = [
        (kept, start) for kept, (_, start) in zip(successors, layout.carried, strict=True) if isinstance(kept, Memory)
    ]
    if moved:
        builder.barrier("a warp may be behind, and still read what is overwritten here")
    for memory, start in moved:
        builder.copy("carry", number(start), memory)


def assign_together(builder: Builder, changes: list[tuple[Var, Expr]], places: dict[Var, ir.Expr]) -> None:
    """Let variables become what follows them, none before all that need it have read it."""
    values = [builder.value(expr) for _, expr in changes]
    needed: set[Var] = set()  # by those that come after
    following: list[ir.Expr] = [*values]
    for at in reversed(range(len(changes))):
        var, expr = changes[at]
        if var in needed or places:
            following[at] = Var(f"next_{var.name}", FLOAT)
        needed.update(ir.variables(values[at]))
    for then, value, (var, expr) in zip(following, values, changes, strict=True):
        if isinstance(then, Var) and then is not value:
            builder.assign(then, value, expr)
        else:
            builder.assign(var, value, expr)
    if places:
        builder.barrier("all have read what is overwritten here")
    for then, value, (var, _) in zip(following, values, changes, strict=True):
        if places:
            builder.store("carry", places[var], then)
        elif isinstance(then, Var) and then is not value:
            builder.assign(var, then)


def _write_results(builder: Builder, layout: Layout) -> None:
    wait, row = builder.own("wait"), builder.own("row")
    with builder.into(If(Op("eq", (wait, number(0)), BOOL))):
        if layout.threads > 1:
            with builder.into(If(Op("eq", (builder.own("thread"), number(0)), BOOL))):
                store_results(builder, layout)
        else:
            store_results(builder, layout)
        builder.assign(row, _sum(row, number(layout.row)))
        builder.assign(wait, builder.own("every"))
    builder.assign(wait, Op("sub", (wait, number(1)), INDEX))


def store_results(builder: Builder, layout: Layout, due: ir.Expr | None = None) -> None:
    """Write the results to a row of `out`, if they are due."""
    row = builder.own("row")
    places = [(value, start) for value, (_, start) in zip(builder.schedule.results, layout.results, strict=True)]
    for value, start in places:
        if not isinstance(value, Memory):
            for at, expr in enumerate(value.values(), start):
                builder.store("out", shifted(row, at), builder.value(expr), mask=due)
    memories = [(value, start) for value, start in places if isinstance(value, Memory)]
    with builder.into(If(due)) if due and memories else nullcontext():
        for memory, start in memories:
            builder.copy("out", shifted(row, start), memory)
