"""What a run that went wrong, or not far enough, is told: what happened, and what works here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import cache

import numpy as np

from fastpoly_kernels.aside import imported

from ._arrays import is_chunked
from ._backends import minimum_of, rows_of
from ._domain import checked_domain, mapped
from ._growth import grown
from ._minimum import Minimum
from ._model import stability_limit
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
    if is_chunked(problem.x) or (problem.weighted and trajectory.minimum is not None):
        limit = (trajectory.minimum or minimum_of(problem)).limit
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
    """The run ended far from the minimum; what gets there is tried, of many samples, on some of them.

    Args:
        problem: the run.
        minimum: where it would have ended.
        end: the mse of its weights, and that of least squares.
        chosen: of "domain", "steps" and "learn_rate", those that "auto" chose.
    """

    @cache
    def some() -> FitProblem:
        return _on_some(problem)

    def inside() -> Minimum:
        return minimum_of(dataclasses.replace(some(), x=mapped(some().x, checked_domain("auto", some().x))))

    remedy = remedied(minimum, problem.steps, problem.learn_rate, chosen, inside, _lower(some))
    return f"{ended_far(problem.steps, end)}; {remedy}"


def _on_some(problem: FitProblem) -> FitProblem:
    """The same of TRIED samples, from end to end."""
    if is_chunked(problem.x):
        x, y = imported("fastpoly._dask.samples").spread(problem.x, problem.y, TRIED)
        return dataclasses.replace(problem, x=x, y=y)
    part = slice(None, None, max(1, len(problem.x) // TRIED))
    scale = None if problem.scale is None else problem.scale[part]
    return dataclasses.replace(problem, x=problem.x[part], y=problem.y[part], scale=scale)


def ended_far(steps: int, end: tuple[float, float]) -> str:
    """In words; end is the mse, and that of least squares."""
    return f"ended far from the minimum: the mse is {end[0]:.4g} after {steps:,} steps, least squares' {end[1]:.4g}"


def remedied(
    minimum: Minimum,
    taken: int,
    learn_rate: float,
    chosen: frozenset[str],
    inside: Callable[[], Minimum],
    lower: Iterable[tuple[int, Minimum]],
) -> str:
    """The first remedy that works.

    Args:
        minimum, taken, learn_rate, chosen: of the run.
        inside: the minimum with x mapped to [-1, 1].
        lower: lower degrees, the highest first, and their minima.
    """
    if "domain" not in chosen:
        steps = _steps(inside())
        if steps is not None:
            return f"leave out domain, steps and learn_rate: with x mapped to [-1, 1] {steps:,} steps get there"
    steps = _steps(minimum)
    if steps is None:
        for degree, other in lower:
            if _steps(other) is not None:
                return f"its powers are too much alike for gradient descent; degree {degree} gets there"
        return "its powers are too much alike for gradient descent; lower the degree"
    if "learn_rate" not in chosen and ("steps" in chosen or steps <= taken):
        return "leave out learn_rate, which is chosen then, and gets there"
    if "steps" in chosen:
        return f"leave out backend and precision: in closed form the {steps:,} steps that it takes cost nothing"
    if "learn_rate" in chosen:
        return f"leave out steps, which are chosen then: {steps:,} get there"
    enough = minimum.steps(learn_rate)
    if enough is not None and enough <= 10 * steps:
        return f"{enough:,} steps get there; leave out steps, which are chosen then"
    return f"leave out steps and learn_rate, which are chosen then: {steps:,} steps get there"


def _steps(minimum: Minimum) -> int | None:
    return minimum.steps(minimum.rate(None))


def _lower(some: Callable[[], FitProblem]) -> Iterator[tuple[int, Minimum]]:
    """Lower degrees and their minima; the powers of a lower one are the first columns of those of a higher."""
    problem = some()
    rows, m = rows_of(problem), problem.degree + 1
    for size in range(m - 1, 0, -1):
        part = np.concatenate([rows[:, :size], rows[:, m:]], axis=1)
        penalty = None if problem.penalty is None else problem.penalty[:size]
        yield size - 1, Minimum.of(part, len(problem.x), problem.initial_weights[:size], penalty)
