"""From a schedule to the text of a Python function, the loop over the steps on the outside: `read` has its language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fastpoly_kernels.log import stage

from .blocks import groups, write_group
from .expressions import Expr, Memory
from .layout import Layout, lay_out
from .nests import MOST_VARIABLES, combined
from .page import WIDE, Page
from .schedule import Accumulate, Schedule

DOC = '''    """Take `steps` steps in {dtype}: one loop of machine code, which numba would make of it, too.

    carry: what goes from step to step; data: what never changes; scratch: room for what one step keeps.
    out: a row of results after `wait` steps and then after every `every` steps.
    Axes with a loop: i, along which {lanes} elements are taken at a time, and j and k. All others are written out.
    """'''


@stage("write")
def write(schedule: Schedule, dtype: str, stop_at: int | None = None, threads: int = 1) -> tuple[str, Layout]:
    """The kernel of a schedule as text, and where its arguments' elements lie.

    Args:
        dtype: "float32" or "float64": of everything.
        stop_at: the result that ends the run when it is not finite.
        threads: how many share the samples.
    """
    layout = lay_out(schedule, threads)
    page = Page(schedule, dtype, layout.scratch)
    page.indent = 2
    variables = {
        name: f"carry[{start + at}]"
        for node, (memory, start) in zip(schedule.graph.inputs, layout.carried, strict=True)
        if memory is None
        for at, name in enumerate(schedule.variables[node].values())
    }
    if len(variables) > MOST_VARIABLES:
        for name, place in variables.items():
            page.line(f"{name} = {place}")
    if threads > 1:
        # two rooms in turn: a thread that is a step ahead must not overwrite what another still reads
        page.line(f"side = (step & 1) * {threads * layout.room}")
        page.line(f"mine = side + thread * {layout.room}")
    room = 0
    part = ("first", "last") if threads > 1 else None
    for together in groups(page):
        write_group(page, together, part)
        if threads > 1:
            room = _exchange(page, schedule.shared(together), room, layout)
    _write_end(page, layout, stop_at, variables)
    step, page.lines, page.indent = page.lines, [], 1

    page.line(f"{page.use('aligned_stack')}()")
    if len(variables) > MOST_VARIABLES:
        variables = {}
    for name, place in variables.items():
        page.line(f"{name} = {place}")
    for line in page.before:
        page.line(line)
    if threads > 1:
        registers = -(-schedule.samples // schedule.lanes)
        page.line(f"first = {registers} * thread // {threads} * {schedule.lanes}  # this thread's samples: from here")
        page.line(f"last = {registers} * (thread + 1) // {threads} * {schedule.lanes}  # to here")
        page.line("met = 0")
    page.line("row = taken = 0")
    page.line("for step in range(steps):")
    page.lines += step
    for name, place in variables.items():
        page.line(f"{place} = {name}")
    page.line("return taken")

    shared = ", room, counter, thread" if threads > 1 else ""
    head = f"def kernel(carry, data, scratch, out, steps, every, wait{shared}):"
    lines = [*page.imports(), "", "", head, DOC.format(dtype=dtype, lanes=schedule.lanes), *page.lines]
    return "\n".join(lines) + "\n", replace(layout, scratch=page.scratch)


def _exchange(page: Page, sums: list[Accumulate], start: int, layout: Layout) -> int:
    """Add up what the threads have summed over their samples; all of them get the same sums, bit for bit.

    Returns where the next exchange may begin in the threads' room.
    """
    if not sums:
        return start
    variables = [(root.name, root.kind) for root in sums if root.memory is None]
    memories = {root.memory: root.kind for root in sums if root.memory is not None}
    places = [(name, kind, str(start + at)) for at, (name, kind) in enumerate(variables)]
    start += len(variables)
    for name, _, at in places:
        page.line(f"room[mine + {at}] = {name}")
    blocks: list[tuple[Memory, str, int]] = []
    for memory, kind in memories.items():
        blocks.append((memory, kind, start))
        _copy(page, "room", f"mine + {start}", f"scratch[{memory.start} + i]", memory.size)
        start += memory.size
    page.line(f"met += {layout.threads}")
    page.line(f"{page.use('meet')}(counter, met)")

    def added(kind: str, at: str) -> str:
        total = f"room[side + {at}]"
        for thread in range(1, layout.threads):
            total = combined(page, kind, total, f"room[side + {thread * layout.room} + {at}]")
        return total

    for name, kind, at in places:
        page.line(f"{name} = {added(kind, at)}")
    for memory, kind, first in blocks:
        _copy(page, "scratch", str(memory.start), added(kind, f"{first} + i"), memory.size)
    return start


def _write_end(page: Page, layout: Layout, stop_at: int | None, variables: dict[str, str]) -> None:
    """What comes after the nests: the test for divergence, the results, and the successors.

    `variables` are what steps carry in variables, each with its place in `carry`.
    """
    schedule = page.schedule
    results, successors = schedule.results, schedule.successors
    page.hoist(expr for value in (*results, *successors) if not isinstance(value, Memory) for expr in value.values())
    if stop_at is not None:
        value = results[stop_at]
        assert not isinstance(value, Memory)
        page.use("math")
        with page.block(f"if not math.isfinite({', '.join(map(page.text, value.values()))}):"):
            page.line("break")
    if results:
        with page.block("if wait == 0:"):
            if layout.threads > 1:
                with page.block("if thread == 0:"):
                    _write_results(page, layout)
            else:
                _write_results(page, layout)
            page.line(f"row += {layout.row}")
            page.line("wait = every")
        page.line("wait -= 1")
    changes = changing(page, page.text)
    together = f"{', '.join(name for name, _, _ in changes)} = {', '.join(text for _, text, _ in changes)}"
    if changes and len(together) <= WIDE:
        page.line(together)
    else:  # none may change before all are known
        for name, then in computed(page, changes):
            page.line(f"{name if len(variables) <= MOST_VARIABLES else variables[name]} = {then}")
    for value, (memory, start) in zip(successors, layout.carried, strict=True):
        if isinstance(value, Memory) and memory is not None:
            _copy(page, "carry", str(start), f"scratch[{value.start} + i]", value.size)
    page.line("taken += 1")


Change = tuple[str, str, Expr]
"""A variable, and its successor as text and as what that stands for."""


def changing(page: Page, text_of: Callable[[Expr], str]) -> list[Change]:
    """The variables that the step changes."""
    schedule = page.schedule
    return [
        (name, text, expr)
        for node, value in zip(schedule.graph.inputs, schedule.successors, strict=True)
        if not isinstance(value, Memory)
        for name, expr in zip(schedule.variables[node].values(), value.values(), strict=True)
        if (text := text_of(expr)) != name
    ]


def computed(page: Page, changes: list[Change]) -> list[tuple[str, str]]:
    """Write the successors under names of their own; return each variable with that name."""
    following = [page.schedule.new_name(f"next_{name}") for name, _, _ in changes]
    for then, (_, text, expr) in zip(following, changes, strict=True):
        page.line(f"{then} = {text}", expr)
    return [(name, then) for then, (name, _, _) in zip(following, changes, strict=True)]


def _write_results(page: Page, layout: Layout) -> None:
    for value, (_, start) in zip(page.schedule.results, layout.results, strict=True):
        if isinstance(value, Memory):
            _copy(page, "out", f"row + {start}" if start else "row", f"scratch[{value.start} + i]", value.size)
            continue
        for at, expr in enumerate(value.values(), start):
            page.line(f"out[row + {at}] = {page.text(expr)}" if at else f"out[row] = {page.text(expr)}")


def _copy(page: Page, to: str, start: str, element: str, count: int) -> None:
    with page.block(f"for i in range({count}):"):
        page.line(f"{to}[{start} + i] = {element}")
