"""`gram` for batches: where x is shared and only weights are wanted, one matrix for all; else each problem by itself.

Problems are taken across threads, or those on a device at a time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .._arrays import beside, namespace
from .._batch import BatchProblem, BatchTrajectory
from .._monitor import Monitor
from . import gram, recurrence, spectral_many
from .each import in_portions, run_fallback, train_each, unfilled
from .moments import CHUNK, moments, products
from .recurrence import AffineStep, by_products


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """See the module's docstring; `mixed` on the CPU.

    After t steps w = w_0 - M w_0 + C h with M and C the same for all problems that share x, and h = V^T y.
    """
    n, m = problem.y.shape[1], problem.degree + 1
    if problem.on_gpu and problem.precision == "double":
        return in_portions(problem, monitor, recurrence.VALUES // min(n, CHUNK) // m, _fill_on_device)
    problem = problem.on_cpu()
    alike = problem.shared_x and problem.trace_every is None and (problem.learn_rates == problem.learn_rates[0]).all()
    if alike and problem.precision == "double":
        sums = moments(problem.x, problem.x, problem.degree, monitor)
        rate = problem.learn_rates[0] * 2 / n
        if sums is not None and np.isfinite(sums.largest) and rate * np.linalg.eigvalsh(sums.matrix)[-1] <= 2:
            change = AffineStep(rate * np.eye(m), rate * sums.matrix).times(problem.steps)
            fill_part = partial(_fill_together, change, np.vander(problem.x, m, increasing=True))
            return in_portions(problem, monitor, CHUNK // n, fill_part)
    return train_each(problem, monitor, gram.train)


def _fill_together(
    change: AffineStep,
    powers: Any,
    problem: BatchProblem,
    rows: BatchTrajectory,
    monitor: Monitor,  # noqa: ARG001
) -> bool:
    """Weights by what all steps do; they converge, so that if any mse is beyond float64, the first is."""
    start = problem.initial_weights
    finite = np.isfinite(np.einsum("bn,bn->b", problem.y, problem.y))
    rows.weights[:] = start - start @ change.matrix.T + (problem.y @ powers) @ change.constant.T
    rows.weights[~finite] = start[~finite]
    rows.diverged_at[:] = np.where(finite, -1, 0)
    return True


def _fill_on_device(problem: BatchProblem, rows: BatchTrajectory, monitor: Monitor) -> bool:
    """Those whose recurrence converges at a time, the others one by one."""
    n, xp = problem.y.shape[1], namespace(problem.y)
    x = xp.broadcast_to(problem.x, problem.y.shape)
    table = products(x, problem.y, problem.degree, monitor, problem.y.device)
    rates, start = beside(table, problem.learn_rates * 2 / n), beside(table, problem.initial_weights)
    fine = xp.isfinite(table).all(2).all(1) & gram.in_range(table, rates, problem.initial_weights)
    matrices = xp.where(fine[:, None, None], table[:, :-1, :-1], 0.0)
    fine &= rates * xp.linalg.eigvalsh(matrices)[:, -1] <= 2
    table = xp.where(fine[:, None, None], table, 0.0)
    weights, trace, done = by_products(table, start, rates, n, problem.steps, problem.trace_every, monitor)
    rows.weights[:], rows.mse[:] = weights, trace
    whole = done == trace.shape[1]
    if done and whole:
        cancelled = fine & gram.cancels(table, weights)
        if bool(cancelled.any()):  # then by singular values, all of them: they share their matrices
            others = unfilled(problem)
            spectral_many.fill_part(problem, others, monitor)
            rows.weights[cancelled], rows.mse[cancelled] = others.weights[cancelled], others.mse[cancelled]
    run_fallback(~fine, problem, gram.train, rows, monitor)
    return whole and not monitor.interrupted
