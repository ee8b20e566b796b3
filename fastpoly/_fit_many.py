"""`fit_many`: many training runs in one call."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from fastpoly_kernels.aside import imported

from ._arrays import Array, is_dask, to_device
from ._backends import CLOSED, choose_many
from ._batch import BatchProblem, BatchTrajectory
from ._errors import ConvergenceWarning, DivergenceWarning, Interrupted
from ._fit_batch import FitBatch
from ._growth import grown_many
from ._minima import Minima
from ._minimum import FAR, MOST
from ._model import stability_limit
from ._monitor import Monitor, Progress
from ._plan import is_auto, most_of_a_loop
from ._problem import refuse_long_trace
from ._progress import shown
from ._warn import warn


def fit_many(
    x: Any,
    y: Any,
    degree: int = 4,
    steps: int | str = "auto",
    learn_rate: Any = "auto",
    *,
    domain: Any = "auto",
    problems: str | None = None,
    backend: str = "auto",
    precision: str = "double",
    initial_weights: Any = None,
    trace_every: int | None = None,
    progress: bool | Progress = False,
) -> FitBatch:
    """Fit a polynomial to each row of y, as `fit` would, in one call.

    Args:
        x: where the samples lie: (n,) for all problems, or (batch, n), a row for each.
        y: (batch, n). Where that is a dask array, chunks of problems are fitted when somebody asks for them; for steps
            "auto" all are looked at before.
        degree, precision: as in `fit`, for all problems.
        steps: for all problems; "auto": as many as the slowest of them needs.
        learn_rate: a number, or (batch,), one for each problem; "auto": as in `fit`, one for all where x is shared.
        domain: as in `fit`; "auto" where x has rows: an interval for each row.
        problems: "rows" of y, or its "columns", for y of shape (n, batch). None is rows, and refuses a square y.
        backend: "spectral" (double): where x is shared one small matrix product for all; else singular values of each.
            "gram" (double, mixed): from moments; where x is shared in double without a trace, one small matrix product.
            "numba": the loops, problems across threads. "triton": the loops on the GPU, a program for each. "auto":
            spectral in double, gram in mixed, numba in single.
        initial_weights: zeros if None; (degree + 1,) for all problems, or (batch, degree + 1).
        trace_every: as in `fit`, except that None, no trace, is the default: one has batch * steps values.
        progress: True shows a bar; a function is called with (problems done, batch).

    Returns:
        A FitBatch: a FitResult with the problems as first axis, weights (batch, degree + 1), mse (batch, steps /
        trace_every), NaN from where a problem diverged; and a sequence of the FitResult of each. diverged_at is None,
        or (batch,) steps, -1 for the problems that did not diverge. Temporary memory is bounded (some 100 MiB),
        whatever the batch. Of a dask array it is a LazyBatch, whose weights, mse, diverged_at, converged, final_mse and
        least_squares_mse are lazy arrays in its chunks of problems.

    Raises:
        TypeError, ValueError, BackendUnavailableError, MemoryError: as `fit`.
        Interrupted: Ctrl-C; `.partial` holds the first problems, those that were finished.

    Warns:
        DivergenceWarning: some problems diverged, or grow with a learn rate above the stability limit; the message says
            which, and from which step to which the mse of the first grew.
        ConvergenceWarning: some problems ended far from their minima; the message says which, and what gets there.
    """
    if is_dask(y):
        return imported("fastpoly._dask.batches").fit_many(  # type: ignore[no-any-return]
            x,
            y,
            degree,
            steps,
            learn_rate,
            domain=domain,
            problems=problems,
            backend=backend,
            precision=precision,
            initial_weights=initial_weights,
            trace_every=trace_every,
            progress=progress,
        )
    auto_steps, auto_rate = is_auto(steps, "steps"), is_auto(learn_rate, "learn_rate")
    problem = BatchProblem.checked(
        x,
        y,
        degree,
        0 if auto_steps else steps,
        1.0 if auto_rate else learn_rate,
        precision=precision,
        initial_weights=initial_weights,
        trace_every=trace_every,
        domain=domain,
        problems=problems,
    )
    with shown(progress) as report:
        monitor = Monitor(report)
        name, train = choose_many(backend, problem)
        minima = None
        if auto_steps or auto_rate:
            minima = Minima.of(problem)
            most = MOST if (name, problem.precision) in CLOSED else most_of_a_loop(problem.y.shape[1], problem.degree)
            problem = _chosen(problem, minima, None if auto_steps else problem.steps, auto_rate, most)
        started = time.perf_counter()
        trajectory = train(problem, monitor)
        seconds = time.perf_counter() - started
    diverged_at = to_device(trajectory.diverged_at, None)
    diverged = diverged_at >= 0
    rates = problem.learn_rates
    result = FitBatch(
        weights=to_device(trajectory.weights, problem.device),
        mse=to_device(trajectory.mse, problem.device),
        steps=problem.steps,
        learn_rate=learn_rate if not auto_rate else float(rates[0]) if (rates == rates[0]).all() else rates,
        precision=problem.precision,
        backend=name,
        seconds=seconds,
        diverged_at=to_device(diverged_at, problem.device) if diverged.any() else None,
        trace_every=problem.trace_every,
        domain=problem.domain,
        _problem=problem,
    )
    if monitor.interrupted:
        raise Interrupted(result, f"{len(trajectory.weights):,} of {problem.batch:,} problems")
    said = _divergence(problem, diverged, diverged_at, grown_many(problem, trajectory))
    if said is not None:
        warn(said, DivergenceWarning)
    elif problem.steps:
        far = _far(problem, trajectory, minima, 0.0 if auto_steps or auto_rate else FAR)
        if far.size:
            warn(_too_early(problem, result, far.tolist()), ConvergenceWarning)
    return result


def _far(problem: BatchProblem, trajectory: BatchTrajectory, minima: Minima | None, part: float) -> Array:
    """Which problems ended far from their minima: not converged, and missing that part of the variance of their y."""
    weights = np.asarray(to_device(trajectory.weights, None), np.float64)
    if minima is not None:
        return np.flatnonzero(minima.excess(weights) > np.maximum(minima.useful, part * minima.total))
    ended = np.zeros(problem.batch, np.int8) if trajectory.ended is None else trajectory.ended
    far, unknown = ended < 0, np.flatnonzero(ended == 0)
    if unknown.size:
        minima = Minima.of(problem if unknown.size == problem.batch else problem.part(unknown))
        far[unknown] = minima.excess(weights[unknown]) > np.maximum(minima.useful, part * minima.total)
    return np.flatnonzero(far)


def _chosen(problem: BatchProblem, minima: Minima, steps: int | None, auto_rate: bool, most: int) -> BatchProblem:
    """With the steps and the learn rates that "auto" means."""
    rates = minima.rates(steps) if auto_rate else problem.learn_rates
    if steps is None:
        steps = minima.steps(rates, most)
    refuse_long_trace(problem.batch * -(-steps // (problem.trace_every or steps or 1)), 8, "steps")
    return dataclasses.replace(problem, steps=steps, learn_rates=np.array(np.broadcast_to(rates, problem.batch)))


def _too_early(problem: BatchProblem, result: FitBatch, which: list[int]) -> str:
    """What to warn of: problems that ended far from their minima."""
    first = result[which[0]]
    way = "leave out domain, steps and learn_rate, which are chosen then, or lower the degree"
    return (
        f"{len(which):,} of {problem.batch:,} problems ended far from their minima, first problem {which[0]}: "
        f"its mse is {first.final_mse:.4g}, least squares' {first.least_squares_mse:.4g}; {_listed(which)}; {way}"
    )


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
