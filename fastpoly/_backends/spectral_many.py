"""`spectral` for batches: where x is shared, one decomposition and a small matrix product for all problems.

One code for arrays, and for tensors on the device where the samples lie: `namespace`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._arrays import beside, is_tensor, namespace, powers_of
from .._batch import BatchProblem, BatchTrajectory
from .._minimum import EPS, FAR, USEFUL, log_factor
from .._monitor import Monitor
from . import spectral
from .each import in_portions, run_fallback
from .spectral import LOG_UNDERFLOW, gain

VALUES = 2**20
"""Numbers in the largest temporary array: 8 MiB."""

VALUES_ON_DEVICE = 2**24
"""The same of a tensor, of traces, too: 128 MiB."""

GROWN = 600.0
"""An exponent whose exponential, times any squared component within float64, is still far from its end: e**600 is
4e260. Zero times it is zero."""

SMALL = 1e-140
"""The square of a component below this is about to leave float64 at the other end."""


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """See `spectral`; in portions, so that memory is bounded and Ctrl-C is heard."""
    n, m = problem.y.shape[1], problem.degree + 1
    values = n if problem.shared_x else n * m
    portion = VALUES // values
    if problem.on_gpu:
        portion = VALUES_ON_DEVICE // max(values, problem.rows(problem.steps))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return in_portions(problem, monitor, portion, fill_part)


def fill_part(problem: BatchProblem, rows: BatchTrajectory, monitor: Monitor) -> bool:
    """Fill the rows: those that stay finite together, the others one by one."""
    powers = powers_of(problem.x, problem.degree + 1)
    needs_fallback = np.ones(problem.batch, bool)
    if bool(namespace(powers).isfinite(powers).all()):
        needs_fallback = _fill_together(problem, powers, rows)
    run_fallback(needs_fallback, problem, spectral.train, rows, monitor)
    return True


def _fill_together(problem: BatchProblem, powers: Any, rows: BatchTrajectory) -> Any:
    """Fill weights, mse and ended; return which problems leave float64 on the way, whose rows mean nothing."""
    xp, n, steps, every = namespace(powers), problem.y.shape[1], problem.steps, problem.trace_every or 1
    u, s, v = _decomposed(powers)
    residual = problem.y
    if problem.initial_weights.any():
        residual = residual - _applied(powers, beside(powers, problem.initial_weights))
    z = residual @ u if problem.shared_x else xp.einsum("bn,bnk->bk", residual, u)
    rates = beside(powers, problem.learn_rates * 2 / n)
    alike = problem.shared_x and bool((problem.learn_rates == problem.learn_rates[0]).all())
    log, odd = log_factor((rates[:1] if alike else rates)[:, None] * s * s)
    gained = z * gain(log, odd, s, steps)
    moved = gained @ v if problem.shared_x else xp.einsum("bk,bkm->bm", gained, v)
    rows.weights[:] = beside(powers, problem.initial_weights) + moved

    squares = xp.einsum("bn,bn->b", residual, residual)
    if rows.ended is not None and not is_tensor(z) and not problem.initial_weights.any():
        rows.ended[:] = how_near(u, s, z, log, squares, steps)
    if steps:
        squares = squares + xp.exp(2.0 * (steps - 1) * log + 2 * xp.log(abs(z))).sum(1)
    needs_fallback = ~(xp.isfinite(squares) & xp.isfinite(rows.weights).all(1)) | far_grown(z, log, steps)
    if rows.mse.shape[1]:
        outside = residual - _applied(u, z)
        rho = xp.einsum("bn,bn->b", outside, outside)
        if is_tensor(z):
            _fill_by_two(rows.mse, z * z / n, log, rho / n, every)
        elif alike:
            decay = np.exp(
                np.maximum(2.0 * every * np.multiply.outer(log[0], np.arange(rows.mse.shape[1])), LOG_UNDERFLOW)
            )
            np.matmul(z * z, decay, out=rows.mse)
            rows.mse[:] += rho[:, None]
            rows.mse[:] /= n
        else:
            singular = np.broadcast_to(s, z.shape)
            for i in np.flatnonzero(~needs_fallback):
                modes = spectral.Modes(singular[i], z[i], float(np.sqrt(rho[i])), float(rates[i]))
                rows.mse[i] = modes.mse(n, rows.mse.shape[1], every)
    return needs_fallback


def _decomposed(powers: Any) -> tuple[Any, Any, Any]:
    """Their singular values and vectors; on a device of a triangle, which takes it far less time."""
    if not is_tensor(powers):
        u, s, v = np.linalg.svd(powers, full_matrices=False)
        return u, s, v
    linalg = namespace(powers).linalg
    q, r = linalg.qr(powers)
    u, s, v = linalg.svd(r, full_matrices=False)
    return q @ u, s, v


def _fill_by_two(mse: Any, squares: Any, log: Any, rest: Any, every: int) -> None:
    """For each problem rest + sum_k squares_k exp(2 every t log_k), t counting the columns: a product of two parts."""
    xp, count = namespace(mse), mse.shape[1]
    width = math.isqrt(count - 1) + 1
    height = -(-count // width)
    at = xp.arange(max(height, width), device=mse.device, dtype=mse.dtype)
    exponent = (2.0 * every * log)[:, :, None]
    coarse = squares[:, :, None] * xp.exp(xp.clip(exponent * (at[:height] * width), LOG_UNDERFLOW, None))
    fine = xp.exp(xp.clip(exponent * at[:width], LOG_UNDERFLOW, None))
    mse[:] = (coarse.swapaxes(1, 2) @ fine).reshape(len(mse), -1)[:, :count] + rest[:, None]


def how_near(u: Any, s: Any, z: Any, log: Any, squares: Any, steps: int) -> Any:
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


def far_grown(z: Any, log: Any, steps: int) -> Any:
    """Which problems have a factor of their trace beyond float64 where the product is not: see `spectral.Modes`."""
    growth = namespace(log).amax(log, -1)
    small = ((abs(z) < SMALL) & (z != 0)).any(1)
    return (growth > 0) & ((2 * steps * growth > GROWN) | small)


def _applied(matrix: Any, vectors: Any) -> Any:
    """matrix @ vector for each row of `vectors`; the matrix is (n, k) for all, or (batch, n, k)."""
    if matrix.ndim == 2:
        return vectors @ matrix.T
    return namespace(matrix).einsum("bnk,bk->bn", matrix, vectors)
