"""The post's problem and the numbers that it and exact arithmetic give for it, for the demo and for whoever compares.

Source: "Comparing Numpy, Pytorch, and autograd on CPU and GPU", October 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ._arrays import Array

DEGREE = 4
STEPS = 200_000
LEARN_RATE = 1e-5

PUBLISHED_SECONDS: Mapping[str, float] = {
    "numpy": 10.91,
    "torch": 10.13,
    "torch-gpu": 34.50,
    "torch-autograd": 80.43,
    "torch-autograd-gpu": 233.13,
}
"""The post's closing table (2017, a GeForce GTX TITAN)."""


def samples() -> tuple[Array, Array]:
    """x and y = sin(x), as (100, 1) columns."""
    x = np.linspace(0, 5, 100).reshape(-1, 1)
    return x, np.sin(x)


@dataclass(frozen=True)
class Reference:
    """Where a run of STEPS steps must end.

    Attributes:
        weights: the five weights, x^0 first.
        tolerance: the largest difference that is still right.
        source: where the weights come from, and the tolerance.
    """

    weights: tuple[float, ...]
    tolerance: float
    source: str


REFERENCES: Mapping[str, Reference] = {
    "double": Reference(
        (0.31163532929922139, 0.37642086611461325, 0.26365935012822258, -0.21939111978443652, 0.028360455163944761),
        1e-9,
        "arithmetic of 60 digits; a few roundings of float64 a step remain",
    ),
    "mixed": Reference(
        (0.31165126, 0.37640169, 0.26351294, -0.21930896, 0.0283497),
        2e-7,
        "the digits that the post prints; they are 8",
    ),
    "single": Reference(
        (0.31165078282356262, 0.37640210986137390, 0.26351541280746460, -0.21931032836437225, 0.028349872678518295),
        5e-6,
        "reference.train(use_torch=True), torch 2.13.0, AVX-512; the order of float32 sums varies",
    ),
}
"""By precision: three trajectories that really differ, see docs/precision.md."""
