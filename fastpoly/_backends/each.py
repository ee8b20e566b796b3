"""A batch, one problem after the other, across threads: for backends whose kernels release the GIL."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._arrays import Array
from .._batch import BatchProblem, BatchTrajectory
from .._monitor import Monitor
from .._problem import FitProblem
from .._result import Trajectory
from .threads import in_threads

PORTION = 64
"""Problems between two looks at Ctrl-C, and two reports; a problem stops by itself in between."""


def train_each(
    problem: BatchProblem, monitor: Monitor, train: Callable[[FitProblem, Monitor], Trajectory]
) -> BatchTrajectory:
    """Run `train` on every problem; after Ctrl-C, what was finished before."""
    rows = problem.rows(problem.steps)
    weights = np.empty((problem.batch, problem.degree + 1), problem.storage)
    mse = np.full((problem.batch, rows), np.nan, problem.storage)
    diverged_at = np.full(problem.batch, -1)

    def one(i: int) -> None:
        trajectory = train(problem.one(i), monitor.of_a_part())
        fill(i, trajectory, weights, mse, diverged_at)

    for start in range(0, problem.batch, PORTION):
        stop = min(start + PORTION, problem.batch)
        in_threads(one, range(start, stop))
        if monitor.interrupted:
            return BatchTrajectory(weights[:start], mse[:start], diverged_at[:start])
        monitor.report(stop, problem.batch)
    return BatchTrajectory(weights, mse, diverged_at)


def fill(i: int, trajectory: Trajectory, weights: Array, mse: Array, diverged_at: Array) -> None:
    """Put the i-th problem's trajectory into the arrays of a BatchTrajectory."""
    weights[i] = trajectory.weights
    mse[i, : trajectory.mse.size] = trajectory.mse
    if trajectory.diverged_at is not None:
        diverged_at[i] = trajectory.diverged_at
