"""FitBatch: what `fit_many` returns, one FitResult for all problems and a sequence of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ._arrays import Array, is_tensor, to_device
from ._backends import minimum_of
from ._batch import BatchProblem
from ._minimum import Minimum
from ._result import FitResult


@dataclass(frozen=True, eq=False, repr=False)
class FitBatch(FitResult, Sequence[FitResult]):
    """Polynomials fitted by one call: a FitResult with the problems as first axis, and a sequence of one for each.

    Attributes:
        weights: (batch, degree + 1).
        mse: (batch, rows), NaN from where a problem diverged.
        learn_rate: a number, or one for each problem.
        diverged_at: None if no problem diverged, else (batch,) steps, -1 for those that did not.
        domain: as of one, or (batch, 2), an interval for each.

    What a FitResult says of its quality is here an array with the problems as first axis, computed one by one.
    """

    _problem: BatchProblem | None = None

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    @overload
    def __getitem__(self, i: int) -> FitResult: ...
    @overload
    def __getitem__(self, i: slice) -> list[FitResult]: ...
    def __getitem__(self, i: Any) -> Any:
        """The FitResult of a problem, or a list of them; its `seconds` are those of all."""
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        at = range(len(self))[i]  # IndexError and TypeError as a list has them
        problem = self._problem
        assert problem is not None

        def minimum() -> Minimum:
            one = problem.one(at)
            return minimum_of(one)

        diverged = None if self.diverged_at is None else int(self.diverged_at[at])
        stopped = diverged is not None and diverged >= 0
        steps = diverged if stopped and diverged is not None else self.steps
        return FitResult(
            weights=self.weights[at],
            mse=self.mse[at, : problem.rows(steps)],
            steps=steps,
            learn_rate=float(problem.learn_rates[at]),
            precision=self.precision,
            backend=self.backend,
            seconds=self.seconds,
            diverged_at=diverged if stopped else None,
            trace_every=self.trace_every,
            domain=problem.domain_of(at),
            _find_minimum=minimum,
        )

    def __iter__(self) -> Iterator[FitResult]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        run = f"{self.steps:,} steps, {self.backend} {self.precision}, {self.seconds:.3g} s"
        return f"FitBatch({len(self):,} polynomials of degree {self.degree}; {run})"

    @property
    def polynomial(self) -> Any:
        """Of a batch there are many.

        Raises:
            ValueError: always; take those of its parts.
        """
        raise ValueError(f"polynomial: there are {len(self)} fits; use result[i].polynomial")

    def predict(self, x: Any) -> Any:
        """Every polynomial at `x`, (batch, *x.shape); see `FitResult.predict`."""
        domain: Any = self.domain
        if domain is None or isinstance(domain, tuple):
            return super().predict(x)
        values = [one.predict(x) for one in self]
        if is_tensor(values[0]):
            import torch

            return torch.stack(values)
        return np.stack(values)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)


def _of_each(name: str, summary: str) -> property:
    def values(self: FitBatch) -> Array:
        return np.array([to_device(getattr(one, name), None) for one in self])

    return property(values, doc=f"{summary}, with the problems as first axis.")


for _name, _summary in {
    "raw_weights": "The weights of the powers of x as it was given",
    "final_mse": "The mean squared error of the weights",
    "least_squares_mse": "The least that any weights have",
    "converged": "Whether the run came near its minimum",
    "gradient_norm": "The length of the gradient at the weights",
    "r_squared": "The part of the variance of y that is explained",
    "reduced_chi_squared": "The sum of squares over the degrees of freedom",
    "covariance": "The covariance of the weights",
    "standard_errors": "The standard errors of the weights",
    "raw_covariance": "The covariance of the raw weights",
    "raw_standard_errors": "The standard errors of the raw weights",
    "steps_to_converge": "How many more steps are needed, or None",
    "degrees_of_freedom": "Samples less weights",
}.items():
    setattr(FitBatch, _name, _of_each(_name, _summary))
