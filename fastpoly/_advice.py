"""What a run that went wrong, or not far enough, is told: what happened, and what works here."""

from __future__ import annotations

import dataclasses

import numpy as np

from ._backends import rows_of
from ._domain import checked_domain, mapped
from ._growth import grown
from ._minimum import Minimum
from ._model import stability_limit
from ._monitor import Monitor
from ._problem import FitProblem
from ._result import Trajectory

TRIED = 2**15
"""Samples on which a remedy is tried, twice as many at most: some milliseconds."""


def divergence(problem: FitProblem, trajectory: Trajectory, way: str = "") -> str | None:
    """The mse overflowed, or is on its way there, which no run below the stability limit is; or None.

    Args:
        problem, trajectory: the run.
        way: what the caller has besides a lower learn rate, " or ...".
    """
    step = trajectory.diverged_at
    if step is not None:
        what = f"diverged at step {step:,}: the mse left the range of {np.dtype(problem.storage)}"
    else:
        growth = grown(problem, trajectory)
        if growth is None:
            return None
        what = f"diverging: {growth}"
    if problem.weighted and trajectory.minimum is not None:
        limit = trajectory.minimum.limit
    else:
        limit = stability_limit(problem.x, problem.degree)
    if step is None and problem.learn_rate <= limit:
        return None  # a rounding error at the end of a run that started there
    where = "above" if problem.learn_rate > limit else "below"
    advice = (
        f"choose one below {limit:.4g}{way}"
        if problem.learn_rate > limit > 0
        else f"scale x or y down, or lower the degree{way}"
    )
    return f"{what}; learn_rate {problem.learn_rate:.4g} is {where} the stability limit {limit:.4g}; {advice}"


def too_early(problem: FitProblem, minimum: Minimum, end: tuple[float, float], chosen: frozenset[str]) -> str:
    """The run ended far from the minimum.

    Args:
        problem: the run.
        minimum: where it would have ended.
        end: the mse of its weights, and that of least squares.
        chosen: of "domain", "steps" and "learn_rate", those that "auto" chose.
    """
    final, least = end
    what = (
        f"ended far from the minimum: the mse is {final:.4g} after {problem.steps:,} steps, least squares' {least:.4g}"
    )
    return f"{what}; {_remedy(problem, minimum, chosen)}"


def _remedy(problem: FitProblem, minimum: Minimum, chosen: frozenset[str]) -> str:
    """The first that works, tried on the numbers of the minimum; of many samples, on some of them."""
    part = slice(None, None, max(1, len(problem.x) // TRIED))
    scale = None if problem.scale is None else problem.scale[part]
    problem = dataclasses.replace(problem, x=problem.x[part], y=problem.y[part], scale=scale)
    if "domain" not in chosen:
        inside = dataclasses.replace(problem, x=mapped(problem.x, checked_domain("auto", problem.x)))
        steps = _steps(_minimum_of(inside))
        if steps is not None:
            return f"leave out domain, steps and learn_rate: with x mapped to [-1, 1] {steps:,} steps get there"
    steps = _steps(minimum)
    if steps is None:
        return _lower(problem)
    if "learn_rate" not in chosen and ("steps" in chosen or steps <= problem.steps):
        return "leave out learn_rate, which is chosen then, and gets there"
    if "steps" in chosen:
        return f"leave out backend and precision: in closed form the {steps:,} steps that it takes cost nothing"
    if "learn_rate" in chosen:
        return f"leave out steps, which are chosen then: {steps:,} get there"
    enough = minimum.steps(problem.learn_rate)
    if enough is not None and enough <= 10 * steps:
        return f"{enough:,} steps get there; leave out steps, which are chosen then"
    return f"leave out steps and learn_rate, which are chosen then: {steps:,} steps get there"


def _steps(minimum: Minimum) -> int | None:
    return minimum.steps(minimum.rate(None))


def _minimum_of(problem: FitProblem) -> Minimum:
    return Minimum.of(rows_of(problem, Monitor()), len(problem.x), problem.initial_weights, problem.penalty)


def _lower(problem: FitProblem) -> str:
    """The largest degree that gets there; the powers of a lower one are the first columns of those of a higher."""
    rows, m = rows_of(problem, Monitor()), problem.degree + 1
    for size in range(m - 1, 0, -1):
        part = np.concatenate([rows[:, :size], rows[:, m:]], axis=1)
        penalty = None if problem.penalty is None else problem.penalty[:size]
        if _steps(Minimum.of(part, len(problem.x), problem.initial_weights[:size], penalty)) is not None:
            return f"its powers are too much alike for gradient descent; degree {size - 1} gets there"
    return "its powers are too much alike for gradient descent; lower the degree"
