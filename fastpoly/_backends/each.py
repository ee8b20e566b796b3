"""Batches: the rows that a backend fills, portion by portion, or one problem after the other, across threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays import beside, empty, to_device
from .._batch import BatchProblem, BatchTrajectory
from .._monitor import Monitor
from .._problem import FitProblem
from .._result import Trajectory
from .threads import in_threads

PORTION = 64
"""Problems between two looks at Ctrl-C, and two reports; a problem stops by itself in between."""

Train = Callable[[FitProblem, Monitor], Trajectory]


def unfilled(problem: BatchProblem) -> BatchTrajectory:
    """Rows for every problem, where its samples lie; `ended` is zeros in numpy: nothing is known yet."""
    weights = empty(problem.y, (problem.batch, problem.degree + 1), problem.storage)
    mse = empty(problem.y, (problem.batch, problem.rows(problem.steps)), problem.storage)
    mse[:] = np.nan
    diverged_at = to_device(np.full(problem.batch, -1), mse.device if problem.on_gpu else None)
    return BatchTrajectory(weights, mse, diverged_at, np.zeros(problem.batch, np.int8))


def in_portions(
    problem: BatchProblem,
    monitor: Monitor,
    portion: int,
    fill_part: Callable[[BatchProblem, BatchTrajectory, Monitor], bool],
) -> BatchTrajectory:
    """Fill so many problems at a time; after Ctrl-C, those that were finished before.

    `fill_part(problem, rows, monitor)` fills the rows of a part; False if Ctrl-C came before they were.
    """
    rows, done = unfilled(problem), 0
    while done < problem.batch and not monitor.interrupted:
        part = slice(done, min(done + max(1, portion), problem.batch))
        if not fill_part(problem.part(part), rows.part(part), monitor.child()):
            break
        done = part.stop
        monitor.report(done, problem.batch)
    return rows.part(slice(done))


def train_each(problem: BatchProblem, monitor: Monitor, train: Train) -> BatchTrajectory:
    """Run `train` on every problem, across threads; after Ctrl-C, what was finished before."""

    def fill_part(part: BatchProblem, rows: BatchTrajectory, monitor: Monitor) -> bool:
        in_threads(lambda i: fill(i, train(part.one(i), monitor.child()), rows), range(part.batch))
        return not monitor.interrupted

    return in_portions(problem, monitor, PORTION, fill_part)


def run_fallback(which: Any, problem: BatchProblem, train: Train, rows: BatchTrajectory, monitor: Monitor) -> None:
    """Run the problems that `which` says on the CPU, one by one."""
    for i in np.flatnonzero(to_device(which, None)).tolist():
        rows.mse[i] = np.nan
        fill(i, train(problem.one(i).on_cpu(), monitor.child()), rows)


def fill(i: int, trajectory: Trajectory, rows: BatchTrajectory) -> None:
    """Put a trajectory into the i-th row."""
    rows.weights[i] = beside(rows.weights, trajectory.weights)
    rows.mse[i, : len(trajectory.mse)] = beside(rows.mse, trajectory.mse)
    if trajectory.diverged_at is not None:
        rows.diverged_at[i] = trajectory.diverged_at
