"""The pictures of `fastpoly profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..profiling.results import Ladder, LossProfile, RungResult, Split
from .plots import ACCENT, INK, MUTED, new_axes, new_figure, saved

PARTS = ("#d1495b", "#edae49", "#66a182", "#2e4057", "#8d96a3", "#00798c", "#d9d9d9")
"""A colour for each part of a step; neighbours differ in lightness, too."""


def waterfall(path: Path, ladder: Ladder) -> Path:
    """On the left what each change takes away from a step; on the right what a step then takes, a logarithmic axis."""
    rungs = ladder.measured
    figure = new_figure(11, 1.3 + 0.44 * len(rungs))
    left, right = (new_axes(axes) for axes in figure.subplots(1, 2, sharey=True, width_ratios=(3, 2)))
    positions = range(len(rungs) - 1, -1, -1)
    level = rungs[0].ns_per_step or 0.0
    for position, rung in zip(positions, rungs, strict=True):
        level = _fall(left, position, level, rung)
        _after(right, position, rung)
    names = [rung.name if rung.kept else f"({rung.name})" for rung in rungs]
    left.set_yticks(list(positions), names)
    left.set_xlabel("microseconds a step: what the change took away")
    right.set_xlabel("nanoseconds a step, after the change")
    right.set_xscale("log")
    times = [rung.ns_per_step or 0.0 for rung in rungs]
    right.set_xlim(min(times) / 3, max(times) * 30)
    low, high = left.get_xlim()
    left.set_xlim(min(low, 0), high + 0.14 * (high - low))  # room for the numbers
    for axes in (left, right):
        axes.grid(visible=False, axis="y")
    figure.suptitle("The post's autograd loop, one change at a time", x=0.01, ha="left", color=INK)
    note = (
        f"{ladder.precision} precision, {ladder.device}; dark: slower than before; in brackets: shown, and taken back"
    )
    figure.supxlabel(note, fontsize="small", color=INK, x=0.01, ha="left")
    return saved(figure, path)


def _fall(axes: Any, position: int, level: float, rung: RungResult) -> float:
    """The bar of a rung, in microseconds from `level` down by what it removed; where the next one starts."""
    removed = rung.removed_ns
    if removed is None:
        axes.barh(position, level / 1e3, height=0.6, color=INK)
        axes.annotate(f" {level / 1e3:,.1f}", (level / 1e3, position), va="center", color=INK)
        return level
    after = level - removed
    colour = MUTED if not rung.kept else ACCENT if removed >= 0 else INK
    hatch = {} if rung.kept else {"hatch": "////", "edgecolor": "white"}
    axes.barh(position, removed / 1e3, left=after / 1e3, height=0.6, color=colour, linewidth=0, **hatch)
    axes.annotate(f" {-removed / 1e3:+,.1f}", (max(level, after) / 1e3, position), va="center", color=INK)
    return after if rung.kept else level


def _after(axes: Any, position: int, rung: RungResult) -> None:
    ns = rung.ns_per_step or 0.0
    axes.plot([ns], [position], "o", color=ACCENT if rung.kept else MUTED, markersize=7)
    shown = f"{ns:,.0f}" if ns >= 100 else f"{ns:.1f}"
    axes.annotate(f"  {shown}", (ns, position), va="center", color=INK, xytext=(4, 0), textcoords="offset points")


def split_bar(path: Path, split: Split, of: str) -> Path:
    """One bar of parts, each named with its time."""
    figure = new_figure(10, 2.9)
    axes = new_axes(figure.subplots())
    shown = [part for part in split.parts if part.ns > 0]
    start = 0.0
    for part in shown:
        colour = PARTS[split.parts.index(part) % len(PARTS)]
        label = f"{part.part}: {part.ns / 1e3:,.1f} us, {100 * part.ns / split.total_ns:.0f} %"
        axes.barh(0, part.ns / 1e3, left=start / 1e3, height=0.6, color=colour, label=label)
        start += part.ns
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"microseconds of processor time, {of}")
    axes.set_xlim(0, start / 1e3)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize="small")
    return saved(figure, path)


def ways(path: Path, profile: LossProfile, name: str) -> Path:
    """A bar for each way of running a loss, on a logarithmic axis."""
    times = profile.ns_per_step
    figure = new_figure(8, 1.2 + 0.5 * len(times))
    axes = new_axes(figure.subplots())
    positions = range(len(times) - 1, -1, -1)
    for position, (way, ns) in zip(positions, times.items(), strict=True):
        axes.barh(position, ns, height=0.6, color=ACCENT if way == "fused" else INK)
        axes.annotate(f" {ns:,.0f} ns", (ns, position), va="center", color=INK)
    axes.set_yticks(list(positions), list(times))
    axes.set_xscale("log")
    axes.set_xlim(min(times.values()) / 3, max(times.values()) * 5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"nanoseconds a step of {name}")
    return saved(figure, path)
