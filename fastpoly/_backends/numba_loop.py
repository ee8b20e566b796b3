"""`numba`: the whole loop in one compiled CPU kernel, the gradient derived by hand."""

from __future__ import annotations

import numpy as np

from fastpoly_kernels.descent import descend

from .._arrays import Array
from .._batch import BatchProblem, BatchTrajectory
from .._monitor import Monitor
from .._portions import run_in_portions
from .._problem import FitProblem
from .._result import Trajectory
from .each import train_each


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """Every problem by itself, across threads."""
    return train_each(problem, monitor, train)


def train(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """See `fastpoly_kernels.descent`."""
    x, y = problem.arrays()
    number = problem.arithmetic
    with np.errstate(over="ignore"):  # an infinite rate diverges, and is reported as that
        rate = number(problem.learn_rate * 2 / x.size)

    def advance(weights: Array, steps: int, every: int, wait: int, trace: Array) -> tuple[Array, int]:
        start = tuple(number(weight) for weight in weights)
        end, taken = descend(x, y, start, rate, steps, every, wait, trace)
        return np.array(end, problem.storage), taken

    nanoseconds = 20 + 0.1 * x.size * (problem.degree + 1)  # measured on a 3.5 GHz core, within a factor of 4
    return run_in_portions(problem, monitor, advance, nanoseconds * 1e-9)
