"""A fit before it runs: everything checked, and what was left to "auto" chosen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import Array, dimensions, refuse_nonfinite, vector
from ._backends import CLOSED, Train, choose, minimum_of, rows_of
from ._domain import Domain, checked_domain, mapped_when_read
from ._held_out import held_out_mse
from ._minimum import FEWEST, MOST, Minimum
from ._problem import FitProblem, refuse_long_trace, shown, truth
from ._samples import Samples

KEPT = 10**5
"""Values that a trace has at most, if nobody asks for more."""

LOOP = 10**11, 10**7
"""Samples times weights times steps that "auto" asks of a loop at most, a minute or two; and steps."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What `fit` runs.

    Attributes:
        problem: with x mapped, and steps and learn rate chosen.
        backend: the name of what runs.
        train: and its function.
        domain: what x was mapped from, or None.
        chosen: of "domain", "steps" and "learn_rate", those that were left to "auto".
        minimum: what they were chosen from, or None.
        validation_mse: of other samples, along the run.
        stops_early: does it end where that is least?
    """

    problem: FitProblem
    backend: str
    train: Train
    domain: Domain | None
    chosen: frozenset[str]
    minimum: Minimum | None = None
    validation_mse: Array | None = None
    stops_early: bool = False


def planned(
    samples: Samples,
    degree: Any,
    steps: Any,
    learn_rate: Any,
    *,
    domain: Any = "auto",
    ridge: Any = 0.0,
    validation: Any = None,
    early_stopping: Any = False,
    backend: Any = "auto",
    precision: Any = "double",
    initial_weights: Any = None,
    trace_every: Any = "auto",
) -> Plan:
    """See `fit`, whose arguments these are and whose errors these are."""
    chosen = left_to_auto(domain=domain, steps=steps, learn_rate=learn_rate)
    raw = domain is None and not chosen
    problem = FitProblem.checked(
        samples.x,
        samples.y,
        degree,
        0 if "steps" in chosen else steps,
        1.0 if "learn_rate" in chosen else learn_rate,
        precision=precision,
        initial_weights=initial_weights,
        trace_every=(1 if raw else None) if is_auto(trace_every, "trace_every") else trace_every,
        every_sample=False,
    )
    penalty = penalty_of(ridge, problem.degree)
    if backend not in ("auto", "gram", "spectral"):  # a loop needs all samples in memory: no need to look at them first
        problem.refuse_large_copies(f"backend={shown(backend)}")
    interval = checked_domain(domain, samples.x)
    x = mapped_when_read(samples.x, interval)
    problem = dataclasses.replace(problem, x=x, scale=samples.scale, penalty=penalty, device=samples.device)
    others = _validation(validation, early_stopping, problem, interval)
    needed = "steps" in chosen or "learn_rate" in chosen or others is not None
    name, train = choose(backend, problem, finds_minimum=needed)
    minimum = minimum_of(problem) if needed else None
    if minimum is not None:
        given = None if "steps" in chosen else problem.steps
        rate = minimum.rate(given) if "learn_rate" in chosen else problem.learn_rate
        if given is None:
            most = MOST if (name, problem.precision) in CLOSED else most_of_a_loop(len(problem.x), problem.degree)
            given = minimum.steps(rate, most) or (most if rate <= minimum.limit else FEWEST)
        problem = dataclasses.replace(problem, steps=given, learn_rate=rate)
    if is_auto(trace_every, "trace_every") and not raw:
        problem = dataclasses.replace(problem, trace_every=max(1, -(-problem.steps // KEPT)))
    refuse_long_trace(problem.rows(problem.steps), np.dtype(problem.storage).itemsize, "steps")
    plan = Plan(problem, name, train, interval, chosen, minimum)
    return plan if others is None else _held_out(plan, others, bool(early_stopping))


def left_to_auto(**arguments: Any) -> frozenset[str]:
    """The names of those that are "auto"."""
    return frozenset(name for name, value in arguments.items() if is_auto(value, name))


def is_auto(value: Any, name: str) -> bool:
    """Is it left to "auto"?

    Raises:
        ValueError: it is another word.
    """
    if not isinstance(value, str):
        return False
    if value != "auto":
        raise ValueError(f"{name}: wants 'auto' or a number, got {shown(value)}; 'auto' chooses one from the samples")
    return True


def penalty_of(ridge: Any, degree: int, features: int = 1) -> Array | None:
    """(degree * features + 1,) what each squared weight adds to the mse; None for nothing."""
    size, where = degree * features + 1, f" in {features} features" if features > 1 else ""
    alone = dimensions(ridge, "ridge") == 0
    values = vector([ridge] if alone else ridge, "ridge")
    refuse_nonfinite(values, "ridge", np.dtype(np.float64))
    if values.size != size and not alone:
        got = f"got {values.size}; a number is for all"
        raise ValueError(f"ridge: wants a number, or {size} for degree {degree}{where}, {got}")
    if (values < 0).any():
        raise ValueError(f"ridge: wants numbers >= 0, got {values.min()}; 0 is none")
    return np.array(np.broadcast_to(values, size), np.float64) if values.any() else None


def most_of_a_loop(n: int, degree: int) -> int:
    """How many steps "auto" asks of a loop over n samples."""
    work, steps = LOOP
    return max(FEWEST, min(steps, work // (n * (degree + 1))))


def _validation(validation: Any, early_stopping: Any, problem: FitProblem, domain: Domain | None) -> FitProblem | None:
    """The problem whose samples are the held-out ones."""
    stops = truth(early_stopping, "early_stopping")
    if validation is None:
        if stops:
            raise ValueError("early_stopping: wants validation=(x, y), samples to stop by; hold some out")
        return None
    if not isinstance(validation, tuple) or len(validation) != 2:
        raise TypeError(f"validation: wants a pair (x, y), got {shown(validation)}; hold some samples out")
    x, y = validation
    try:
        others = Samples.checked(x, y)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from None
    if others.y.ndim == 2:
        raise ValueError("validation: wants one column of y; choose one, y[:, 0]")
    return dataclasses.replace(problem, x=mapped_when_read(others.x, domain), y=others.y, scale=None, penalty=None)


def _held_out(plan: Plan, others: FitProblem, stops: bool) -> Plan:
    problem, minimum = plan.problem, plan.minimum
    assert minimum is not None
    if problem.trace_every is None:
        raise ValueError("trace_every: wants a number with validation, got None; 'auto' chooses one")
    others.refuse_nonfinite()
    count, every = problem.rows(problem.steps), problem.trace_every
    trace = held_out_mse(minimum, problem.learn_rate, count, every, rows_of(others), len(others.x))
    if stops and count:
        best = int(np.nanargmin(trace)) if np.isfinite(trace).any() else 0
        problem = dataclasses.replace(problem, steps=best * every)
        trace = trace[: problem.rows(problem.steps)]
    return dataclasses.replace(plan, problem=problem, validation_mse=trace, stops_early=stops)
