"""BatchProblem: many training runs of one shape, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import Array, device_of, matrix, refuse_nonfinite, vector
from ._problem import PRECISIONS, FitProblem, checked_options, positive, refuse_long_trace

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class BatchProblem:
    """Fit a polynomial to each row of y. Make one with `BatchProblem.checked`.

    Attributes:
        x: the samples' places, (n,) where all rows share them, else (batch, n); of the dtype of the arithmetic, as y.
        y: (batch, n).
        learn_rates: (batch,) float64.
        initial_weights: (batch, degree + 1), in the storage dtype.
        degree, steps, precision, trace_every, device: as in FitProblem.
    """

    x: Array
    y: Array
    degree: int
    steps: int
    learn_rates: Array
    precision: str
    initial_weights: Array
    trace_every: int | None
    device: torch.device | None = None

    @classmethod
    def checked(
        cls,
        x: Any,
        y: Any,
        degree: Any,
        steps: Any,
        learn_rate: Any,
        *,
        precision: Any,
        initial_weights: Any,
        trace_every: Any,
    ) -> BatchProblem:
        """Check everything a caller may get wrong, once; raises as `FitProblem.checked`."""
        degree, steps, trace_every, arithmetic, storage = checked_options(degree, steps, precision, trace_every)
        device = device_of(x, y)
        y = matrix(y, "y")
        x = matrix(x, "x") if np.ndim(x) == 2 and np.shape(x)[1] != 1 else vector(x, "x")
        if x.ndim == 2 and x.shape != y.shape:
            raise ValueError(
                f"x and y: want the same shape, or x of shape ({y.shape[1]},), got {x.shape} and {y.shape}"
            )
        if x.ndim == 1 and x.size != y.shape[1]:
            raise ValueError(f"x and y: want as many samples a row as x has, got {x.size} and {y.shape[1]}")
        for array, name in ((x, "x"), (y, "y")):
            refuse_nonfinite(array, name, np.dtype(arithmetic))
        batch = y.shape[0]
        problem = cls(
            np.ascontiguousarray(x, arithmetic),
            np.ascontiguousarray(y, arithmetic),
            degree,
            steps,
            _rates(learn_rate, batch),
            precision,
            _start(initial_weights, batch, degree, storage),
            trace_every,
            device,
        )
        refuse_long_trace(batch * problem.rows(steps), np.dtype(storage).itemsize, "steps")
        return problem

    @property
    def batch(self) -> int:
        """How many problems."""
        return int(self.y.shape[0])

    @property
    def shared_x(self) -> bool:
        """All problems have their samples at the same places."""
        return self.x.ndim == 1

    @property
    def storage(self) -> type[np.floating[Any]]:
        """The dtype of weights and mse."""
        return PRECISIONS[self.precision][1]

    def rows(self, steps: int) -> int:
        """How many mse values the first `steps` steps leave in a problem's trace."""
        return 0 if self.trace_every is None else -(-steps // self.trace_every)

    def one(self, i: int) -> FitProblem:
        """The i-th problem by itself."""
        return FitProblem(
            self.x if self.shared_x else self.x[i],
            self.y[i],
            self.degree,
            self.steps,
            float(self.learn_rates[i]),
            self.precision,
            self.initial_weights[i],
            self.trace_every,
        )

    def part(self, rows: slice) -> BatchProblem:
        """The problems of these rows."""
        return BatchProblem(
            self.x if self.shared_x else self.x[rows],
            self.y[rows],
            self.degree,
            self.steps,
            self.learn_rates[rows],
            self.precision,
            self.initial_weights[rows],
            self.trace_every,
            self.device,
        )


@dataclass(frozen=True, eq=False)
class BatchTrajectory:
    """What a backend makes of a BatchProblem; after Ctrl-C, of its first problems.

    Attributes:
        weights: (batch, degree + 1), in the storage dtype.
        mse: (batch, rows) of the same dtype, NaN from where a problem diverged.
        diverged_at: (batch,) int64, the step as in Trajectory, -1 for a problem that did not diverge.
    """

    weights: Array
    mse: Array
    diverged_at: Array


def _rates(learn_rate: Any, batch: int) -> Array:
    if np.ndim(learn_rate) == 0:
        return np.full(batch, positive(learn_rate, "learn_rate"))
    rates = vector(learn_rate, "learn_rate")
    if rates.size != batch:
        raise ValueError(f"learn_rate: wants a number or one for each of {batch} problems, got {rates.size}")
    rates = rates.astype(np.float64)
    good = np.isfinite(rates) & (rates > 0)
    if not good.all():
        i = int(np.argmin(good))
        raise ValueError(f"learn_rate: wants positive finite numbers, got learn_rate[{i}] = {rates[i]}")
    return rates


def _start(weights: Any, batch: int, degree: int, storage: type[np.floating[Any]]) -> Array:
    if weights is None:
        return np.zeros((batch, degree + 1), storage)
    start = matrix(weights, "initial_weights") if np.ndim(weights) == 2 else vector(weights, "initial_weights")
    if start.shape not in ((degree + 1,), (batch, degree + 1)):
        wants = f"shape ({degree + 1},) or ({batch}, {degree + 1}) for degree {degree}"
        raise ValueError(f"initial_weights: wants {wants}, got {start.shape}")
    refuse_nonfinite(start, "initial_weights", np.dtype(storage))
    return np.array(np.broadcast_to(start, (batch, degree + 1)), storage)  # a copy: the caller's stays the caller's
