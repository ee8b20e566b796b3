"""`gram`: the same steps from the moments of the samples, whatever their number.

In `mixed` the weights are rounded to float32 after every step, so the steps are taken one by one. In `double` a run
that converges is linear all the way: s steps are one matrix, made in log2(s) squarings, and the recorded steps are
computed `lanes` abreast. Such a run costs what its trace costs; 10**12 steps with 100 recorded take no time.

Accuracy: with H and h each right to a few eps, the weights after t steps are off by at most a few t eps times the
largest weight: 1e-10 for the 200,000 steps of the post (measured: 1e-12). A sum of squares y.y + w.(H w - 2 h) is off
by a few eps of the terms in it, y.y + 2 |w|.|h| + |w|.|H| |w|, which are far larger than the sum where y has an offset
or is fitted well. Where less than CANCELLED of them is left, what cannot cancel takes over: in `double` `spectral`, for
steps taken one by one the triangle of a QR decomposition (`fastpoly_kernels.gram.descend_triangle`). So every mse is,
to 1e-9 of itself (1e-7 in `mixed`, the rounding to float32), one of residuals that are each off by a few eps of the
largest |y| + sum_k |w_k x**k|, which is what the loop over the samples can promise. And where a sum is beyond float64,
or so small that its digits leave it at the other end, the loop over the samples takes the steps.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpoly_kernels.gram import descend_abreast, descend_moments, descend_triangle
from fastpoly_kernels.processor import register_bits

from .._arrays import Array, on_gpu, to_device
from .._batch import BatchProblem, BatchTrajectory
from .._minimum import Minimum
from .._monitor import Monitor
from .._pages import uninitialised
from .._portions import run_in_portions
from .._problem import FitProblem
from .._result import Trajectory
from . import numba_loop, spectral
from .each import train_each
from .moments import CHUNK, Moments, moments

CANCELLED = {"double": 2.0**-17, "mixed": 2.0**-20}
"""What must be left of the terms of a sum of squares: then it is right to some 1e-10, or 1e-9, of itself. The post's
run ends at 2**-16."""

SMALLEST = 1e-280
"""A sum of squares, or of powers of x, below this is about to lose digits to the end of float64."""

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
    if not in_range(sums, rate, problem.initial_weights):
        return numba_loop.train(problem.on_cpu(), monitor)
    if problem.precision == "double" and rate * np.linalg.eigvalsh(sums.matrix)[-1] <= 2:
        trajectory = _abreast(problem, monitor, sums, rate)
        cancelled = cancels(sums, trajectory.weights)
        if trajectory.mse.size and cancelled:
            return closed_form(dataclasses.replace(problem, steps=trajectory.steps), monitor)
        return trajectory if cancelled else dataclasses.replace(trajectory, minimum=minimum_of(problem, sums))
    return one_by_one(problem, monitor, sums, rate)


def minimum_of(problem: FitProblem, sums: Moments) -> Minimum | None:
    """What the moments say of the minimum, where they do."""
    return Minimum.of_moments(sums.matrix, sums.vector, sums.square, sums.n, problem.initial_weights)


def in_range(sums: Moments, rate: float, start: Array) -> bool:
    """Can a recurrence be computed? Else it stands still, diverges at once, or has numbers too small for its sums."""
    if not (rate > 1e-290 and rate * sums.largest < 1e290):
        return False
    square = sums.square
    if start.any():
        sizes = np.abs(start, dtype=np.float64)
        if (sizes[sums.matrix.diagonal() < SMALLEST] != 0).any():
            return False  # what this weight does is lost in its moments, and shows only if the weight is enormous
        square += min(1e300, float(sizes @ sums.matrix @ sizes))
    elif not sums.vector.any():
        return True  # all is zero, and stays so
    return square >= SMALLEST * max(1.0, 1 / rate)


def cancels(sums: Moments, weights: Array) -> bool:
    """Has the sum of squares at these weights lost digits? Along a run that converges it is smallest at the end."""
    sizes = np.abs(weights)
    terms = sums.square + sizes @ (2 * np.abs(sums.vector) + np.abs(sums.matrix) @ sizes)
    squares = sums.square + weights @ (sums.matrix @ weights - 2 * sums.vector)
    return bool(squares < CANCELLED["double"] * terms)


def least_sum(sums: Moments, precision: str) -> float:
    """A sum of squares below which digits have cancelled, at any weights between 0 and those of least squares.

    It depends on the samples alone, so that a run that is cut has the same; sum_k |w_k| |column k of V| bounds the
    terms. Where the solution is imprecise, it is too large, and the steps are slower.
    """
    try:
        solution = np.linalg.solve(sums.matrix, sums.vector)
    except np.linalg.LinAlgError:
        solution = np.linalg.lstsq(sums.matrix, sums.vector, rcond=None)[0]
    largest = float(np.abs(solution) @ np.sqrt(sums.matrix.diagonal()))
    return CANCELLED[precision] * (sums.square + min(1e150, largest) ** 2)  # of NaN this makes 1e150


def closed_form(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """By `spectral`, where the samples lie; the trajectory in numpy. After Ctrl-C, too: of what was done."""
    if monitor.interrupted:
        monitor = Monitor()
    if not problem.on_gpu:
        return spectral.train(problem, monitor)
    from . import spectral_torch

    found = spectral_torch.train(dataclasses.replace(problem, device=_where(problem)), monitor)
    return dataclasses.replace(found, weights=to_device(found.weights, None), mse=to_device(found.mse, None))


def triangle_of(problem: FitProblem, monitor: Monitor) -> Array | None:
    """R, z and rho of the QR decomposition of [V | y], as (degree + 2, degree + 2); None after Ctrl-C."""
    start = np.zeros(problem.degree + 1)
    if problem.on_gpu:
        from . import spectral_torch

        x, y = problem.tensors(_where(problem))
        found = spectral_torch.triangle(x, y, x.new_zeros(len(start)), monitor).cpu().numpy()
    else:
        found = spectral.triangle(problem.x, problem.y, start, monitor)
    if monitor.interrupted:
        return None
    square = np.zeros((len(start) + 1, len(start) + 1))  # there may be fewer samples than that
    square[: len(found)] = found
    return square


def _where(problem: FitProblem) -> Any:
    """The GPU that samples are on; another problem's results may be wanted elsewhere."""
    return next(samples.device for samples in (problem.x, problem.y) if on_gpu(samples))


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
    least = max(least_sum(sums, problem.precision), SMALLEST / rate)
    scales = (rate * sums.square, 1 / rate, 1 / sums.n, least)
    tables: list[tuple[Array, Array, float]] = []  # of the triangle, once it is needed

    def advance(weights: Array, steps: int, every: int, wait: int, trace: Array) -> tuple[Array, int]:
        start, taken, cancelled = tuple(float(weight) for weight in weights), 0, bool(tables)
        if not tables:
            start, taken, cancelled = descend_moments(change, *scales, start, steps, every, wait, trace)
        if cancelled and not tables:
            triangle = triangle_of(problem, monitor)
            if triangle is None:
                return np.array(start, problem.storage), taken
            tables.append(_triangle_tables(triangle, rate))
        if cancelled:
            rows = max(0, -(-(taken - wait) // every))
            wait += rows * every - taken
            start, more = descend_triangle(change, *scales, *tables[0], start, steps - taken, every, wait, trace[rows:])
            taken += more
        return np.array(start, problem.storage), taken

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
        arguments = (table, error, sums.square, 1 / sums.n, state)
        for start in range(0, trace.size, ROWS):
            descend_abreast(*arguments, trace[start : start + ROWS])
            done = min((start + ROWS) * every, problem.steps)
            monitor.report(done, problem.steps)
            if monitor.interrupted and done < problem.steps:
                return Trajectory(state[:, 0].copy(), trace[: start + ROWS], done)
    monitor.report(problem.steps, problem.steps)
    weights = step.times(problem.steps)(problem.initial_weights)
    return Trajectory(weights, trace[:rows], problem.steps, stable=True)


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


def _triangle_tables(triangle: Array, rate: float) -> tuple[Array, Array, float]:
    """What `descend_triangle` takes: the tables of z - R w and of rate R^T, and rho**2."""
    r, z = triangle[:-1, :-1], triangle[:-1, -1]
    residual, back = np.empty((2, len(z), len(z) + 1))
    residual[:, 0], residual[:, 1:] = z, -r
    back[:, 0], back[:, 1:] = 0, rate * r.T
    return residual, back, float(triangle[-1, -1] ** 2)


def _error_table(sums: Moments) -> Array:
    """For `quadratic`: w.(H w - 2 h) by the upper triangle."""
    return np.column_stack([-2 * sums.vector, np.triu(sums.matrix) + np.triu(sums.matrix, 1)])
