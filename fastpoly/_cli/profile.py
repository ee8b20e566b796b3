"""`fastpoly profile`: where autograd's time goes, on the terminal and in a folder."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .._descend import descend
from .._errors import DivergenceWarning
from .._monitor import Progress
from .._problem import integer
from .._progress import new_bar
from .._tensors import need_torch
from ..profiling.results import Ladder, LossProfile, RungResult, Split
from ..profiling.rounds import MOST_ROUNDS, PARTS_ROUNDS, ROUNDS
from . import profile_plots
from .load import load_loss
from .write import existing, make_folder, replacing, write_json, wrote

POST = "a step of the post's autograd loop on the CPU"


def profile_post(out: Path, steps: int, rounds: int, precision: str, device: str, console: Console) -> Ladder:
    """The ladder and the split of the post's step; write ladder.json, ladder.png, split.png and trace.json."""
    need_torch()
    from ..profiling import autograd_ladder, step_split, write_trace
    from ..profiling.ladder import checked_problem, checked_steps

    checked_steps(steps)  # so that every mistake is told before there is a folder
    integer(rounds, "rounds", 1, MOST_ROUNDS)
    checked_problem(precision=precision, device=device)
    make_folder(out)

    def climbed(report: Progress | None) -> Ladder:
        return autograd_ladder(precision=precision, device=device, steps=steps, rounds=rounds, progress=report)

    ladder = _with_a_bar("climbing", climbed, console)
    console.print(ladder_table(ladder))
    _sentences(ladder, console)
    split = step_split(rounds=rounds * PARTS_ROUNDS // ROUNDS)
    console.print(split_table(split, POST))
    content = {**ladder.as_json(), "split": split.as_json(), "split_total_ns": split.total_ns}
    pictures = [
        lambda: profile_plots.waterfall(out / "ladder.png", ladder),
        lambda: profile_plots.split_bar(out / "split.png", split, POST),
    ]
    _write(out / "ladder.json", content, pictures, write_trace, console)
    return ladder


def profile_loss(name: str, out: Path, rounds: int, learn_rate: float | None, console: Console) -> LossProfile:
    """The three ways of a loss, and the split of its eager step; write profile.json, pictures and trace.json."""
    need_torch()
    from ..profiling import loss_profile, write_trace

    integer(rounds, "rounds", 1, MOST_ROUNDS)
    own = load_loss(name)
    rate = learn_rate if learn_rate is not None else 1e-3 if own.learn_rate is None else own.learn_rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)  # the profile tells it in its own words
        descend(own.loss, own.params, own.data, learn_rate=rate, steps=1, backend="eager")
    make_folder(out)
    with console.status("measuring: eager, compiled, fused"):
        profile = loss_profile(own.loss, own.params, own.data, learn_rate=rate, rounds=rounds)
    console.print(ways_table(profile))
    console.print(_gain(profile), highlight=False)
    console.print(split_table(profile.split, f"an eager step of {name}"))
    pictures = [
        lambda: profile_plots.ways(out / "ways.png", profile, name),
        lambda: profile_plots.split_bar(out / "split.png", profile.split, f"an eager step of {name}"),
    ]
    content = {"loss": name, "learn_rate": rate, **profile.as_json()}

    def trace(path: Path) -> Path:
        return write_trace(path, own.loss, own.params, own.data)

    _write(out / "profile.json", content, pictures, trace, console)
    return profile


def ladder_table(ladder: Ladder) -> Table:
    """A line for each rung: its time, what its change removed, and how far its weights are off."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("rung", no_wrap=True, style="bold")
    for heading in ("ns a step", "removed", "of first", "off by"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, rung in enumerate(ladder.rungs):
        name = rung.name if rung.kept else f"({rung.name})"
        if rung.ns_per_step is None:
            table.add_row(str(number), name, "-", style="dim")
            continue
        removed = rung.removed_ns
        table.add_row(
            str(number),
            name,
            ns(rung.ns_per_step),
            "" if removed is None else ns(removed),
            "" if removed is None else f"{100 * removed / ladder.first_ns:.1f} %",
            "" if not number or rung.deviation is None else f"{rung.deviation:.0e}",
        )
    return table


def ns(value: float) -> str:
    """Nanoseconds, as a table shows them."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def times(ratio: float) -> str:
    """A ratio, as a table shows it."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _sentences(ladder: Ladder, console: Console) -> None:
    """The sum, and for each rung what was changed and why it costs what it costs."""
    left = ladder.last.ns_per_step or 0.0
    console.print(
        f"{ladder.precision} precision on the {ladder.device}. In brackets: shown, and taken back. Removed by what was "
        f"kept: {ladder.explained_ns - left:,.0f} ns; left: {ns(left)} ns; together {100 * ladder.explained:.0f} % of "
        f"the {ladder.first_ns:,.0f} ns that the first rung takes by itself. Off by: the weights after "
        f"{ladder.check_steps:,} steps.\n",
        highlight=False,
    )
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()
    for number, rung in enumerate(ladder.rungs):
        grid.add_row(str(number), _said(rung))
    console.print(grid)


def _said(rung: RungResult) -> str:
    said = f"[bold]{escape(rung.name)}[/]: {escape(rung.change)}. {escape(rung.why)}"
    return said if rung.not_measured is None else f"{said} [dim]Not measured: {escape(rung.not_measured)}.[/]"


def split_table(split: Split, of: str) -> Table:
    """A line for each part of a step."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title_justify="left")
    table.add_column("part", no_wrap=True, style="bold")
    table.add_column("ns", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("from")
    for part in split.parts:
        share = f"{100 * part.ns / split.total_ns:.1f} %"
        table.add_row(part.part, f"{part.ns:,.0f}", share, escape(part.source))
    table.add_section()
    table.add_row("all", f"{split.total_ns:,.0f}", "100 %", f"measured: {escape(of)}, processor time")
    return table


def ways_table(profile: LossProfile) -> Table:
    """A line for each way of running a loss."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("way", no_wrap=True, style="bold")
    for heading in ("ns a step", "x eager", "to begin"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for way in ("eager", "compile", "fused"):
        if way in profile.not_measured:
            table.add_row(way, "-", "", "", escape(profile.not_measured[way]))
            continue
        step = profile.ns_per_step[way]
        begun = f"{profile.begin_seconds[way]:.2g} s" if way != "eager" else ""
        table.add_row(way, ns(step), times(profile.ns_per_step["eager"] / step), begun, "")
    return table


def _gain(profile: LossProfile) -> str:
    if profile.gain is None:
        return "This loss cannot be fused as it stands; the line above says what stands in the way."
    if profile.pays_after is None:
        return "Fusing does not make a step of this loss faster."
    return (
        f"Fusing makes a step {times(profile.gain)} times faster, and has won back its beginning after "
        f"{profile.pays_after:,} steps: fastpoly.descend(loss, params, data, ...)."
    )


def _with_a_bar(what: str, run: Callable[[Progress | None], Ladder], console: Console) -> Ladder:
    if not console.is_terminal:
        return run(None)
    with new_bar(console) as columns:
        task = columns.add_task(what, total=None)
        return run(lambda done, of: columns.update(task, completed=done, total=of))


def _write(
    path: Path,
    content: dict[str, Any],
    pictures: Sequence[Callable[[], Path]],
    trace: Callable[[Path], Path],
    console: Console,
) -> None:
    names = (path.name, "trace.json", "ladder.png", "ways.png", "split.png")
    before = existing(path.with_name(name) for name in names)
    written = [write_json(path, {**content, "versions": _versions()}), path.with_name("trace.json")]
    with replacing(written[1]) as new:
        trace(new)
    try:
        written += [draw() for draw in pictures]
    except ModuleNotFoundError as error:
        console.print(f"no pictures: {error}", markup=False, highlight=False)
    console.print(wrote(written, before), soft_wrap=True, markup=False, highlight=False)


def _versions() -> dict[str, str]:
    import platform

    return {"python": platform.python_version(), "torch": sys.modules["torch"].__version__}
