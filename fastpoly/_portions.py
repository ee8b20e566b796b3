"""Run a loop in portions of some tens of milliseconds, so that Ctrl-C and progress work, with the bits of one call."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from ._arrays import Array
from ._monitor import Monitor
from ._pages import uninitialised
from ._problem import FitProblem
from ._result import Trajectory

PORTION_SECONDS = 0.03
"""Long beside the 20 us of a call, short beside the 0.2 s that Ctrl-C may take."""

FIRST_SECONDS = 0.005
"""For the first portion, whose length is planned from a guess that may be off by 10."""


class Advance(Protocol):
    """Steps from some weights to others. Its result must not depend on how a run is cut into portions."""

    def __call__(self, weights: Array, steps: int, every: int, wait: int, trace: Array, /) -> tuple[Array, int]:
        """Take `steps` steps from `weights`; write the mse into `trace` after `wait` steps, then every `every` steps.

        Returns the new weights and the number of steps taken. That is fewer than `steps` when the mse of a step is not
        finite in the trace's dtype; then the weights are those that have this mse, and it is not in the trace.
        """


def run_in_portions(
    problem: FitProblem,
    monitor: Monitor,
    advance: Advance,
    step_seconds: float,
    first_seconds: float | None = None,
) -> Trajectory:
    """The whole run.

    Args:
        advance: takes the steps.
        step_seconds: a guess of what one step costs; it sets the first portion only.
        first_seconds: how long that should take, if not FIRST_SECONDS: longer if the guess is a good one.
    """
    every = problem.trace_every or 1
    trace = uninitialised(problem.rows(problem.steps), problem.storage)
    weights, done, diverged = problem.initial_weights, 0, False
    portion = max(1, int((first_seconds or FIRST_SECONDS) / step_seconds))
    while done < problem.steps and not diverged and not monitor.interrupted:
        steps = min(portion, problem.steps - done)
        wait = steps if problem.trace_every is None else -done % every
        started = time.perf_counter()
        weights, taken = advance(weights, steps, every, wait, trace[problem.rows(done) :])
        seconds = time.perf_counter() - started
        done += taken
        diverged = taken < steps and not monitor.interrupted  # which may end a portion, too
        portion = next_portion(steps, seconds)
        monitor.report(done, problem.steps)
    if done == problem.steps and not np.isfinite(weights).all():
        diverged = True  # in the last step of all, whose mse nobody asked for
    return Trajectory(
        weights.astype(problem.storage, copy=False),
        trace[: problem.rows(done)],
        done,
        done if diverged else None,
    )


def next_portion(steps: int, seconds: float) -> int:
    """How many steps take PORTION_SECONDS, if `steps` took `seconds`."""
    return max(1, min(steps * 16, int(steps * PORTION_SECONDS / max(seconds, 1e-6))))
