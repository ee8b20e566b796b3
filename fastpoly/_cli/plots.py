"""The pictures of `demo` and `fit`. matplotlib is loaded when one is drawn, on the backend that needs no screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._arrays import Array
from .._post import PUBLISHED_SECONDS
from .._result import FitResult
from .write import replacing

INK, ACCENT, MUTED = "#22303c", "#d1495b", "#9fb3c8"


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches.

    Raises:
        ModuleNotFoundError: there is no matplotlib; the message says what brings it.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib; pip install 'fastpoly[plot]'", name=error.name) from error
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def new_axes(axes: Any) -> Any:
    """The axes, in the manner of all pictures."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=MUTED, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _axes(width: float = 7.0, height: float = 4.2) -> tuple[Any, Any]:
    figure = new_figure(width, height)
    return figure, new_axes(figure.subplots())


def fitted_curve(path: Path, x: Array, y: Array, result: FitResult, labels: tuple[str, str] = ("x", "y")) -> Path:
    """Samples and the fitted polynomial; `labels` are what stands at the axes."""
    figure, axes = _axes()
    order = np.argsort(x.reshape(-1))
    x, y = (np.asarray(samples, np.float64).reshape(-1)[order] for samples in (x, y))
    axes.plot(x, y, "o", color=MUTED, markersize=4, label=f"{x.size:,} samples")
    smooth = np.linspace(x[0], x[-1], 500)
    label = f"degree {len(result.weights) - 1}, {result.steps:,} steps"
    with np.errstate(over="ignore", invalid="ignore"):  # after divergence; what is not finite is not drawn
        fitted = result.predict(smooth)
    axes.plot(smooth, fitted, color=ACCENT, linewidth=2, label=label)
    xlabel, ylabel = (label.replace("$", r"\$") for label in labels)  # it would be mathematics
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False)
    with replacing(path) as new:
        figure.savefig(new)
    return path


def mse_by_step(path: Path, traces: Mapping[str, Array]) -> Path:
    """Mean squared error against step, both axes logarithmic; steps count from 1 so that the first is shown."""
    figure, axes = _axes()
    styles = ("-", "--", ":")
    for i, (name, mse) in enumerate(traces.items()):
        steps = np.unique(np.geomspace(1, len(mse), 600).astype(int))  # more points than pixels show nothing more
        axes.loglog(steps, mse[steps - 1], styles[i % 3], color=(INK, ACCENT, MUTED)[i % 3], linewidth=2, label=name)
    axes.set(xlabel="step", ylabel="mean squared error")
    axes.legend(frameon=False)
    with replacing(path) as new:
        figure.savefig(new)
    return path


def seconds_by_backend(path: Path, rows: Sequence[tuple[str, str, float]], steps: int) -> Path:
    """A logarithmic bar for each (name, backend, seconds), the post's own seconds beside those it published."""
    figure, axes = _axes(height=0.9 + 0.42 * len(rows))
    positions = np.arange(len(rows))[::-1]
    longest = 0.0
    for position, (_, backend, seconds) in zip(positions, rows, strict=True):
        published = PUBLISHED_SECONDS.get(backend)
        longest = max(longest, seconds, published or 0)
        if published is not None:
            axes.barh(position, published, height=0.75, color=MUTED, alpha=0.45)
        axes.barh(position, seconds, height=0.45, color=INK if published is not None else ACCENT)
        axes.annotate(f" {seconds:.3g} s", (max(seconds, published or 0), position), va="center", color=INK)
    axes.set_yticks(positions, [name for name, _, _ in rows])
    axes.set_xscale("log")
    shortest = min(seconds for _, _, seconds in rows)
    axes.set_xlim(10 ** np.floor(np.log10(shortest)) / 2, longest * 5)  # bars start below a decade; room for the text
    axes.grid(visible=False, axis="y")
    published_note = (
        " (pale: as published in 2017)" if any(backend in PUBLISHED_SECONDS for _, backend, _ in rows) else ""
    )
    axes.set_xlabel(f"seconds for {steps:,} steps{published_note}")
    with replacing(path) as new:
        figure.savefig(new)
    return path
