"""From a schedule to the text of a Triton kernel: one program takes all the steps, or several share the samples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from fastpoly_kernels.log import stage

from .expressions import Memory
from .gpu_grid import Exchange, give_each_its_own
from .gpu_nests import write_nest
from .gpu_page import LARGEST_BLOCK, GpuPage
from .ir import Var
from .layout import Layout, lay_out
from .naming import WIDE
from .nests import MOST_VARIABLES
from .schedule import Schedule
from .write import changing

DOC = '''    """Take `steps` steps in {dtype}, in {programs} of {warps} warp{plural}.

    carry: what goes from step to step; data: what never changes; scratch: room for what one step keeps.
    out: a row of results after `wait` steps and then after every `every` steps.
    stopped: the first step with a result that is not finite, or `steps`; what comes after it means nothing.{shared}
    """'''

SHARED = """
    room: where programs tell each other their sums; counter: how many have come to a meeting."""


@stage("write")
def write(schedule: Schedule, dtype: str, stop_at: int | None = None, programs: int = 1) -> tuple[str, Layout]:
    """The kernel of a schedule as text, and where its arguments' elements lie.

    Args:
        schedule: with one lane: nothing needs to be padded to whole registers.
        dtype: "float32" or "float64": of everything.
        stop_at: the result whose first value that is not finite is looked for.
        programs: how many share the samples.
    """
    if programs > 1:
        give_each_its_own(schedule)
    layout = replace(lay_out(schedule, programs), programs=programs)
    page = GpuPage(schedule, dtype, layout.scratch, programs)
    exchange = Exchange(page, layout) if programs > 1 else None
    page.indent = 2
    variables = {
        var: f"carry + {start + at}"
        for node, (memory, start) in zip(schedule.graph.inputs, layout.carried, strict=True)
        if memory is None
        for at, var in enumerate(schedule.variables[node].values())
    }
    for var in variables:  # they have their own names before anything else has them
        page.called(var)
    in_memory = len(variables) > MOST_VARIABLES
    if exchange:
        exchange.begin_step()
    if in_memory:
        for var, place in variables.items():
            page.line(f"{page.called(var)} = tl.load({place})")
    waits = in_memory
    for _, level in itertools.groupby(schedule.nests, key=lambda nest: nest.level):
        nests = list(level)
        written = [write_nest(page, nest) for nest in nests]
        if exchange and exchange(nests):
            waits = True
        elif any(written):
            page.line("tl.debug_barrier()  # until every thread sees what was written")
            waits = True
    _write_end(page, layout, stop_at, variables, in_memory)
    if waits:
        page.line("tl.debug_barrier()  # before the next step overwrites it")
    step, page.lines, page.indent = page.lines, [], 1

    if exchange:
        exchange.begin()
    if not in_memory:
        for var, place in variables.items():
            page.line(f"{page.called(var)} = tl.load({place})")
    for line in page.before:
        page.line(line)
    page.line("row = tl.full([], 0, tl.int64)")  # long results leave 32 bits
    if stop_at is not None:
        page.line("first = steps")
    page.line("for step in range(steps):")
    page.lines += step
    if not in_memory:
        for var, place in variables.items():
            page.line(f"tl.store({place}, {page.called(var)})")
    if stop_at is not None:
        page.line(f"tl.store(stopped, first{', mask=program == 0' if exchange else ''})")

    warps, shared = page.warps, "room, counter, " if exchange else ""
    layout = replace(layout, lanes=LARGEST_BLOCK, threads=32 * warps)
    combining = [line for kinds, name in page.combines.items() for line in _combining(page, name, kinds)]
    lines = [
        *page.imports(),
        "",
        "",
        *combining,
        '@triton.jit(do_not_specialize=["steps", "every", "wait"])',
        f"def kernel(carry, data, scratch, out, stopped, {shared}steps, every, wait):",
        DOC.format(
            dtype=dtype,
            programs=f"{programs} programs" if exchange else "one program",
            warps=warps,
            plural="s" if warps > 1 else "",
            shared=SHARED if exchange else "",
        ),
        *page.lines,
    ]
    return "\n".join(lines) + "\n", layout


def _combining(page: GpuPage, name: str, kinds: Sequence[str]) -> list[str]:
    """A function that combines two lots of sums (products, ...) of these kinds."""
    ones, others = ([f"{letter}{n}" for n in range(len(kinds))] for letter in "ab")
    results = ", ".join(page.combined(*parts) for parts in zip(kinds, ones, others, strict=True))
    return ["@triton.jit", f"def {name}({', '.join(ones)}, {', '.join(others)}):", f"    return {results}", "", ""]


def _write_end(page: GpuPage, layout: Layout, stop_at: int | None, variables: dict[Var, str], in_memory: bool) -> None:
    """What comes after the nests: the look for divergence, the results, and the successors."""
    schedule = page.schedule
    results, successors = schedule.results, schedule.successors
    page.hoist(expr for value in (*results, *successors) if not isinstance(value, Memory) for expr in value.values())
    if stop_at is not None:
        value = results[stop_at]
        assert not isinstance(value, Memory)
        (text,) = map(page.value, value.values())
        page.line(f"first = tl.where((tl.abs({text}) < float('inf')) | (first < step), first, step)")
    if results:
        _write_results(page, layout)
    changes = [(var, page.value(expr), expr) for var, expr in changing(schedule)]
    together = f"{', '.join(page.called(var) for var, _, _ in changes)} = {', '.join(text for _, text, _ in changes)}"
    if changes and len(together) <= WIDE and not in_memory:
        page.line(together)
    else:  # none may change before all are known
        following = {var: page.early[var] for var, _, _ in changes if var in page.early}
        for var, text, expr in changes:
            if var not in following:
                following[var] = page.new_name(f"next_{var.name}")
                page.line(f"{following[var]} = {text}", expr)
        if in_memory:
            page.line("tl.debug_barrier()")
        for var, then in following.items():
            page.line(f"tl.store({variables[var]}, {then})" if in_memory else f"{page.called(var)} = {then}")
    moved = [
        (value, start)
        for value, (memory, start) in zip(successors, layout.carried, strict=True)
        if isinstance(value, Memory) and memory is not None
    ]
    if moved:
        page.line("tl.debug_barrier()  # a warp may be behind, and still read what is overwritten here")
    for value, start in moved:
        _copy(page, "carry", str(start), value)


def _write_results(page: GpuPage, layout: Layout) -> None:
    scalars = [
        (at, expr)
        for value, (_, start) in zip(page.schedule.results, layout.results, strict=True)
        if not isinstance(value, Memory)
        for at, expr in enumerate(value.values(), start)
    ]
    due = "(wait == 0) & (program == 0)" if layout.programs > 1 else "wait == 0"
    for at, expr in scalars:
        page.line(f"tl.store(out + row{f' + {at}' if at else ''}, {page.value(expr)}, mask={due})")
    blocks = [
        (value, start)
        for value, (_, start) in zip(page.schedule.results, layout.results, strict=True)
        if isinstance(value, Memory)
    ]
    if blocks:
        with page.block(f"if {due}:"):
            for value, start in blocks:
                _copy(page, "out", f"row + {start}", value)
    page.line(f"row = tl.where(wait == 0, row + {layout.row}, row)")
    page.line("wait = tl.where(wait == 0, every, wait) - 1")


def _copy(page: GpuPage, to: str, start: str, memory: Memory) -> None:
    """Copy what a step keeps."""
    with page.elements(memory) as mask:
        page.line(f"value = tl.load({memory.region} + {memory.start} + at, mask={mask}, other=0.0)")
        page.line(f"tl.store({to} + {start} + at, value, mask={mask})")
