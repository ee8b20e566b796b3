"""`Minimum` for many problems in one go: what decides on learn rate and steps, and whether the runs have converged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import Array, beside, float64, namespace, to_device
from ._batch import BatchProblem
from ._minimum import EPS, FEWEST, MOST, NEAR, NICE, SAFE, USEFUL, log_factor

VALUES = 2**20
"""Numbers in the largest temporary array: 8 MiB."""


@dataclass(frozen=True, eq=False)
class Minima:
    """Of all problems; see `Minimum`. Where x is shared, s and v have one row for all.

    Attributes:
        n: samples of a problem.
        start: (batch, m).
        s, v: (batch or 1, r) and (batch or 1, r, m).
        z: (batch, r).
        least, size, total: (batch,); `least` is the least sum of squares.
    """

    n: int
    start: Array
    s: Array
    v: Array
    z: Array
    least: Array
    size: Array
    total: Array

    @classmethod
    def of(cls, problem: BatchProblem) -> Minima:
        """In portions; what grows with n is computed where the samples lie."""
        n, m = problem.y.shape[1], problem.degree + 1
        portion = max(1, VALUES // (n if problem.shared_x else n * m))
        shared = _decomposed(to_device(problem.x, None)[None], m) if problem.shared_x else None
        parts = []
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, problem.batch, portion):
                part = slice(first, first + portion)
                parts.append(_part(problem.part(part), m, shared))
        s, v = (shared[1], shared[2]) if shared else (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        z, outside, size, total = (np.concatenate([part[i] for part in parts]) for i in range(2, 6))
        hidden = np.where(_visible(s, n, m), 0.0, z)
        least = outside + np.einsum("br,br->b", hidden, hidden)
        return cls(n, problem.initial_weights, s, v, z, least, size, total)

    @property
    def visible(self) -> Array:
        """(batch or 1, r): which components V has."""
        return _visible(self.s, self.n, self.start.shape[1])

    @property
    def rounding(self) -> Array:
        """(batch,): see `Minimum`, as the next two."""
        return np.asarray((4 * EPS * self.size) ** 2)

    @property
    def enough(self) -> Array:
        """(batch,)."""
        return np.asarray(np.maximum(NEAR * self.least, self.rounding))

    @property
    def useful(self) -> Array:
        """(batch,)."""
        least = np.maximum(USEFUL[0] * self.least, 4 * self.rounding)
        return np.asarray(np.maximum(least, USEFUL[1] * self.total))

    def excess(self, weights: Array) -> Array:
        """(batch,): infinite where weights are not finite; of the first problems, if there are fewer weights."""
        count = len(weights)
        finite = np.asarray(np.isfinite(weights).all(axis=1))
        moved = np.where(finite[:, None], weights, 0.0) - self.start[:count]
        gained = moved @ self.v[0].T if len(self.v) == 1 else np.einsum("brm,bm->br", self.v[:count], moved)
        gaps = np.where(self.visible[:count], self.z[:count] - self.s[:count] * gained, 0.0)
        return np.where(finite, np.einsum("br,br->b", gaps, gaps), np.inf)

    def rates(self, steps: int | None) -> Array:
        """(batch or 1,) learn rates, as `Minimum.rate` has them; where x is shared, one that suits all together."""
        curvature = np.where(self.visible, (self.s / self.s[:, :1]) ** 2, np.nan)
        best = np.minimum(2 / (1 + np.nanmin(curvature, axis=1)), SAFE)
        unit = self.n / (2 * self.s[:, 0] ** 2)
        if steps is None or steps == 0:
            return np.asarray(best * unit)
        squares = self.z**2
        if len(self.s) == 1:
            squares = squares.sum(axis=0, keepdims=True)
        low, high = np.ones(len(self.s)), np.full(len(self.s), SAFE)
        share = np.linspace(0, 1, 17)
        while (high - low).max() > 1e-6:
            tried = low[:, None] + (high - low)[:, None] * share
            log, _ = log_factor(tried[:, :, None] * np.where(self.visible, curvature, 1.0)[:, None, :])
            with np.errstate(divide="ignore"):
                terms = 2.0 * steps * log + np.log(np.where(self.visible, squares, 0.0))[:, None, :]
            at = np.logaddexp.reduce(terms, axis=2).argmin(axis=1)
            rows = np.arange(len(at))
            low, high = tried[rows, np.maximum(at - 1, 0)], tried[rows, np.minimum(at + 1, 16)]
        return np.asarray((low + high) / 2 * unit)

    def steps(self, rates: Array, most: int = MOST) -> int:
        """The least of a row of round numbers after which all problems are near their minima, or `most`."""
        log, _ = log_factor(rates[:, None] * 2 / self.n * self.s**2)
        squares = np.where(self.visible, self.z**2, 0.0)
        enough = self.enough
        counts = NICE[: np.searchsorted(NICE, most, "right")]
        low, high = -1, len(counts) - 1
        while high - low > 1:
            middle = (low + high) // 2
            with np.errstate(over="ignore", invalid="ignore"):
                left = np.einsum(
                    "br,br->b", squares, np.broadcast_to(np.exp(2.0 * counts[middle] * log), squares.shape)
                )
            low, high = (low, middle) if (left <= enough).all() else (middle, high)
        return max(FEWEST, int(counts[high]))


def _visible(s: Array, n: int, m: int) -> Array:
    return np.asarray(s > max(n, m) * EPS * s[:, :1])


def _decomposed(x: Any, m: int) -> tuple[Any, Any, Any]:
    """u, s and v of the powers of each row of x, where x lies."""
    u, s, v = namespace(x).linalg.svd(float64(x)[..., None] ** beside(x, np.arange(m)), full_matrices=False)
    return u, s, v


def _part(problem: BatchProblem, m: int, shared: Any) -> tuple[Array, ...]:
    """s, v, z, what lies outside, the size of y, and its sum of squares about the mean, of each problem."""
    y = float64(problem.y)
    u, s, v = (beside(y, values) for values in shared) if shared else _decomposed(problem.x, m)
    residual = y
    if problem.initial_weights.any():
        start = beside(y, problem.initial_weights)
        components = s * (start[:, None] @ v.swapaxes(1, 2))[:, 0]
        residual = y - (components[:, None] @ u.swapaxes(1, 2))[:, 0]
    z = residual @ u[0] if shared else (residual[:, None] @ u)[:, 0]
    outside = residual - (z @ u[0].T if shared else (z[:, None] @ u.swapaxes(1, 2))[:, 0])
    about = y - y.mean(1)[:, None]
    rest, first, second, total = (to_device((part * part).sum(1), None) for part in (outside, residual, y, about))
    size = np.sqrt(np.maximum(first, second))
    return to_device(s, None), to_device(v, None), to_device(z, None), rest, size, total
