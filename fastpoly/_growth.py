"""Runs beyond the stability limit that have not overflowed yet: found with a trace or without one.

A run within the limit never grows, so the limit decides; what a backend has found of it, it says (`Trajectory.stable`).
Beyond it the mse may still fall, for as long as the growing component is small: told of is what has grown.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import float64, is_chunked, is_tensor, to_device
from ._batch import BatchProblem, BatchTrajectory
from ._model import VALUES, limits_of
from ._problem import FitProblem
from ._result import Trajectory


def grown(problem: FitProblem, trajectory: Trajectory) -> str | None:
    """From what to what the mse of a run has grown, in words; None if it has not."""
    if trajectory.stable or trajectory.diverged_at is not None or trajectory.steps == 0:
        return None
    mse, every = trajectory.mse, problem.trace_every
    if every == 1:
        return _growth(float(mse[0]), _least(mse), float(mse[-1]), trajectory.steps - 1)
    first, last = (_mse(problem.x, problem.y, weights) for weights in (problem.initial_weights, trajectory.weights))
    least = (first, 0)
    if every is not None:
        least = min(least, (float(mse.min()), int(mse.argmin()) * every))
    return _growth(first, least, last, trajectory.steps)


def grown_many(problem: BatchProblem, trajectory: BatchTrajectory) -> list[tuple[int, str, float]]:
    """Which problems have grown, from what to what in words, and the stability limit of each."""
    done, every = len(trajectory.weights), problem.trace_every
    if problem.steps == 0 or done == 0:
        return []
    running = to_device(trajectory.diverged_at, None) < 0
    x = problem.x[None] if problem.shared_x else problem.x[:done]
    limits = np.broadcast_to(limits_of(x, problem.degree + 1), done)
    found = []
    for i in np.flatnonzero(running & (problem.learn_rates[:done] > limits)).tolist():
        x, y = problem.x if problem.shared_x else problem.x[i], problem.y[i]
        if every == 1:
            mse = trajectory.mse[i]
            said = _growth(float(mse[0]), _least(mse), float(mse[-1]), problem.steps - 1)
        else:
            ends = (problem.initial_weights[i], trajectory.weights[i])
            first, last = (_mse(x, y, weights) for weights in ends)
            said = _growth(first, (first, 0), last, problem.steps)
        if said is not None:
            found.append((i, said, float(limits[i])))
    return found


def _least(mse: Any) -> tuple[float, int]:
    at = int(mse.argmin())
    return float(mse[at]), at


def _growth(first: float, least: tuple[float, int], last: float, step: int) -> str | None:
    """In words, if the last mse is larger than the least before it; roundings of a run that stands still are not."""
    smallest, at = least
    if last > first:
        return f"the mse grew from {first:.4g} to {last:.4g} at step {step:,}"
    if last > smallest * (1 + 1e-6):
        return f"the mse grew from {smallest:.4g} at step {at:,} to {last:.4g} at step {step:,}"
    return None


def _mse(x: Any, y: Any, weights: Any) -> float:
    """The mean squared error of these weights in float64, where the samples lie."""
    w = np.asarray(to_device(weights, None), np.float64).tolist()
    total = 0.0
    if is_chunked(x):
        return float(x.mean_square(y, w))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(x), VALUES):
            part = slice(start, start + VALUES)
            at, rest = float64(x[part]), float64(y[part])
            value = at * 0 + w[-1]
            for weight in w[-2::-1]:
                value = value * at + weight
            rest = rest - value.to(rest.device) if is_tensor(value) and is_tensor(rest) else rest - value
            total += float(rest @ rest)
    return total / len(x)
