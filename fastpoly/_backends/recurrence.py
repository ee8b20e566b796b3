"""Many steps of `gram`'s recurrence at once, where it converges: s steps are one matrix, made in log2(s) squarings.

The state of the recorded step t + L is a matrix times that of step t, so L recorded steps are computed abreast: in a
compiled kernel as many as a register has lanes, on a device thousands. There is no one code for both: matrix products
of few columns take numpy longer than the kernel takes for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpoly_kernels.gram import descend_abreast
from fastpoly_kernels.processor import register_bits

from .._arrays import Array, empty, namespace
from .._monitor import Monitor
from .._pages import uninitialised
from .._problem import FitProblem
from .._result import Trajectory
from .moments import Moments

ROWS = 2**23
"""Recorded steps to a portion of `descend_abreast`: some 20 ms, after which Ctrl-C is heard."""

VALUES = 2**22
"""Numbers in the states of the recorded steps that a device computes abreast: 32 MiB, some milliseconds between two
looks at Ctrl-C, by what is said of GPUs."""


@dataclass(frozen=True)
class AffineStep:
    """What some steps do to the weights: w becomes w + constant - matrix w.

    The difference is kept instead of the new w: for slow components the matrix is small, and 1 - matrix would lose it.

    Attributes:
        constant, matrix: (m,) and (m, m); or tensors (..., m, 1) and (..., m, m), for w of shape (..., m, columns).
    """

    constant: Any
    matrix: Any

    @classmethod
    def of_a_step(cls, sums: Moments, rate: float) -> AffineStep:
        return cls(rate * sums.vector, rate * sums.matrix)

    def __call__(self, w: Any) -> Any:
        return w + (self.constant - self.matrix @ w)

    def then(self, other: AffineStep) -> AffineStep:
        return AffineStep(
            self.constant + other.constant - other.matrix @ self.constant,
            self.matrix + other.matrix - other.matrix @ self.matrix,
        )

    def times(self, count: int) -> AffineStep:
        """This change `count` times, by squaring."""
        result, square = None, self
        while count:
            if count & 1:
                result = square if result is None else result.then(square)
            count >>= 1
            if count:
                square = square.then(square)
        return AffineStep(0 * self.constant, 0 * self.matrix) if result is None else result

    def table(self) -> Array:
        """For `affine_each`."""
        return np.column_stack([self.constant, -self.matrix])


def by_lanes(problem: FitProblem, monitor: Monitor, sums: Moments, rate: float) -> Trajectory:
    """The run, the recorded steps of its trace in the lanes of registers."""
    step = AffineStep.of_a_step(sums, rate)
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


def by_products(
    products: Any, start: Any, rates: Any, n: int, steps: int, every: int | None, monitor: Monitor
) -> tuple[Any, Any, int]:
    """Weights (batch, m) after `steps` steps, the trace (batch, rows), and how many rows were filled before Ctrl-C.

    The first states are made by doubling: from those of steps 0 to k - 1, one product makes those of k to 2 k - 1. So a
    trace of T values is log2(L) + T / L products. An eigendecomposition of H would do with one, but where H is nearly
    singular its small eigenvalues are wrong by eps times its largest; `spectral` is there for that.

    Args:
        products: (batch, m + 1, m + 1), see `moments.products`.
        start: (batch, m) weights.
        rates: (batch,), learn_rate 2 / n.
        n: samples of a problem.
        steps, every: as in FitProblem.
        monitor: hears Ctrl-C.
    """
    matrix, vector, square = products[:, :-1, :-1], products[:, :-1, -1:], products[:, -1:, -1]
    step = AffineStep(rates[:, None, None] * vector, rates[:, None, None] * matrix)
    weights = step.times(steps)(start[:, :, None])[:, :, 0]
    rows = 0 if every is None else -(-steps // every)
    trace = empty(start, (len(start), rows))
    if rows == 0:
        return weights, trace, 0
    states, change = start[:, :, None], step.times(every or 1)
    most = max(VALUES, 2 * start.shape[0] * start.shape[1])
    while states.shape[2] < rows and 2 * states.shape[0] * states.shape[1] * states.shape[2] <= most:
        states, change = namespace(states).concatenate([states, change(states)], 2), change.then(change)
    done = 0
    while done < rows and not (done and monitor.interrupted):
        errors = square + ((matrix @ states - 2 * vector) * states).sum(1)
        trace[:, done : done + states.shape[2]] = (errors.clip(0) / n)[:, : rows - done]
        done = min(done + states.shape[2], rows)
        states = change(states)
        monitor.report(min(done * (every or 1), steps), steps)
    return weights, trace, done


def _error_table(sums: Moments) -> Array:
    """For `quadratic`: w.(H w - 2 h) by the upper triangle."""
    return np.column_stack([-2 * sums.vector, np.triu(sums.matrix) + np.triu(sums.matrix, 1)])
