"""`spectral` for batches: where x is shared, one decomposition and a small matrix product for all problems."""

from __future__ import annotations

import numpy as np

from .._arrays import Array
from .._batch import BatchProblem, BatchTrajectory
from .._minimum import EPS, FAR, USEFUL, log_factor
from .._monitor import Monitor
from . import spectral
from .each import fill
from .spectral import gain

VALUES = 2**20
"""Numbers in the largest temporary array: 8 MiB."""

GROWN = 600.0
"""An exponent whose exponential, times any squared component within float64, is still far from its end: e**600 is
4e260. Zero times it is zero."""

SMALL = 1e-140
"""The square of a component below this is about to leave float64 at the other end."""


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """See `spectral`; in portions, so that memory is bounded and Ctrl-C is heard."""
    n, m = problem.y.shape[1], problem.degree + 1
    weights = np.empty((problem.batch, m))
    mse = np.full((problem.batch, problem.rows(problem.steps)), np.nan)
    diverged_at = np.full(problem.batch, -1)
    ended = np.zeros(problem.batch, np.int8)
    portion = max(1, VALUES // (n if problem.shared_x else n * m))
    done = 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        while done < problem.batch and not monitor.interrupted:
            part = slice(done, min(done + portion, problem.batch))
            _fill_part(problem.part(part), weights[part], mse[part], diverged_at[part], ended[part], monitor)
            done = part.stop
            monitor.report(done, problem.batch)
    return BatchTrajectory(weights[:done], mse[:done], diverged_at[:done], ended[:done])


def _fill_part(
    problem: BatchProblem, weights: Array, mse: Array, diverged_at: Array, ended: Array, monitor: Monitor
) -> None:
    """Fill the rows of a BatchTrajectory: those that stay finite together, the others one by one."""
    unusual = np.ones(problem.batch, bool)
    powers = _powers(problem.x, problem.degree + 1)
    if np.isfinite(powers).all():
        unusual = _fill_together(problem, powers, weights, mse, ended)
    for i in np.flatnonzero(unusual).tolist():
        mse[i] = np.nan
        fill(i, spectral.train(problem.one(i), monitor.of_a_part()), weights, mse, diverged_at)


def _fill_together(problem: BatchProblem, powers: Array, weights: Array, mse: Array, ended: Array) -> Array:
    """Fill weights, mse and ended; return which problems leave float64 on the way, whose rows mean nothing."""
    n, steps, every = problem.y.shape[1], problem.steps, problem.trace_every or 1
    u, s, v = np.linalg.svd(powers, full_matrices=False)
    residual = problem.y
    if problem.initial_weights.any():
        residual = residual - _applied(powers, problem.initial_weights)
    z = residual @ u if problem.shared_x else np.einsum("bn,bnk->bk", residual, u)
    rates = problem.learn_rates * 2 / n
    alike = problem.shared_x and bool((rates == rates[0]).all())
    log, odd = log_factor((rates[:1] if alike else rates)[:, None] * s * s)
    gained = z * gain(log, odd, s, steps)
    weights[:] = problem.initial_weights + (gained @ v if problem.shared_x else np.einsum("bk,bkm->bm", gained, v))

    squares = np.einsum("bn,bn->b", residual, residual)
    if not problem.initial_weights.any():
        ended[:] = how_near(u, s, z, log, squares, steps)
    if steps:
        squares = squares + np.exp(2.0 * (steps - 1) * log + 2 * np.log(np.abs(z))).sum(axis=1)
    unusual: Array = ~(np.isfinite(squares) & np.isfinite(weights).all(axis=1)) | far_grown(z, log, steps)

    rows = mse.shape[1]
    if rows:
        outside = residual - _applied(u, z)
        rho = np.einsum("bn,bn->b", outside, outside)
        if alike:
            decay = np.exp(np.maximum(2.0 * every * np.multiply.outer(log[0], np.arange(rows)), spectral.NOTHING))
            np.matmul(z * z, decay, out=mse)
            mse += rho[:, None]
            mse /= n
        else:
            singular = np.broadcast_to(s, z.shape)
            for i in np.flatnonzero(~unusual):
                modes = spectral.Modes(singular[i], z[i], float(np.sqrt(rho[i])), float(rates[i]))
                mse[i] = modes.mse(n, rows, every)
    return unusual


def how_near(u: Array, s: Array, z: Array, log: Array, squares: Array, steps: int) -> Array:
    """`BatchTrajectory.ended`, from what is there already; `Minima` is right to all digits.

    Sums of squares less their parts lose digits: what may be lost is given to either side. Without initial weights
    only: with them the residual's mean is not that of y.
    """
    visible = s > max(u.shape[-2], s.shape[-1]) * EPS * s[..., :1]
    excess = np.where(visible, z * z * np.exp(2.0 * steps * log), 0.0).sum(axis=1)
    lost = 1e-13 * squares
    least = squares - np.where(visible, z * z, 0.0).sum(axis=1)
    sums = (u.sum(axis=-2) * z).sum(axis=1)  # of the residual: the constant lies in V's range
    about = squares - sums * sums / u.shape[-2]
    near = excess <= np.maximum(USEFUL[0] * (least - lost), USEFUL[1] * (about - lost))
    far = excess > np.maximum(USEFUL[0] * (least + lost), FAR * (about + lost))
    return np.asarray(near.astype(np.int8) - far.astype(np.int8))


def far_grown(z: Array, log: Array, steps: int) -> Array:
    """Which problems have a factor of their trace beyond float64 where the product is not: see `spectral.Modes`."""
    growth = log.max(axis=-1)
    small = ((np.abs(z) < SMALL) & (z != 0)).any(axis=1)
    return np.asarray((growth > 0) & ((2 * steps * growth > GROWN) | small))


def _powers(x: Array, count: int) -> Array:
    """x**0 to x**(count - 1) along a new last axis."""
    powers = np.empty((*x.shape, count))
    powers[..., 0] = 1
    for k in range(1, count):
        np.multiply(powers[..., k - 1], x, out=powers[..., k])
    return powers


def _applied(matrix: Array, vectors: Array) -> Array:
    """matrix @ vector for each row of `vectors`; the matrix is (n, k) for all, or (batch, n, k)."""
    if matrix.ndim == 2:
        return vectors @ matrix.T
    return np.einsum("bnk,bk->bn", matrix, vectors)
