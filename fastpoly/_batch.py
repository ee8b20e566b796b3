"""BatchProblem: many training runs of one shape, checked once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import (
    Array,
    contiguous,
    device_of,
    dimensions,
    matrix,
    on_gpu,
    refuse_large_copy,
    refuse_nonfinite,
    sample_rows,
    samples,
    tensor_on,
    to_device,
    vector,
)
from ._domain import Domain, checked_domain, checked_domains, mapped
from ._problem import PRECISIONS, FitProblem, checked_options, positive, refuse_long_trace, shown

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class BatchProblem:
    """Fit a polynomial to each row of y. Make one with `BatchProblem.checked`.

    Attributes:
        x: the samples' places, (n,) where all rows share them, else (batch, n); of the dtype of the arithmetic, as y.
        y: (batch, n). Both are numpy arrays, or both tensors if they came on a GPU.
        learn_rates: (batch,) float64.
        initial_weights: (batch, degree + 1), in the storage dtype.
        degree, steps, precision, trace_every, device: as in FitProblem.
        domain: what x was mapped from: None, (lower, upper), or (batch, 2).
    """

    x: Any
    y: Any
    degree: int
    steps: int
    learn_rates: Array
    precision: str
    initial_weights: Array
    trace_every: int | None
    device: torch.device | None = None
    domain: Any = None

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
        domain: Any = None,
        problems: Any = "rows",
    ) -> BatchProblem:
        """Check everything a caller of `fit_many` may get wrong, once; raises as `FitProblem.checked`."""
        degree, steps, trace_every, arithmetic, storage = checked_options(degree, steps, precision, trace_every)
        device = device_of(x, y)
        own_x = in_rows(x)
        y = rows_of_problems(sample_rows(y, "y"), problems, own_x)
        x = sample_rows(x, "x") if own_x else samples(x, "x")
        if x.ndim == 2 and x.shape != y.shape:
            got = f"{tuple(x.shape)} and {tuple(y.shape)}"
            raise ValueError(f"x and y: want the same shape, or x of shape ({y.shape[1]},), got {got}; look at .T")
        if x.ndim == 1 and len(x) != y.shape[1]:
            got = f"{len(x)} and {y.shape[1]}; the problems are the rows of y: is it y.T?"
            raise ValueError(f"x and y: want as many samples a row as x has, got {got}")
        for array, name in ((x, "x"), (y, "y")):
            refuse_large_copy(array, arithmetic)
            refuse_nonfinite(array, name, np.dtype(arithmetic))
        batch = int(y.shape[0])
        interval = checked_domains(domain, x) if own_x else checked_domain(domain, x)
        x = mapped(x, interval)
        problem = cls(
            *_alike(x, y, arithmetic),
            degree,
            steps,
            _rates(learn_rate, batch),
            precision,
            _start(initial_weights, batch, degree, storage),
            trace_every,
            device,
            interval,
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
        return bool(self.x.ndim == 1)

    @property
    def storage(self) -> type[np.floating[Any]]:
        """The dtype of weights and mse."""
        return PRECISIONS[self.precision][1]

    @property
    def on_gpu(self) -> bool:
        """Did samples come on a GPU?"""
        return on_gpu(self.y)

    def on_cpu(self) -> BatchProblem:
        """The same with the samples in numpy; the caller still gets tensors on the device."""
        if not self.on_gpu:
            return self
        return dataclasses.replace(self, x=to_device(self.x, None), y=to_device(self.y, None))

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

    def part(self, rows: slice | Array) -> BatchProblem:
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
            self.domain if isinstance(self.domain, tuple) or self.domain is None else self.domain[rows],
        )

    def domain_of(self, i: int) -> Domain | None:
        """What the x of the i-th problem was mapped from."""
        if self.domain is None or isinstance(self.domain, tuple):
            return self.domain
        lower, upper = self.domain[i].tolist()
        return lower, upper


@dataclass(frozen=True, eq=False)
class BatchTrajectory:
    """What a backend makes of a BatchProblem; after Ctrl-C, of its first problems.

    Attributes:
        weights: (batch, degree + 1), in the storage dtype; numpy, or a tensor on a GPU, as all of these.
        mse: (batch, rows) of the same dtype, NaN from where a problem diverged.
        diverged_at: (batch,) int64, the step as in Trajectory, -1 for a problem that did not diverge.
        ended: (batch,) 1 for problems that surely came near their minima, -1 for those that surely did not, 0 where
            that takes more digits; None if nothing is known.
    """

    weights: Any
    mse: Any
    diverged_at: Any
    ended: Array | None = None

    def part(self, rows: slice) -> BatchTrajectory:
        """Of these problems, to look at or to fill."""
        ended = None if self.ended is None else self.ended[rows]
        return BatchTrajectory(self.weights[rows], self.mse[rows], self.diverged_at[rows], ended)


def rows_of_problems(y: Any, problems: Any, x_in_rows: bool) -> Any:
    """y with a row for each problem."""
    if problems not in (None, "rows", "columns"):
        got = f"got {shown(problems)}; 'rows' is y[i], 'columns' is y[:, i]"
        raise ValueError(f"problems: wants 'rows', 'columns' or None, {got}")
    square = y.shape[0] == y.shape[1] != 1
    if problems is None and square and not x_in_rows:
        way = "say which: problems='rows' or problems='columns'"
        raise ValueError(f"y: of shape {tuple(y.shape)} may have its problems in rows or in columns; {way}")
    if problems != "columns":
        return y
    if x_in_rows:
        raise ValueError("problems: 'columns' goes with one x for all, of shape (n,); pass x.T and y.T")
    return y.T


def in_rows(x: Any) -> bool:
    """Has x a row for each problem? One column is a vector."""
    return dimensions(x, "x") == 2 and np.shape(x)[1] != 1


def _alike(x: Any, y: Any, arithmetic: type[np.floating[Any]]) -> tuple[Any, Any]:
    """Both contiguous and of that dtype: tensors if one lies on a GPU, else arrays."""
    device = next((values.device for values in (x, y) if on_gpu(values)), None)
    if device is None:
        return contiguous(x, arithmetic), contiguous(y, arithmetic)
    return tensor_on(device, x, arithmetic).contiguous(), tensor_on(device, y, arithmetic).contiguous()


def _rates(learn_rate: Any, batch: int) -> Array:
    if dimensions(learn_rate, "learn_rate") == 0:
        return np.full(batch, positive(learn_rate, "learn_rate"))
    rates = vector(learn_rate, "learn_rate")
    if rates.size != batch:
        raise ValueError(
            f"learn_rate: wants a number or one for each of {batch} problems, got {rates.size}; choose a number"
        )
    rates = rates.astype(np.float64)
    good = np.isfinite(rates) & (rates > 0)
    if not good.all():
        i = int(np.argmin(good))
        way = "the largest that converges is stability_limit(x, degree)"
        raise ValueError(f"learn_rate: wants positive finite numbers, got learn_rate[{i}] = {rates[i]}; {way}")
    return rates


def _start(weights: Any, batch: int, degree: int, storage: type[np.floating[Any]]) -> Array:
    if weights is None:
        return np.zeros((batch, degree + 1), storage)
    start = (
        matrix(weights, "initial_weights")
        if dimensions(weights, "initial_weights") == 2
        else vector(weights, "initial_weights")
    )
    if start.shape not in ((degree + 1,), (batch, degree + 1)):
        wants = f"shape ({degree + 1},) or ({batch}, {degree + 1}) for degree {degree}"
        raise ValueError(f"initial_weights: wants {wants}, got {start.shape}; None starts at zeros")
    refuse_nonfinite(start, "initial_weights", np.dtype(storage))
    return np.array(np.broadcast_to(start, (batch, degree + 1)), storage)  # a copy: the caller's stays the caller's
