"""`gram`: the same steps from the moments of the samples, whatever their number.

In `mixed` the weights are rounded to float32 after every step, so the steps are taken one by one. In `double` a run
that converges is linear all the way: s steps are one matrix, made in log2(s) squarings, and the recorded steps are
computed `lanes` abreast. Such a run costs what its trace costs; 10**12 steps with 100 recorded take no time.

Accuracy: with H and h each right to a few eps, the weights after t steps are off by at most a few t eps times the
largest weight: 1e-10 for the 200,000 steps of the post (measured: 1e-12), and an mse by a few eps times mean(y**2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpoly_kernels.gram import descend_abreast, descend_moments
from fastpoly_kernels.simd import register_bits

from .._arrays import Array
from .._batch import BatchProblem, BatchTrajectory
from .._monitor import Monitor
from .._pages import uninitialised
from .._portions import run_in_portions
from .._problem import FitProblem
from .._result import Trajectory
from . import numba_loop
from .each import train_each
from .moments import CHUNK, Moments, moments

ROWS = 2**23
"""Recorded steps to a portion of `descend_abreast`: some 20 ms, after which Ctrl-C is heard."""


def train(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """See the module's docstring."""
    return train_by(problem, monitor, moments(problem.x, problem.y, problem.degree, monitor))


def train_by(problem: FitProblem, monitor: Monitor, sums: Moments | None) -> Trajectory:
    """The run, once the moments are there; None: Ctrl-C came before they were."""
    if sums is None:
        return Trajectory(problem.initial_weights, np.empty(0, problem.storage), 0)
    if problem.degree == 0 or not np.isfinite(sums.largest):  # sums of degree 0 do not hold x
        problem.refuse_nonfinite()
    rate = problem.learn_rate * 2 / sums.n
    if not in_range(sums, rate):
        return numba_loop.train(problem, monitor)  # out of range for a recurrence; such a run stands still or diverges
    if problem.precision == "double" and rate * np.linalg.eigvalsh(sums.matrix)[-1] <= 2:
        return _abreast(problem, monitor, sums, rate)
    return one_by_one(problem, monitor, sums, rate)


def in_range(sums: Moments, rate: float) -> bool:
    """Can a recurrence be computed? One that cannot stands still or diverges at once."""
    return rate > 1e-290 and rate * sums.largest < 1e290


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """Every problem by itself, across threads; where x is shared and only weights are wanted, one matrix for all.

    After t steps w = w_0 - M w_0 + C h with M and C the same for all, and h = V^T y.
    """
    alike = problem.shared_x and problem.trace_every is None and (problem.learn_rates == problem.learn_rates[0]).all()
    if alike and problem.precision == "double":
        sums = moments(problem.x, problem.x, problem.degree, monitor)
        rate = problem.learn_rates[0] * 2 / problem.x.size
        if sums is not None and np.isfinite(sums.largest) and rate * np.linalg.eigvalsh(sums.matrix)[-1] <= 2:
            step = Change(rate * np.eye(problem.degree + 1), rate * sums.matrix)
            return _together(problem, monitor, step.times(problem.steps))
    return train_each(problem, monitor, train)


def _together(problem: BatchProblem, monitor: Monitor, change: Change) -> BatchTrajectory:
    powers = np.vander(problem.x, problem.degree + 1, increasing=True)
    weights = np.empty((problem.batch, problem.degree + 1))
    finite = np.empty(problem.batch, bool)
    done = 0
    while done < problem.batch and not monitor.interrupted:
        part = slice(done, done + max(1, CHUNK // problem.x.size))
        start = problem.initial_weights[part]
        finite[part] = np.isfinite(np.einsum("bn,bn->b", problem.y[part], problem.y[part]))
        weights[part] = start - start @ change.matrix.T + (problem.y[part] @ powers) @ change.constant.T
        done = min(part.stop, problem.batch)
        monitor.report(done, problem.batch)
    # it converges, so that if any mse is beyond float64, the first is
    weights[~finite] = problem.initial_weights[~finite]
    return BatchTrajectory(weights[:done], np.empty((done, 0)), np.where(finite, -1, 0)[:done])


def one_by_one(problem: FitProblem, monitor: Monitor, sums: Moments, rate: float) -> Trajectory:
    change = Change.of_a_step(sums, rate).table()
    scales = (rate * sums.square, 1 / rate, 1 / sums.n)

    def advance(weights: Array, steps: int, every: int, wait: int, trace: Array) -> tuple[Array, int]:
        start = tuple(float(weight) for weight in weights)
        end, taken = descend_moments(change, *scales, start, steps, every, wait, trace)
        return np.array(end, problem.storage), taken

    advance(problem.initial_weights, 0, 1, 0, np.empty(0, problem.storage))  # compiling is no part of a portion
    return run_in_portions(problem, monitor, advance, 0.3e-9 * (problem.degree + 2) ** 2)


def _abreast(problem: FitProblem, monitor: Monitor, sums: Moments, rate: float) -> Trajectory:
    step = Change.of_a_step(sums, rate)
    rows, every = problem.rows(problem.steps), problem.trace_every or 1
    trace = np.empty(0)
    if rows:
        width = register_bits() // 64
        trace = uninitialised(-(-rows // width) * width)
        between = step.times(every)
        state = np.empty((problem.degree + 1, width))
        state[:, 0] = problem.initial_weights
        for lane in range(1, width):
            state[:, lane] = between(state[:, lane - 1])
        table, error = between.times(width).table(), _error_table(sums)
        like = (0.0,) * (problem.degree + 1)
        arguments = (table, error, sums.square, 1 / sums.n, state, like)
        for start in range(0, trace.size, ROWS):
            descend_abreast(*arguments, trace[start : start + ROWS])
            done = min((start + ROWS) * every, problem.steps)
            monitor.report(done, problem.steps)
            if monitor.interrupted and done < problem.steps:
                return Trajectory(state[:, 0].copy(), trace[: start + ROWS], done)
    monitor.report(problem.steps, problem.steps)
    weights = step.times(problem.steps)(problem.initial_weights)
    return Trajectory(weights, trace[:rows], problem.steps)


@dataclass(frozen=True)
class Change:
    """What some steps do to the weights: w becomes w + constant - matrix w.

    The difference is kept instead of the new w: for slow components the matrix is small, and 1 - matrix would lose it.

    Attributes:
        constant, matrix: (m,) and (m, m); or tensors (..., m, 1) and (..., m, m), for w of shape (..., m, columns).
    """

    constant: Any
    matrix: Any

    @classmethod
    def of_a_step(cls, sums: Moments, rate: float) -> Change:
        return cls(rate * sums.vector, rate * sums.matrix)

    def __call__(self, w: Any) -> Any:
        return w + (self.constant - self.matrix @ w)

    def then(self, other: Change) -> Change:
        return Change(
            self.constant + other.constant - other.matrix @ self.constant,
            self.matrix + other.matrix - other.matrix @ self.matrix,
        )

    def times(self, count: int) -> Change:
        """This change `count` times, by squaring."""
        result, square = Change(0 * self.constant, 0 * self.matrix), self
        while count:
            if count & 1:
                result = result.then(square)
            count >>= 1
            if count:
                square = square.then(square)
        return result

    def table(self) -> Array:
        """For `affine_each`."""
        return np.column_stack([self.constant, -self.matrix])


def _error_table(sums: Moments) -> Array:
    """For `quadratic`: w.(H w - 2 h) by the upper triangle."""
    return np.column_stack([-2 * sums.vector, np.triu(sums.matrix) + np.triu(sums.matrix, 1)])
