"""Curves as people fit them by the thousand: each once, over torch, numpy or JAX alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Model:
    """A curve with noise.

    Attributes:
        f: from a module of functions, x and the parameters to the values.
        truth: the parameters; each curve's are up to a fifth off.
        start: where fits begin.
        x: from the number of samples to where they lie.
        noise: its standard deviation.
        rate: a learn rate that does not diverge.
    """

    f: Callable[..., Any]
    truth: tuple[float, ...]
    start: tuple[float, ...]
    x: Callable[[int], Any]
    noise: float
    rate: float

    def curves(self, count: int, n: int, seed: int = 0) -> tuple[Any, Any]:
        """x and y (count, n)."""
        draws = np.random.default_rng(seed)
        params = np.array(self.truth) * (0.8 + 0.4 * draws.random((count, len(self.truth))))
        x = self.x(n)
        y = np.stack([self.f(np, x, *one) for one in params])
        return x, y + self.noise * draws.standard_normal(y.shape)


def plane(n: int) -> Any:
    """The pixels of a square, (2, n)."""
    side = round(n**0.5)
    return np.stack(np.meshgrid(np.arange(side), np.arange(side))).reshape(2, -1).astype(float) / side


def spread(low: float, high: float) -> Callable[[int], Any]:
    return lambda n: np.linspace(low, high, n)


MODELS = {
    "exponential decay": Model(
        lambda m, x, a, b, c: a * m.exp(-b * x) + c, (2.5, 1.3, 0.5), (1.0, 1.0, 1.0), spread(0, 4), 0.05, 0.05
    ),
    "damped sine": Model(
        lambda m, x, a, b, c, d: a * m.exp(-b * x) * m.sin(c * x + d),
        (2.0, 0.5, 3.0, 0.5),
        (1.5, 0.4, 3.0, 0.4),
        spread(0, 4),
        0.05,
        0.02,
    ),
    "Gaussian peak": Model(
        lambda m, x, a, b, c: a * m.exp(-(((x - b) / c) ** 2)),
        (2.5, 2.0, 0.5),
        (2.0, 2.0, 0.7),
        spread(0, 4),
        0.05,
        0.02,
    ),
    "Gaussian spot, 2-d": Model(
        lambda m, x, a, b, c, d, e: a * m.exp(-((x[0] - b) ** 2 + (x[1] - c) ** 2) / (2 * d * d)) + e,
        (2.0, 0.5, 0.5, 0.2, 0.5),
        (1.5, 0.45, 0.45, 0.25, 0.4),
        plane,
        0.05,
        0.01,
    ),
    "Michaelis-Menten": Model(lambda _, x, a, b: a * x / (b + x), (2.0, 0.8), (1.0, 1.0), spread(0.05, 5), 0.03, 0.05),
    "logistic": Model(
        lambda m, x, a, b, c: a / (1 + m.exp(-b * (x - c))), (2.0, 2.0, 2.0), (1.5, 1.5, 1.8), spread(0, 4), 0.05, 0.05
    ),
}
