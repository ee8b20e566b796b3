"""What comes out of a run: a Trajectory from a backend, a FitResult for the caller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import Array, is_tensor, numbers, to_device
from ._memory import refuse_beyond_memory

if TYPE_CHECKING:
    from numpy.polynomial import Polynomial

    from ._problem import FitProblem


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a backend makes of a FitProblem.

    Attributes:
        weights: (degree + 1,) after `steps` steps, in the problem's storage dtype; numpy, or a tensor on a GPU.
        mse: (problem.rows(steps),) of the same dtype and kind.
        steps: how many steps were taken; fewer than asked for when the run diverged or was interrupted.
        diverged_at: the first step whose mse is not finite in the storage dtype, or None. Then `weights` are those that
            have this mse, and steps == diverged_at.
        stable: True if the backend has found the learn rate within the stability limit, so that no mse has grown.
    """

    weights: Any
    mse: Any
    steps: int
    diverged_at: int | None = None
    stable: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class FitResult:
    """A polynomial fitted by gradient descent, or a batch of them. Arrays are numpy or torch, as x and y were.

    After `fit_many`, weights, mse and predictions have the problems as their first axis; `learn_rate` is what was
    given; `diverged_at` is None if no problem diverged, else an array of steps, -1 for those that did not.

    Attributes:
        weights: (degree + 1,), x^0 first; float64 in precision "double", else float32.
        mse: the mean squared error before steps 0, trace_every, 2 trace_every, ...; same dtype. The returned weights'
            own mse is therefore not in it: it belongs to the step after the last.
        steps: how many steps were taken.
        learn_rate, precision, trace_every: as asked for.
        backend: what ran.
        seconds: how long the run took; the first in a process loads numba, the first on a machine compiles as well.
        diverged_at: None, or the step at which the mse stopped being finite; `mse` and `weights` end there.
    """

    weights: Any
    mse: Any
    steps: int
    learn_rate: Any
    precision: str
    backend: str
    seconds: float
    diverged_at: Any
    trace_every: int | None

    @classmethod
    def of(cls, problem: FitProblem, trajectory: Trajectory, backend: str, seconds: float) -> FitResult:
        """The caller's view of `trajectory`."""
        return cls(
            to_device(trajectory.weights, problem.device),
            to_device(trajectory.mse, problem.device),
            trajectory.steps,
            problem.learn_rate,
            problem.precision,
            backend,
            seconds,
            trajectory.diverged_at,
            problem.trace_every,
        )

    @property
    def polynomial(self) -> Polynomial:
        """The fit as a numpy.polynomial.Polynomial in float64 (`.deriv()`, `.roots()`, and so on).

        Raises:
            ValueError: this is a batch; make one of a row of `weights`.
        """
        from numpy.polynomial import Polynomial

        weights = self._numpy_weights()
        if weights.ndim > 1:
            raise ValueError(f"polynomial: there are {len(weights)} fits; use Polynomial(result.weights[i])")
        return Polynomial(weights)

    def predict(self, x: Any) -> Any:
        """The polynomial at `x`: a number, list, array or tensor of any shape, in that shape.

        Evaluated by Horner's rule in float64, or in the tensor's own dtype if that is float16, bfloat16, float32 or
        float64, on its own device. Of a batch, every polynomial is evaluated: (batch, ...). NaN in x is NaN in y.

        Raises:
            TypeError, ValueError: x is no real number, or masked: as for `fit`.
            MemoryError: the values do not fit.
        """
        weights: Any = self._numpy_weights()
        x = numbers(x, "x")
        values = math.prod(weights.shape[:-1]) * math.prod(x.shape)
        refuse_beyond_memory(3 * values * 8, f"{values:,} predictions take", "fewer places at a time")
        if is_tensor(x):
            import torch

            if x.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
                x = x.to(torch.float64)
            weights = torch.as_tensor(weights).to(x)
        else:
            x = x.astype(np.float64, copy=False)
        weights = weights.reshape(*weights.shape[:-1], *(1 for _ in range(x.ndim)), weights.shape[-1])
        with np.errstate(over="ignore", invalid="ignore"):  # at infinity it is infinite, or NaN where terms cancel
            if weights.shape[-1] == 1:
                return x * 0 + weights[..., 0]
            value = x * weights[..., -1] + weights[..., -2]
            for k in range(weights.shape[-1] - 3, -1, -1):
                value = value * x + weights[..., k]
        return value

    def _numpy_weights(self) -> Array:
        weights = self.weights.cpu().numpy() if is_tensor(self.weights) else self.weights
        return np.asarray(weights, np.float64)

    def __repr__(self) -> str:
        if self.weights.ndim > 1:
            batch, size = self.weights.shape
            run = f"{self.steps:,} steps, {self.backend} {self.precision}, {self.seconds:.3g} s"
            return f"FitResult({batch:,} polynomials of degree {size - 1}; {run})"
        terms = " ".join(
            f"{weight:+.6g}" + (f" x^{k}" if k > 1 else " x" if k else "")
            for k, weight in enumerate(self._numpy_weights())
        )
        end = f"diverged at step {self.diverged_at:,}" if self.diverged_at is not None else f"{self.steps:,} steps"
        return f"FitResult({terms.lstrip('+')}; {end}, {self.backend} {self.precision}, {self.seconds:.3g} s)"
