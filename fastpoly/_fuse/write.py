"""From a schedule to a kernel, the loop over the steps on the outside."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

from fastpoly_kernels.log import stage

from . import ir
from .blocks import groups, unit_of, write_group
from .builder import Builder, number, shifted
from .exchange import Exchange
from .expressions import Expr, Memory
from .in_turns import InTurns
from .ir import BOOL, FLOAT, Assign, Do, If, Kernel, Load, Loop, Op, Statement, Store, Var
from .layout import Layout, lay_out
from .nests import MOST_VARIABLES
from .plan import Nest
from .recurrences import Recurrence
from .schedule import Schedule
from .write_in_turns import write_in_turns


@stage("write")
def write(
    schedule: Schedule, dtype: str, stop_at: int | None = None, threads: int = 1, left: bool = False
) -> tuple[Kernel, Layout]:
    """The kernel of a schedule, and where its arguments' elements lie.

    Its arguments are carry: what goes from step to step; data: what never changes; scratch: room for what one step
    keeps; out: a row of results after `wait` steps and then after every `every` steps; how many steps to take, `every`
    and `wait`. It returns how many it took. Threads get a room where they tell each other their sums, a counter of
    those that have come to a meeting, and the thread's number.

    Args:
        dtype: "float32" or "float64": of everything.
        stop_at: the result that ends the run when it is not finite.
        threads: how many share the samples.
        left: are results that fill a memory in scratch left there?
    """
    layout = lay_out(schedule, threads, left)
    builder = Builder(schedule, dtype, layout.scratch)
    exchange = Exchange(builder, layout, unit_of(builder)) if threads > 1 else None
    kernel = Writer(builder, layout, exchange, stop_at).kernel()
    return kernel, replace(layout, scratch=builder.scratch)


class Writer:
    """A kernel while it is written.

    Attributes:
        waits: is anything written to memory in a step, so that no thread may begin the next one before the others?
    """

    def __init__(self, builder: Builder, layout: Layout, exchange: Exchange | None, stop_at: int | None) -> None:
        self.builder = builder
        self.schedule = builder.schedule
        self.layout = layout
        self.exchange = exchange
        self.stop_at = stop_at
        self.is_first = Op("eq", (exchange.me, number(0)), BOOL) if exchange else None
        self.whole: list[Statement] = []
        # where in `carry` each variable lies that goes from step to step
        self.places: dict[Var, ir.Expr] = {
            var: number(start + at)
            for node, (memory, start) in zip(self.schedule.graph.inputs, layout.carried, strict=True)
            if memory is None
            for at, var in enumerate(self.schedule.variables[node].values())
        }
        self.waits = self.in_memory = len(self.places) > MOST_VARIABLES

    def kernel(self) -> Kernel:
        """All of it."""
        builder, step = self.builder, self.builder.body
        loads: list[Statement] = [Assign(var, Load("carry", place, FLOAT)) for var, place in self.places.items()]
        if self.exchange:
            self.exchange.begin_step()
        if self.in_memory:
            step += loads
        self.nests(self.schedule)
        self.end()
        builder.body = self.whole
        if self.exchange:
            self.exchange.begin()
        steps, every, wait = map(builder.own, ("steps", "every", "wait"))
        builder.assign(builder.own("row"), builder.long_zero())
        if self.stop_at is not None:
            builder.assign(builder.own("taken"), steps)
        self.whole += [*([] if self.in_memory else loads), *builder.before]
        self.whole.append(Loop(builder.own("step"), number(0), steps, 1, step))
        if not self.in_memory:
            self.whole += [Store("carry", place, var) for var, place in self.places.items()]
        return self.finished({"steps": steps, "every": every, "wait": wait})

    def nests(self, schedule: Schedule) -> None:
        """What the nests of a schedule do, and its scans between them."""
        outer, self.builder.schedule = self.builder.schedule, schedule
        others = sorted([*schedule.recurrences, *schedule.in_turns], key=lambda other: other.level)
        for together in self.groups():
            while others and others[0].level < together[0].level:
                self.between(others.pop(0))
            self.group(together)
        for other in others:
            self.between(other)
        self.builder.schedule = outer

    def between(self, other: Recurrence | InTurns) -> None:
        """What stands between nests."""
        if isinstance(other, Recurrence):
            self.scan(other)
        else:
            write_in_turns(self.builder, other)

    def groups(self) -> list[list[Nest]]:
        """The nests of the builder's schedule in the order in which they run."""
        return groups(self.builder)

    def group(self, nests: list[Nest]) -> None:
        """Nests that need none of each other's sums."""
        write_group(self.builder, nests, self.exchange.span if self.exchange else None)
        if self.exchange:
            self.exchange(nests)

    def scan(self, recurrence: Recurrence) -> None:
        """The loop of a scan. What is named within it means nothing outside."""
        builder, iteration = self.builder, recurrence.iteration
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
            self.nests(iteration)
            outer, builder.schedule = builder.schedule, iteration
            builder.hoist(expr for _, expr in iteration.following)
            assign_together(builder, iteration.following, {})
            builder.schedule = outer
            if self.waits:
                builder.barrier("before the next iteration overwrites it")
        builder.names = names

    def end(self) -> None:
        """What comes after them: the test for divergence, the results, and the successors."""
        builder, results, successors = self.builder, self.schedule.results, self.schedule.successors
        values = (value for value in (*results, *successors) if not isinstance(value, Memory))
        builder.hoist(expr for value in values for expr in value.values())
        if self.stop_at is not None:
            value = results[self.stop_at]
            assert not isinstance(value, Memory)
            (loss,) = map(builder.value, value.values())
            builder.stop_unless(Op("isfinite", (loss,), BOOL))
        if results:
            self.results()
        assign_together(builder, self.schedule.changing(), self.places if self.in_memory else {})
        places = zip(successors, self.layout.carried, strict=True)
        moved = [(kept, start) for kept, (_, start) in places if isinstance(kept, Memory)]
        if moved:
            builder.barrier("a warp may be behind, and still read what is overwritten here")
        for memory, start in moved:
            builder.copy("carry", number(start), memory)
        if self.waits:
            builder.barrier("before the next step overwrites it")

    def results(self) -> None:
        """Write a row of results, if one is due."""
        builder = self.builder
        wait, row = builder.own("wait"), builder.own("row")
        with builder.into(If(Op("eq", (wait, number(0)), BOOL))):
            with builder.into(If(self.is_first)) if self.is_first else nullcontext():
                self.store_results()
            builder.assign(row, shifted(row, self.layout.row))
            builder.assign(wait, builder.own("every"))
        builder.assign(wait, shifted(wait, -1))

    def store_results(self, due: ir.Expr | None = None) -> None:
        """Write the results to a row of `out`, if they are `due`."""
        builder, row = self.builder, self.builder.own("row")
        places = [(value, start) for value, (_, start) in zip(self.schedule.results, self.layout.results, strict=True)]
        for value, start in places:
            if not isinstance(value, Memory):
                for at, expr in enumerate(value.values(), start):
                    builder.store("out", shifted(row, at), builder.value(expr), mask=due)
        memories = [(m, start) for m, start in places if isinstance(m, Memory) and not self.layout.is_left(m)]
        with builder.into(If(due)) if due and memories else nullcontext():
            for memory, start in memories:
                builder.copy("out", shifted(row, start), memory)

    def finished(self, numbers: dict[str, Var]) -> Kernel:
        """The kernel of these statements."""
        arguments = ("carry", "data", "scratch", "out", *numbers)
        if self.exchange:
            numbers["thread"] = self.exchange.me
            arguments = (*arguments, "room", "counter", "thread")
        body: list[Statement] = [Do("aligned_stack"), *self.whole]
        taken = self.builder.own("taken" if self.stop_at is not None else "steps")
        return Kernel(self.builder.dtype, self.schedule.lanes, arguments, numbers, body, taken)


def assign_together(builder: Builder, changes: list[tuple[Var, Expr]], places: dict[Var, ir.Expr]) -> None:
    """Let variables become what follows them, none before all that need it have read it."""
    values = [builder.value(expr) for _, expr in changes]
    needed: set[Var] = set()  # by those that come after
    following: dict[Var, Var] = {}
    for (var, _), value in zip(reversed(changes), reversed(values), strict=True):
        if var in needed or places:
            following[var] = Var(f"next_{var.name}", FLOAT)
        needed.update(ir.variables(value))
    for (var, expr), value in zip(changes, values, strict=True):
        builder.assign(following.get(var, var), value, expr)
    if places:
        builder.barrier("all have read what is overwritten here")
    for var, then in reversed(following.items()):
        if places:
            builder.store("carry", places[var], then)
        else:
            builder.assign(var, then)
