"""`fit_many`: many training runs in one call."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from ._arrays import to_device
from ._backends import choose_many
from ._batch import BatchProblem
from ._errors import DivergenceWarning, Interrupted
from ._growth import grown_many
from ._model import stability_limit
from ._monitor import Monitor, Progress
from ._progress import shown
from ._result import FitResult


def fit_many(
    x: Any,
    y: Any,
    degree: int = 4,
    steps: int = 200_000,
    learn_rate: Any = 1e-5,
    *,
    backend: str = "auto",
    precision: str = "double",
    initial_weights: Any = None,
    trace_every: int | None = None,
    progress: bool | Progress = False,
) -> FitResult:
    """Fit a polynomial to each row of y, as `fit` would, in one call.

    Args:
        x: where the samples lie: (n,) for all problems, or (batch, n), a row for each.
        y: (batch, n).
        degree, steps, precision: as in `fit`, for all problems.
        learn_rate: a number, or (batch,), one for each problem.
        backend: "spectral" (double): where x is shared one small matrix product for all; else singular values of each.
            "gram" (double, mixed): from moments; where x is shared in double without a trace, one small matrix product.
            "numba": the loops, problems across threads. "triton": the loops on the GPU, a program for each. "auto":
            spectral in double, gram in mixed, numba in single.
        initial_weights: zeros if None; (degree + 1,) for all problems, or (batch, degree + 1).
        trace_every: as in `fit`, except that None, no trace, is the default: one has batch * steps values.
        progress: True shows a bar; a function is called with (problems done, batch).

    Returns:
        A FitResult with the problems as first axis: weights (batch, degree + 1), mse (batch, steps / trace_every), NaN
        from where a problem diverged. diverged_at is None, or (batch,) steps, -1 for the problems that did not diverge.
        Temporary memory is bounded (some 100 MiB), whatever the batch.

    Raises:
        TypeError, ValueError, BackendUnavailableError, MemoryError: as `fit`.
        Interrupted: Ctrl-C; `.partial` holds the first problems, those that were finished.

    Warns:
        DivergenceWarning: some problems diverged, or grow with a learn rate above the stability limit; the message says
            which, and from which step to which the mse of the first grew.
    """
    problem = BatchProblem.checked(
        x,
        y,
        degree,
        steps,
        learn_rate,
        precision=precision,
        initial_weights=initial_weights,
        trace_every=trace_every,
    )
    with shown(progress) as report:
        monitor = Monitor(report)
        name, train = choose_many(backend, problem)
        started = time.perf_counter()
        trajectory = train(problem, monitor)
        seconds = time.perf_counter() - started
    diverged_at = to_device(trajectory.diverged_at, None)
    diverged = diverged_at >= 0
    result = FitResult(
        weights=to_device(trajectory.weights, problem.device),
        mse=to_device(trajectory.mse, problem.device),
        steps=problem.steps,
        learn_rate=learn_rate,
        precision=problem.precision,
        backend=name,
        seconds=seconds,
        diverged_at=to_device(diverged_at, problem.device) if diverged.any() else None,
        trace_every=problem.trace_every,
    )
    if monitor.interrupted:
        raise Interrupted(result, f"{len(trajectory.weights):,} of {problem.batch:,} problems")
    said = _divergence(problem, diverged, diverged_at, grown_many(problem, trajectory))
    if said is not None:
        warnings.warn(said, DivergenceWarning, stacklevel=2)
    return result


NAMED = 10
"""Problems that a warning lists; all are in `diverged_at`, or found by their mse."""


def _divergence(problem: BatchProblem, diverged: Any, steps: Any, growing: list[tuple[int, str, float]]) -> str | None:
    """What to warn of: problems that left the range, and problems that are on their way there."""
    said = []
    if diverged.any():
        which = np.flatnonzero(diverged).tolist()
        i = which[0]
        limit = stability_limit(problem.x if problem.shared_x else problem.x[i], problem.degree)
        said.append(
            f"{len(which):,} of {problem.batch:,} problems diverged, first problem {i} at step {steps[i]:,}: "
            f"the mse left the range of {np.dtype(problem.storage)}; its learn_rate is {problem.learn_rates[i]:.4g}, "
            f"its stability limit {limit:.4g}; {_listed(which)}"
        )
    if growing:
        which = [i for i, _, _ in growing]
        i, growth, limit = growing[0]
        said.append(
            f"{len(which):,} of {problem.batch:,} problems are diverging, first problem {i}: {growth}; "
            f"its learn_rate is {problem.learn_rates[i]:.4g}, its stability limit {limit:.4g}; {_listed(which)}"
        )
    return "; ".join([*said, "choose learn rates below the limits"]) if said else None


def _listed(which: list[int]) -> str:
    rest = len(which) - NAMED
    return f"they are {', '.join(map(str, which[:NAMED]))}" + (f" and {rest:,} more" if rest > 0 else "")
