"""The pictures of `fit` and `predict`: samples and curve, residuals below; the mse by step; a curve with its band."""

from __future__ import annotations

import dataclasses
import re
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._arrays import Array
from .._result import FitResult
from .equation import equation
from .plots import ACCENT, INK, MUTED, new_axes, new_figure, saved
from .say import NO_BREAK

CROWD = 3000
"""Samples from which on single points cover each other, and their density is drawn."""

BARS = 300
"""Samples up to which an error bar of each can be told from the next."""

FEW = 50
"""Samples up to which points are larger, and lie on the curve."""

PLACES = 500
"""At which a curve is drawn: less than a pixel apart on most screens."""

_DRAWN = 1e200
"""A larger mse, of a run that diverges, is not drawn: matplotlib looks for ticks as far beyond as it is wide."""

_LABEL = 70
_TITLE = 96


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is drawn of a fit: its samples as they were given, and what stands at the axes."""

    x: Array
    y: Array
    sigma: Array | None
    result: FitResult
    xlabel: str
    ylabel: str

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest x."""
        return float(self.x.min()), float(self.x.max())


def fit_picture(path: Path, drawn: Drawn) -> Path:
    """Samples, curve, equation; residuals below unless the run diverged; least squares where it is elsewhere."""
    result = drawn.result
    residuals = None if result.diverged_at is not None else drawn.y - np.asarray(result.predict(drawn.x), np.float64)
    figure = new_figure(7.5, 4.6 if residuals is None else 6.0)
    if residuals is None:
        upper = bottom = new_axes(figure.subplots())
    else:
        upper, bottom = (new_axes(axes) for axes in figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)))
        _samples(bottom, drawn, residuals)
        bottom.axhline(0, color=ACCENT, linewidth=1.2)
        bottom.set_ylabel("residual", parse_math=False)
    _samples(upper, drawn, drawn.y, f"{drawn.x.size:,} sample{'s' if drawn.x.size > 1 else ''}")
    limits = _limits(drawn.y, None if residuals is None else drawn.y - residuals)
    _curves(upper, drawn, limits)
    upper.set_ylim(*limits)
    upper.set_ylabel(_short(drawn.ylabel, _LABEL // 2), parse_math=False)
    bottom.set_xlabel(_short(drawn.xlabel, _LABEL), parse_math=False)
    upper.set_title("\n".join(_title(drawn)), loc="left", fontsize="small", color=INK, parse_math=False)
    upper.legend(fontsize="small", framealpha=0.85, edgecolor="none")
    return saved(figure, path)


def mse_picture(path: Path, result: FitResult) -> Path:
    """The mse by step, both axes logarithmic, and where least squares lies. Steps count from 1: 0 has no logarithm."""
    figure = new_figure(7.5, 4.2)
    axes = new_axes(figure.subplots())
    every = result.trace_every or 1
    kept = np.unique(np.geomspace(1, len(result.mse), 800).astype(int)) - 1  # more than pixels show nothing more
    steps, mse = kept * every + 1.0, np.asarray(result.mse, np.float64)[kept]
    seen = (mse > 0) & (mse < _DRAWN)
    axes.plot(
        steps[seen], mse[seen], "o-" if mse.size < 20 else "-", color=INK, linewidth=2, label="mse before the step"
    )
    least = _quality(lambda: result.least_squares_mse)
    if least is not None and least > 0:
        axes.axhline(least, color=ACCENT, linewidth=1, alpha=0.7, label=f"least squares, {least:.4g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="mean squared error")
    axes.set_title(_said_of_run(result), loc="left", fontsize="small", color=INK)
    axes.legend(fontsize="small", framealpha=0.85, edgecolor="none")
    return saved(figure, path)


def band_picture(
    path: Path,
    x: Array,
    curves: Callable[[Array], tuple[Array, Array, Array]],
    band: str | None,
    span: tuple[float, float] | None,
    labels: tuple[str, str],
) -> Path:
    """The curve at x and between them, with its band, and where the samples of the fit end.

    Args:
        path: the picture.
        x: places, at least one.
        curves: the prediction and the ends of its band at some x.
        band: what it is, or None: there is none.
        span: of the samples of the fit, if it is known.
        labels: of x and y.
    """
    figure = new_figure(7.5, 4.6)
    axes = new_axes(figure.subplots())
    low, high = float(x.min()), float(x.max())
    if low < high:
        places = np.linspace(low, high, PLACES)
        middle, lower, upper = curves(places)
        if band is not None:
            axes.fill_between(places, lower, upper, color=ACCENT, alpha=0.18, linewidth=0, label=band)
        axes.plot(places, middle, color=ACCENT, linewidth=2, label="prediction")
    if low == high or x.size <= 100:
        middle, lower, upper = curves(x)
        if low == high and band is not None:
            axes.errorbar(x, middle, [middle - lower, upper - middle], fmt="none", color=ACCENT, alpha=0.5, label=band)
        axes.plot(x, middle, "o", color=INK, markersize=4, label=f"{x.size:,} x asked for")
    ends = [end for end in span or () if low < end < high]
    for i, end in enumerate(ends):
        label = None if i else "end of the fit's samples"
        axes.axvline(end, color=MUTED, linewidth=1.2, linestyle="--", label=label)
    axes.set_xlabel(_short(labels[0], _LABEL), parse_math=False)
    axes.set_ylabel(_short(labels[1], _LABEL // 2), parse_math=False)
    axes.legend(fontsize="small", framealpha=0.85, edgecolor="none")
    return saved(figure, path)


def _samples(axes: Any, drawn: Drawn, values: Array, label: str | None = None) -> None:
    if values.size > CROWD:
        from matplotlib.colors import LinearSegmentedColormap

        colours = LinearSegmentedColormap.from_list("samples", ["#dfe7ef", MUTED, INK])
        gridsize = (90, 34 if label else 14)
        axes.hexbin(
            drawn.x, values, gridsize=gridsize, cmap=colours, mincnt=1, linewidths=0.2, bins="log", vmin=1, zorder=1
        )
        if label:
            axes.plot([], [], "h", color=MUTED, markersize=8, label=f"{label}, darker where there are more")
        return
    size = 6 if values.size < FEW else 4 if values.size < BARS else 2.5
    order = {"zorder": 3} if values.size < FEW else {}
    axes.plot(drawn.x, values, "o", color=MUTED, markersize=size, markeredgewidth=0, label=label, **order)
    if drawn.sigma is not None and values.size <= BARS:
        axes.errorbar(drawn.x, values, drawn.sigma, fmt="none", ecolor=MUTED, elinewidth=0.8, alpha=0.7)


def _curves(axes: Any, drawn: Drawn, limits: tuple[float, float]) -> None:
    result, (low, high) = drawn.result, drawn.span
    if low == high:
        low, high = result.domain or (low - 1, high + 1)
    places = np.linspace(low, high, PLACES)
    if result.diverged_at is not None or not _quality(lambda: result.converged):
        best = _least_squares(drawn)(places)
        axes.plot(places, best, color=INK, linewidth=1.2, alpha=0.6, linestyle="--", label="least squares")
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = np.asarray(result.predict(places), np.float64)
        reach = limits[1] - limits[0]
        seen = np.abs(fitted - (limits[0] + limits[1]) / 2) <= 100 * reach  # beyond, lines lose their way
    if seen.any():
        label = f"degree {result.degree}, {_steps(result.steps)} of gradient descent"
        axes.plot(places, np.where(seen, fitted, np.nan), color=ACCENT, linewidth=2, label=label)


def _least_squares(drawn: Drawn) -> Callable[[Array], Any]:
    result = drawn.result
    if result.domain is not None:
        return dataclasses.replace(result, weights=result.minimum.solution()).predict
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more weights than samples
        weights = None if drawn.sigma is None else 1 / drawn.sigma
        return np.polynomial.Polynomial.fit(drawn.x, drawn.y, result.degree, w=weights)  # it maps x, too


def _limits(y: Array, fitted: Array | None) -> tuple[float, float]:
    """Those of the samples and, if it is no farther out than they are wide, of the curve, with some room."""
    low, high = float(y.min()), float(y.max())
    if fitted is not None:
        reach = (high - low) / 2
        low, high = min(low, max(float(fitted.min()), low - reach)), max(high, min(float(fitted.max()), high + reach))
    room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _title(drawn: Drawn) -> list[str]:
    result = drawn.result
    if result.diverged_at is not None:
        return [f"{_said_of_run(result)}: there is no fit to be seen"]
    found = equation(result, drawn.span, 4)
    lines = textwrap.wrap(f"y = {found.joined(NO_BREAK)}", _TITLE, subsequent_indent="      ", break_long_words=False)
    if found.mapping:
        lines.append(f"t = {found.mapping}")
    squared = _quality(lambda: result.r_squared)
    known = squared is not None and np.isfinite(squared)
    lines.append(f"R² = {squared:.6g}; {_said_of_run(result)}" if known else _said_of_run(result))
    return [line.replace(NO_BREAK, " ") for line in lines]


def _said_of_run(result: FitResult) -> str:
    if result.diverged_at is not None:
        return f"diverged at step {result.diverged_at:,}, learn rate {result.learn_rate:.4g}"
    converged = _quality(lambda: result.converged)
    end = "" if converged is None else ", converged" if converged else ", not converged"
    return f"{_steps(result.steps)}, learn rate {result.learn_rate:.4g}{end}"


def _steps(steps: int) -> str:
    return f"{steps:,} step{'' if steps == 1 else 's'}"


def _quality(of: Callable[[], Any]) -> Any:
    """What a result says of itself, or None: powers of x beyond float64 have no minimum."""
    try:
        return of()
    except (ValueError, np.linalg.LinAlgError):
        return None


def _short(label: str, width: int) -> str:
    """In two lines at most, of which the last ends with the unit."""
    unit = re.search(r"\s[(\[][^()\[\]]{1,20}[)\]]$", label)
    ending = unit[0] if unit else ""
    lines = textwrap.wrap(label, width)
    if len(lines) > 2:
        lines = textwrap.wrap(label.removesuffix(ending), width, max_lines=2, placeholder=f" …{ending}")
    return "\n".join(lines)
