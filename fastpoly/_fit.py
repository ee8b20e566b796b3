"""`fit`: from samples to a FitResult."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from fastpoly_kernels.aside import imported

from ._advice import divergence, too_early
from ._arrays import to_device
from ._backends import Train, choose, minimum_of, train_towards
from ._errors import ConvergenceWarning, DivergenceWarning, Interrupted
from ._minimum import FAR, Minimum
from ._monitor import Monitor, Progress
from ._plan import Plan, planned
from ._problem import FitProblem
from ._progress import shown
from ._quality import Quality
from ._result import FitResult, Trajectory
from ._samples import Samples
from ._warn import warn


def fit(
    x: Any,
    y: Any,
    degree: int = 4,
    steps: int | str = "auto",
    learn_rate: float | str = "auto",
    *,
    domain: Any = "auto",
    sigma: Any = None,
    sample_weight: Any = None,
    ridge: Any = 0.0,
    nan_policy: str = "raise",
    validation: tuple[Any, Any] | None = None,
    early_stopping: bool = False,
    backend: str = "auto",
    precision: str = "double",
    initial_weights: Any = None,
    trace_every: int | str | None = "auto",
    progress: bool | Progress = False,
) -> FitResult:
    """Fit a polynomial to samples by gradient descent on the mean squared error.

    x is mapped to t in [-1, 1], as numpy.polynomial maps it. Step k records mse_k = mean((y - p(t))**2) and then sets
    w -= learn_rate * d mse_k / dw, starting at zeros: see `fastpoly.reference`. Learn rate and steps, unless given, are
    chosen from the samples, so that the descent comes near its minimum. The post's own run, in powers of x itself, is
    `fit(x, y, 4, 200_000, 1e-5, domain=None)`.

    Args:
        x, y: n samples: (n,) or (n, 1); lists, numpy arrays, pandas Series or torch tensors; or dask arrays, which are
            read chunk by chunk (docs/beyond.md). Samples that are masked in either are left out. y of shape (n, k) is k
            columns, each fitted by itself: the result is that of `fit_many(x, y.T)`.
        degree: of the polynomial, >= 0.
        steps: how many to take, >= 0. "auto": a round number of them, 10**4 to 10**12, that brings the mse within 0.1 %
            of least squares' own, or of rounding. A loop that would take minutes for them takes fewer.
        learn_rate: > 0; above `stability_limit(x, degree, domain)` the run diverges. "auto": the one that comes closest
            to the minimum in these steps.
        domain: the interval of x that is mapped to [-1, 1]: two numbers; "auto" is from the least x to the largest;
            None maps nothing.
        sigma: the standard deviation of each y, (n,) or a number: residuals are divided by it, as in
            scipy.optimize.curve_fit. (`numpy.polyfit` takes 1 / sigma.)
        sample_weight: (n,), squared residuals are multiplied by it over its mean, as in scikit-learn. 0 leaves out.
        ridge: >= 0, a number or one for each weight: ridge * w**2 is added to the mse for each; 0 for the first leaves
            the constant alone.
        nan_policy: "raise" refuses a sample that is NaN or infinite, "omit" leaves it out.
        validation: (x, y) of other samples, whose mse is recorded too, as `validation_mse`.
        early_stopping: stop at the recorded step with the least `validation_mse`.
        backend: a name from `backends()`, or "auto": the fastest that gives the asked precision, as below.
        precision: "double" (float64 throughout), "mixed" (float64, with weights and mse rounded to float32 after every
            step, as the post's numpy loop does) or "single" (float32 throughout, as its torch loops do).
        initial_weights: degree + 1 weights of the powers of t (of x if domain is None), power 0 first; zeros if None.
        trace_every: keep the mse of every trace_every-th step, from step 0 on; None keeps none. "auto" keeps at most
            10**5 of them, and all where domain is None and steps and learn_rate are numbers.
        progress: True shows a bar; a function is called with (steps done, steps) every few hundredths of a second.

    | precision | samples  | "auto" is  | because                                                         |
    | --------- | -------- | ---------- | --------------------------------------------------------------- |
    | double    | <= 4,096 | `spectral` | there is no loop at all                                         |
    | double    | more     | `gram`     | one pass over the samples, then steps that know nothing of them |
    | mixed     | any      | `gram`     | the same                                                        |
    | single    | any      | `numba`    | sums of the samples in float32 are what `single` means          |

    In double it is `spectral` for any number of samples where steps or learn_rate are chosen, as they are chosen from
    what it computes. It is the only one that takes sigma, sample_weight and ridge. Tensors on a CUDA GPU stay there for
    `gram`, `spectral` and all backends of the GPU, and "auto" is the same for them but in single: `triton`, or for more
    than 16,384 samples and so many steps that compiling pays, `compile-gpu`; where Triton cannot run, `numba` on the
    CPU.

    Returns:
        A FitResult; it says what was chosen, what ran and how near the minimum it came. Its arrays are torch tensors on
        the same device if x or y is one, else numpy.

    Raises:
        TypeError, ValueError: an argument cannot be meant.
        BackendUnavailableError: the backend cannot run here.
        MemoryError: the trace would not fit, before any work is done.
        Interrupted: Ctrl-C; `.partial` holds the result so far.

    Warns:
        DivergenceWarning: the mse left the range of its dtype, and the result ends there; or it has grown, with a
            learn_rate above the stability limit, whether there is a trace or not.
        ConvergenceWarning: the run ended far from the minimum; the message says how far, and what gets there. Far is
            what is not `converged`, or where both steps and learn_rate are given, 5 % of the variance of y.
    """
    samples = Samples.checked(x, y, sigma, sample_weight, nan_policy)
    if samples.y.ndim == 2:
        if samples.scale is not None or np.any(ridge) or validation is not None or early_stopping:
            raise ValueError(
                "y: wants one column with sigma, sample_weight, ridge or validation, got "
                f"{samples.y.shape[1]}; fit them one by one, y[:, 0] and so on"
            )
        return imported("fastpoly._fit_many").fit_many(  # type: ignore[no-any-return]
            to_device(samples.x, samples.device),
            to_device(samples.y.T, samples.device),
            degree,
            steps,
            learn_rate,
            domain=domain,
            backend=backend,
            precision=precision,
            initial_weights=initial_weights,
            trace_every=None if isinstance(trace_every, str) else trace_every,
            progress=progress,
            problems="rows",
        )
    plan = planned(
        samples,
        degree,
        steps,
        learn_rate,
        domain=domain,
        ridge=ridge,
        validation=validation,
        early_stopping=early_stopping,
        backend=backend,
        precision=precision,
        initial_weights=initial_weights,
        trace_every=trace_every,
    )
    if progress is False:
        return run(plan)
    with shown(progress) as report:
        return run(plan, report)


def run(plan: Plan, progress: Progress | None = None) -> FitResult:
    """Run it, and tell the caller of `fit` if it diverges or does not come far enough."""
    problem = plan.problem
    train = plan.train
    if plan.backend == "spectral" and plan.minimum is not None:  # half of its work is done
        known = plan.minimum
        train = lambda problem, monitor: train_towards(problem, known, monitor)  # noqa: E731
    trajectory, result, interrupted = _descended(problem, plan.backend, train, progress)

    def minimum() -> Minimum:
        return trajectory.minimum or plan.minimum or minimum_of(problem)

    others = plan.validation_mse
    result = dataclasses.replace(
        result,
        domain=plan.domain,
        validation_mse=None if others is None else to_device(others, problem.device),
        _find_minimum=minimum,
    )
    if interrupted:
        raise Interrupted(result, f"{result.steps:,} of {problem.steps:,} steps")
    given = [name for name in ("domain", "learn_rate") if name not in plan.chosen]
    said = divergence(problem, trajectory, f", or leave out {' and '.join(given)}" if given else "")
    if said is not None:
        warn(said, DivergenceWarning)
    elif problem.steps and result.diverged_at is None and not plan.stops_early and far(result, plan.chosen):
        end = result.final_mse, result.least_squares_mse
        warn(too_early(problem, result.minimum, end, plan.chosen), ConvergenceWarning)
    return result


def far(result: Quality, chosen: frozenset[str]) -> bool:
    """Is the end worth a warning? Who gave both steps and learn rate has said where to end, and hears less."""
    if {"steps", "learn_rate"} & chosen:
        return not result.converged
    minimum = result.minimum
    return minimum.excess(result.weights_as_array()) > max(minimum.useful, FAR * minimum.total)


def solve(problem: FitProblem, backend: str = "auto", progress: Progress | None = None) -> FitResult:
    """Run `problem` as it stands, and tell the caller of `train` if it diverges."""
    trajectory, result, interrupted = _descended(problem, *choose(backend, problem), progress)
    if interrupted:
        raise Interrupted(result, f"{result.steps:,} of {problem.steps:,} steps")
    said = divergence(problem, trajectory)
    if said is not None:
        warn(said, DivergenceWarning)
    return result


def _descended(
    problem: FitProblem, backend: str, train: Train, progress: Progress | None
) -> tuple[Trajectory, FitResult, bool]:
    """The run, and whether Ctrl-C ended it."""
    monitor = Monitor(progress)
    started = time.perf_counter()
    trajectory = train(problem, monitor)
    seconds = time.perf_counter() - started
    return trajectory, FitResult.of(problem, trajectory, backend, seconds), monitor.interrupted
