"""`fit`: from samples to a FitResult."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from ._backends import choose
from ._errors import DivergenceWarning, Interrupted
from ._model import stability_limit
from ._monitor import Monitor, Progress
from ._problem import FitProblem
from ._progress import shown
from ._result import FitResult, Trajectory


def fit(
    x: Any,
    y: Any,
    degree: int = 4,
    steps: int = 200_000,
    learn_rate: float = 1e-5,
    *,
    backend: str = "auto",
    precision: str = "double",
    initial_weights: Any = None,
    trace_every: int | None = 1,
    progress: bool | Progress = False,
) -> FitResult:
    """Fit a polynomial to samples by gradient descent on the mean squared error.

    Step t records mse_t = mean((y - p(x))**2) and then sets w -= learn_rate * d mse_t / dw, as the post does: see
    `fastpoly.reference`.

    Args:
        x, y: n samples: (n,) or (n, 1); lists, numpy arrays, pandas Series or torch tensors.
        degree: of the polynomial, >= 0.
        steps: how many to take, >= 0.
        learn_rate: > 0; above `stability_limit(x, degree)` the run diverges.
        backend: a name from `backends()`, or "auto": the fastest that gives the asked precision, as below.
        precision: "double" (float64 throughout), "mixed" (float64, with weights and mse rounded to float32 after every
            step, as the post's numpy loop does) or "single" (float32 throughout, as its torch loops do).
        initial_weights: degree + 1 weights, x^0 first; zeros if None.
        trace_every: keep the mse of every trace_every-th step, from step 0 on; None keeps none.
        progress: True shows a bar; a function is called with (steps done, steps) every few hundredths of a second.

    | precision | samples  | "auto" is  | because                                                         |
    | --------- | -------- | ---------- | --------------------------------------------------------------- |
    | double    | <= 4,096 | `spectral` | there is no loop at all                                         |
    | double    | more     | `gram`     | one pass over the samples, then steps that know nothing of them |
    | mixed     | any      | `gram`     | the same                                                        |
    | single    | any      | `numba`    | sums of the samples in float32 are what `single` means          |

    Tensors on a CUDA GPU stay there for `gram`, `spectral` and all backends of the GPU, and "auto" is the same for them
    but in single: `triton`, or for more than 16,384 samples and so many steps that compiling pays, `compile-gpu`; where
    Triton cannot run, `numba` on the CPU.

    Returns:
        A FitResult; its `backend` says what ran. Its arrays are torch tensors on the same device if x or y is one, else
        numpy.

    Raises:
        TypeError, ValueError: an argument cannot be meant.
        BackendUnavailableError: the backend cannot run here.
        MemoryError: the trace would not fit, before any work is done.
        Interrupted: Ctrl-C; `.partial` holds the result so far.

    Warns:
        DivergenceWarning: the mse left the range of its dtype, and the result ends there; or it grew from the first
            kept step to the last with a learn_rate above the stability limit.
    """
    problem = FitProblem.checked(
        x,
        y,
        degree,
        steps,
        learn_rate,
        precision=precision,
        initial_weights=initial_weights,
        trace_every=trace_every,
        every_sample=False,
    )
    if progress is False:
        return solve(problem, backend)
    with shown(progress) as report:
        return solve(problem, backend, report)


def solve(problem: FitProblem, backend: str = "auto", progress: Progress | None = None) -> FitResult:
    """Run `problem`, and tell the caller of `fit` or `train` (two frames up) if it diverges."""
    monitor = Monitor(progress)
    name, train = choose(backend, problem)
    started = time.perf_counter()
    trajectory = train(problem, monitor)
    seconds = time.perf_counter() - started
    result = FitResult.of(problem, trajectory, name, seconds)
    if monitor.interrupted:
        raise Interrupted(result, f"{result.steps:,} of {problem.steps:,} steps")
    what = _went_wrong(problem, trajectory)
    if what is not None:
        warnings.warn(what, DivergenceWarning, stacklevel=3)
    return result


def _went_wrong(problem: FitProblem, trajectory: Trajectory) -> str | None:
    """What to warn of: the mse overflowed, or is on its way there, which no run below the stability limit is."""
    step, mse = trajectory.diverged_at, trajectory.mse
    if step is not None:
        what = f"diverged at step {step:,}: the mse left the range of {np.dtype(problem.storage)}"
    elif len(mse) > 1 and mse[-1] > mse[0]:
        what = f"diverging: the mse grew from {mse[0]:.4g} to {mse[-1]:.4g}"
    else:
        return None
    limit = stability_limit(problem.x, problem.degree)
    if step is None and problem.learn_rate <= limit:
        return None  # a rounding error at the end of a run that started there
    where = "above" if problem.learn_rate > limit else "below"
    advice = (
        f"choose one below {limit:.4g}" if problem.learn_rate > limit > 0 else "scale x or y down, or lower the degree"
    )
    return f"{what}; learn_rate {problem.learn_rate:.4g} is {where} the stability limit {limit:.4g}; {advice}"
