"""`spectral` on the device where the samples lie: what grows with n, the batch and the trace is computed there.

See `spectral` for the method. A QR decomposition makes of the samples a triangle of degree + 2 rows, at most; the
triangle comes to the CPU, which takes the singular values of so small a matrix sooner than a GPU; the trace is one
product of two thin matrices on the device. In a batch, singular values are taken on the device, too: of all problems'
triangles at a time, or of one if x is shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from .._arrays import Array
from .._batch import BatchProblem, BatchTrajectory
from .._minimum import Minimum
from .._monitor import Monitor
from .._problem import FitProblem
from .._result import Trajectory
from . import spectral
from .spectral import NOTHING
from .spectral_many import GROWN, SMALL

BLOCK = 2**20
"""Samples to a QR decomposition: 48 MiB of rows at degree 4."""

VALUES = 2**24
"""Numbers in the largest temporary tensor of a batch: 128 MiB."""

Tensor = torch.Tensor


def train(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """See the module's docstring."""
    assert problem.device is not None
    rows = rows_of(problem, monitor)
    if monitor.interrupted:
        return Trajectory(problem.initial_weights, np.empty(0), 0)
    minimum = spectral.minimum_from(problem, rows)
    if minimum is None:
        return spectral.diverge(problem.on_cpu(), monitor)
    return train_towards(problem, minimum, monitor)


def rows_of(problem: FitProblem, monitor: Monitor) -> Array:
    """As `spectral.rows_of`."""
    assert problem.device is not None
    x, y = problem.tensors(problem.device)
    scale = None if problem.scale is None else torch.as_tensor(problem.scale).to(x)
    return np.asarray(triangle(x, y, torch.from_numpy(problem.initial_weights).to(x), monitor, scale).cpu().numpy())


def train_towards(problem: FitProblem, minimum: Minimum, monitor: Monitor) -> Trajectory:
    """The run, once it is known where it goes; its trace on the device."""
    n, device = len(problem.x), problem.device
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = spectral.descended(minimum, problem.learn_rate, problem.steps)
        if found is None:
            return spectral.diverge(problem.on_cpu(), monitor)
        count = problem.rows(found.steps)
        if count and found.modes.grows:
            trace = torch.from_numpy(found.modes.mse(n, count, problem.trace_every or 1)).to(device)
        elif count:
            coarse, fine, _ = found.modes.factors(n, count, problem.trace_every or 1)
            trace = (torch.from_numpy(coarse).to(device).T @ torch.from_numpy(fine).to(device)).reshape(-1)[:count]
        else:
            trace = torch.empty(0, dtype=torch.float64, device=device)
    monitor.report(found.steps, problem.steps)
    return found.trajectory(trace)


def triangle(x: Tensor, y: Tensor, start: Tensor, monitor: Monitor, scale: Tensor | None = None) -> Tensor:
    """R of the QR decomposition of [V | y - V start], its rows multiplied by scale; NaN if a row is not finite."""
    found = x.new_empty((0, len(start) + 1))
    with monitor.listening():
        for first in range(0, len(x), BLOCK):
            part = slice(first, first + BLOCK)
            powers = powers_of(x[part], len(start))
            rows = torch.cat([powers, (y[part] - powers @ start)[:, None]], 1)
            if scale is not None:
                rows = rows * scale[part, None]
            found = torch.linalg.qr(torch.cat([found, rows]), mode="r")[1]
            # a decomposition makes NaN of NaN, but of infinity it may make anything
            found = found + torch.where(rows.isfinite().all(), 0.0, math.nan)
            if monitor.interrupted:
                break
    return found


def powers_of(x: Tensor, count: int) -> Tensor:
    """x**0 to x**(count - 1) along a new last axis."""
    ones = torch.ones_like(x)[..., None]
    return torch.cat([ones, x[..., None].expand(*x.shape, count - 1)], -1).cumprod(-1)


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """In portions, so that memory is bounded and Ctrl-C is heard."""
    n, m = problem.y.shape[1], problem.degree + 1
    count = problem.rows(problem.steps)
    weights = problem.y.new_empty((problem.batch, m))
    mse = problem.y.new_full((problem.batch, count), math.nan)
    diverged_at = torch.full((problem.batch,), -1, device=problem.y.device)
    portion = max(1, VALUES // max(n if problem.shared_x else n * m, count))
    done = 0
    while done < problem.batch and not monitor.interrupted:
        part = slice(done, min(done + portion, problem.batch))
        fill_part(problem.part(part), weights[part], mse[part], diverged_at[part], monitor)
        done = part.stop
        monitor.report(done, problem.batch)
    return BatchTrajectory(weights[:done], mse[:done], diverged_at[:done])


def fill_part(problem: BatchProblem, weights: Tensor, mse: Tensor, diverged_at: Tensor, monitor: Monitor) -> None:
    """Fill the rows of a BatchTrajectory: those that stay finite together, the others one by one."""
    unusual = torch.ones(problem.batch, dtype=torch.bool)
    powers = powers_of(problem.x, problem.degree + 1)
    if bool(powers.isfinite().all()):
        unusual = _fill_together(problem, powers, weights, mse)
    fill_singly(unusual, problem, spectral.train, weights, mse, diverged_at, monitor)


def fill_singly(
    which: Tensor,
    problem: BatchProblem,
    train: Callable[[FitProblem, Monitor], Trajectory],
    weights: Tensor,
    mse: Tensor,
    diverged_at: Tensor,
    monitor: Monitor,
) -> None:
    """Run the problems that `which` says on the CPU, one by one."""
    for i in which.nonzero()[:, 0].tolist():
        trajectory = train(problem.one(i).on_cpu(), monitor.of_a_part())
        weights[i] = torch.from_numpy(trajectory.weights)
        mse[i] = math.nan
        mse[i, : len(trajectory.mse)] = torch.from_numpy(trajectory.mse)
        if trajectory.diverged_at is not None:
            diverged_at[i] = trajectory.diverged_at


def _fill_together(problem: BatchProblem, powers: Tensor, weights: Tensor, mse: Tensor) -> Tensor:
    """Fill weights and mse; return which problems leave float64 on the way, whose rows mean nothing."""
    n, steps, every = problem.y.shape[1], problem.steps, problem.trace_every or 1
    start = torch.from_numpy(problem.initial_weights).to(powers)
    rates = torch.from_numpy(problem.learn_rates * 2 / n).to(powers)
    q, r = torch.linalg.qr(powers)
    u, s, v = torch.linalg.svd(r, full_matrices=False)
    u = q @ u
    residual = problem.y - _applied(powers, start)
    z = _applied(u.mT, residual)
    log, odd = _log_factor(rates[:, None] * s * s)
    weights.copy_(start + _applied(v.mT, z * _gain(log, odd, s, steps)))

    outside = residual - _applied(u, z)
    rho = (outside * outside).sum(1)
    squares = (residual * residual).sum(1)
    if steps:
        squares = squares + torch.exp(2.0 * (steps - 1) * log + 2 * z.abs().log()).sum(1)
    if mse.shape[1]:
        _fill_trace(mse, z * z / n, log, rho / n, every)
    return ~(squares.isfinite() & weights.isfinite().all(1)) | far_grown(z, log, steps)


def far_grown(z: Tensor, log: Tensor, steps: int) -> Tensor:
    """As `spectral_many.far_grown`."""
    growth = log.amax(-1)
    small = ((z.abs() < SMALL) & (z != 0)).any(1)
    return (growth > 0) & ((2 * steps * growth > GROWN) | small)


def _fill_trace(mse: Tensor, squares: Tensor, log: Tensor, rest: Tensor, every: int) -> None:
    """For each problem rest + sum_k squares_k exp(2 every t log_k), t counting the columns: a product of two parts."""
    count = mse.shape[1]
    width = math.isqrt(count - 1) + 1
    height = -(-count // width)
    at = torch.arange(max(height, width), device=mse.device, dtype=mse.dtype)
    exponent = (2.0 * every * log)[:, :, None]
    coarse = squares[:, :, None] * torch.exp((exponent * (at[:height] * width)).clamp_min(NOTHING))
    fine = torch.exp((exponent * at[:width]).clamp_min(NOTHING))
    trace = (coarse.mT @ fine).reshape(len(mse), -1)[:, :count]
    torch.add(trace, rest[:, None], out=mse)


def _applied(matrix: Tensor, vectors: Tensor) -> Tensor:
    """matrix @ vector for each row of `vectors`; the matrix is (n, k) for all, or (batch, n, k)."""
    if matrix.ndim == 2:
        return vectors @ matrix.T
    return (matrix @ vectors[:, :, None])[:, :, 0]


def _log_factor(a: Tensor) -> tuple[Tensor, Tensor]:
    """As `spectral.log_factor`."""
    log = torch.log1p(torch.maximum(-a, a - 2))
    return log.clamp_min(-1e6), a > 1


def _gain(log: Tensor, odd: Tensor, s: Tensor, steps: int) -> Tensor:
    """As `spectral.gain`."""
    gained = -torch.expm1(steps * log)
    if steps % 2:
        gained = torch.where(odd, 2 - gained, gained)
    return torch.where(s == 0, 0.0, gained / s)
