"""What all pictures share, and that of `demo`. matplotlib is loaded when one is drawn; it needs no screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._post import PUBLISHED_SECONDS
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


def saved(figure: Any, path: Path) -> Path:
    """Write the figure, whole or not at all."""
    with replacing(path) as new:
        figure.savefig(new)
    return path


def seconds_by_backend(path: Path, rows: Sequence[tuple[str, str, float]], steps: int) -> Path:
    """A logarithmic bar for each (name, backend, seconds), the post's own seconds beside those it published."""
    figure = new_figure(7.0, 0.9 + 0.42 * len(rows))
    axes = new_axes(figure.subplots())
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
    return saved(figure, path)
