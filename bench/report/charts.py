"""The report's pictures, drawn by matplotlib for a column as wide as a phone; each is a Figure.

Labels stand at what they name, so there are no legends; a name above its bar takes no width away from it. Texts are
taken as they are: a dollar sign in a name is no mathematics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .curves import MEASURES, SIZES, Crossover, Curve
from .figures import nanoseconds, seconds, tick, tick_count
from .results import Part, Rung, Timing
from .svg import PALETTE
from .tables import is_ours, label, rung_name

INK, QUIET, LINE, ACCENT, SHORT, PAPER = (
    PALETTE[name] for name in ("ink", "quiet", "line", "accent", "short", "paper")
)
WIDTH = 5.4
"""Inches of 72 units: at 360 pixels, a phone's, text of 11 units is 10 pixels high."""

TEXT, ROW, MARGIN = 11, 0.46, 0.55  # units, inches a row, inches for an axis


def _figure(height: float, left: float = 0.0, right: float = 1.0, bottom: float = MARGIN, top: float = 0.08) -> Any:
    """A figure and its only axes, which fill it but for `bottom` and `top` inches and parts of its width."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib; pip install 'fastpoly[plot]'", name=error.name) from error
    figure = Figure(figsize=(WIDTH, height), dpi=72)
    axes = figure.add_axes((left, bottom / height, right - left, 1 - (bottom + top) / height))
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=QUIET, labelsize=TEXT - 1, length=0, which="both")
    axes.set_axisbelow(True)
    return figure, axes


def _write(axes: Any, x: float, y: float, text: str, colour: str = INK, **options: Any) -> None:
    axes.annotate(text, (x, y), color=colour, fontsize=TEXT, parse_math=False, annotation_clip=False, **options)


def _decades(axis: Any, shown: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axis.set_minor_formatter(NullFormatter())


def then_and_now(timings: Sequence[Timing]) -> Any:
    """Seconds on a logarithmic line: a ring as published, a dot as measured, fastpoly's in the accent."""
    shown = [t for t in timings if t.seconds]
    figure, axes = _figure(ROW * len(shown) + MARGIN + 0.1)
    values = [v for t in shown for v in (t.seconds, t.published) if v]
    low, high = min(values) / 1.6, max(values) * 9  # room for the dot, and for the text on its right
    axes.set(xscale="log", xlim=(low, high), ylim=(len(shown) - 0.3, -0.8))
    axes.set_yticks([])
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    _decades(axes.xaxis, tick)
    for row, timing in enumerate(shown):
        colour = ACCENT if is_ours(timing) else INK
        time = timing.seconds or 0
        axes.plot([low, time], [row, row], color=LINE, linewidth=2, zorder=1)
        if timing.published:
            axes.plot([time, timing.published], [row, row], color=QUIET, linewidth=1.2, zorder=1)
            axes.plot(timing.published, row, "o", markersize=7, markerfacecolor=PAPER, markeredgecolor=QUIET, zorder=2)
        axes.plot(time, row, "o", markersize=8, color=colour, zorder=3)
        _write(axes, low, row - 0.27, f"{label(timing)}, {timing.precision}", va="bottom")
        _write(axes, max(time, timing.published or 0) * 1.3, row, seconds(time), colour, va="center", weight="bold")
    _write(axes, high, len(shown) - 0.4, "ring: as published in 2017", QUIET, ha="right", va="bottom")
    return figure


def waterfall(rungs: Sequence[Rung]) -> Any:
    """What is left of a step after each change, and beside it what the change took away, or added; in quiet colours
    what stands aside.
    """
    shown = [rung for rung in rungs if rung.ns_per_step is not None]
    longest = max(max(rung.ns_per_step or 0, (rung.ns_per_step or 0) + (rung.removed_ns or 0)) for rung in shown)
    figure, axes = _figure(ROW * len(shown) + 0.15, bottom=0.05)
    axes.set(xlim=(0, longest), ylim=(len(shown) - 0.4, -0.75), xticks=[], yticks=[])
    for row, rung in enumerate(shown):
        left, removed = rung.ns_per_step or 0, rung.removed_ns or 0
        colour = INK if rung.kept else QUIET
        axes.barh(row, left, height=0.28, color=INK if row == 0 else LINE)
        change = ACCENT if removed > 0 else SHORT
        axes.barh(row, abs(removed), left=min(left, left + removed), height=0.28, color=change if rung.kept else QUIET)
        _write(axes, 0, row - 0.2, rung_name(rung), colour, va="bottom")
        said = f"{'−' if removed > 0 else '+'}{nanoseconds(abs(removed))} to " if removed else ""
        said += nanoseconds(rung.ns_per_step)
        _write(axes, longest, row - 0.2, said, colour, ha="right", va="bottom", weight="bold")
    return figure


def stacked(parts: Sequence[Part]) -> Any:
    """The parts of a step, side by side in one bar, darkest first; the widest are named."""
    shown = [part for part in parts if part.ns and part.ns > 0]
    whole = sum(part.ns or 0 for part in shown)
    figure, axes = _figure(1.0, bottom=0.05)
    axes.set(xlim=(0, whole), ylim=(0, 1), xticks=[], yticks=[])
    left = 0.0
    for row, part in enumerate(shown):
        width = part.ns or 0
        axes.barh(0.3, width, left=left, height=0.55, color=ACCENT, alpha=shade(row, len(shown)))
        if width > 0.14 * whole:
            _write(axes, left, 0.64, part.part, va="bottom")
        left += width
    return figure


def shade(row: int, rows: int) -> float:
    """The opacity of a part, from 1 down to a quarter."""
    return 1 - 0.75 * row / max(rows - 1, 1)


def growth(lines: Sequence[Curve], size: str, measure: str, marks: Sequence[Crossover]) -> Any:
    """Log-log curves, named at their ends with the power that they grow with; rings where another becomes the least."""
    figure, axes = _figure(3.9, left=0.13, right=0.66, bottom=0.62, top=0.3)
    axes.set(xscale="log", yscale="log")
    axes.grid(color=LINE, linewidth=0.8)
    axes.minorticks_off()
    for curve in lines:
        colour, style = (ACCENT, "-") if curve.ours else (QUIET, "--")
        axes.plot(curve.sizes, curve.values, style, color=colour, linewidth=1.8, marker="o", markersize=3)
    for mark in marks:
        axes.plot(mark.size, mark.value, "o", markersize=9, markerfacecolor="none", markeredgecolor=INK)
    axes.set_xlim(min(c.sizes[0] for c in lines), max(c.sizes[-1] for c in lines))
    low, high = min(min(c.values) for c in lines), max(max(c.values) for c in lines)
    if high < 10 * low:  # so that there is a decade to name
        axes.set_ylim(low / 4, high * 4)
    _decades(axes.xaxis, tick_count)
    _decades(axes.yaxis, tick if measure == "seconds" else "{:g}".format)
    _write(axes, 0.5, -0.2, SIZES[size], QUIET, xycoords="axes fraction", ha="center")
    if measure != "seconds":
        _write(axes, 0, 1.02, MEASURES[measure], QUIET, xycoords="axes fraction", ha="right")
    _name_ends(axes, lines)
    return figure


def _name_ends(axes: Any, lines: Sequence[Curve]) -> None:
    """Each curve's name right of its end, moved up or down where two would touch."""
    transform = axes.transData + axes.transAxes.inverted()
    gap = TEXT * 1.15 / (axes.get_position().height * axes.figure.get_figheight() * 72)
    ends = [(*transform.transform((curve.sizes[-1], curve.values[-1])), curve) for curve in lines]
    ends.sort(key=lambda end: (end[1], end[0]))
    for (x, y, curve), height in zip(ends, apart([y for _, y, _ in ends], gap), strict=True):
        colour = ACCENT if curve.ours else QUIET
        axes.plot([x + 0.01, x + 0.04], [y, height], color=LINE, transform=axes.transAxes, clip_on=False)
        slope = f"{round(curve.slope, 1) + 0.0:.1f}".replace("-", "−")  # without a negative zero
        _write(axes, x + 0.05, height, f"{curve.name}  {slope}", colour, xycoords="axes fraction", va="center")


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending `heights` with at least `gap` between neighbours: those that are nearer spread from their middle."""
    groups: list[list[float]] = []  # the sum of (height - place * gap) and how many
    for height in heights:
        groups.append([height, 1])
        while len(groups) > 1:
            (total, size), (next_total, next_size) = groups[-2:]
            if next_total / next_size - total / size >= gap * size:
                break
            # the later group's places count on from the earlier one's
            groups[-2:] = [[total + next_total - next_size * size * gap, size + next_size]]
    return [total / size + place * gap for total, size in groups for place in range(int(size))]
