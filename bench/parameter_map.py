"""`make parameter-map`: a relaxation time for every pixel of a made-up image, docs/parameter_map.png."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

from fastpoly import curve_fit

mpl.use("Agg")
import matplotlib.pyplot as plt

SIDE, ECHOES, NOISE = 160, 12, 8.0
TARGET = Path(__file__).parents[1] / "docs" / "parameter_map.png"


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """The signal at time 0 and the relaxation time in ms, (side, side) each: discs in a head, air around it."""
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    signal, relaxation = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 60.0)
    head = (columns / 0.78) ** 2 + (rows / 0.95) ** 2 < 1
    signal[head], relaxation[head] = 800, 70 + 15 * rows[head]
    for row, column, radius, level, time_ms in (
        (-0.35, -0.28, 0.22, 950, 110),
        (-0.35, 0.28, 0.22, 950, 130),
        (0.3, 0.0, 0.3, 700, 45),
        (0.62, -0.3, 0.1, 900, 30),
        (0.62, 0.3, 0.1, 900, 160),
    ):
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        signal[disc], relaxation[disc] = level, time_ms
    return signal, relaxation


def decay(t: torch.Tensor, s0: torch.Tensor, t2: torch.Tensor) -> torch.Tensor:
    return s0 * torch.exp(-t / t2)


def main() -> None:
    """Fit it and draw it."""
    signal, relaxation = phantom()
    times = np.linspace(8, 8 * ECHOES, ECHOES)
    echoes = signal[..., None] * np.exp(-times / relaxation[..., None])
    echoes += NOISE * np.random.default_rng(0).standard_normal(echoes.shape)
    y = echoes.reshape(-1, ECHOES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # air has no relaxation time
        options = dict(bounds=([0, 1], [2000, 500]), sigma=np.full(ECHOES, NOISE), absolute_sigma=True)
        curve_fit(decay, times, y, (500.0, 60.0), **options)
        started = time.perf_counter()
        popt, pcov = curve_fit(decay, times, y, (500.0, 60.0), **options)
        seconds = time.perf_counter() - started
    found = popt[:, 1].reshape(SIDE, SIDE)
    deviation = np.sqrt(pcov[:, 1, 1]).reshape(SIDE, SIDE)
    known = deviation < 0.2 * found
    inside = signal > 0
    off = np.abs(found - relaxation)[inside & known] / deviation[inside & known]
    assert known[inside].mean() > 0.99, "pixels of the head without an answer"
    assert 0.9 < np.sqrt((off**2).mean()) < 1.1, "errors that are not what was said of them"
    print(f"{len(y):,} pixels in {seconds * 1e3:.0f} ms, {known[inside].mean():.1%} of the head known to a fifth")
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.1), layout="constrained")
    panels = (
        (echoes[..., 0], "first of 12 echoes", "gray", (0, 1000)),
        (np.where(known, found, np.nan), "T2 of each pixel, ms", "viridis", (0, 180)),
        (np.where(known, deviation, np.nan), "its standard deviation, ms", "magma", (0, 8)),
    )
    for axis, (image, title, colours, (low, high)) in zip(axes, panels, strict=True):
        drawn = axis.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
        figure.colorbar(drawn, ax=axis, shrink=0.85)
    figure.savefig(TARGET, dpi=110)
    print(f"wrote {TARGET.relative_to(TARGET.parents[1])}")


if __name__ == "__main__":
    main()
