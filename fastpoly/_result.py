"""What comes out of a run: a Trajectory from a backend, a FitResult for the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import Array, is_tensor, to_device

if TYPE_CHECKING:
    from numpy.polynomial import Polynomial

    from ._problem import FitProblem


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a backend makes of a FitProblem.

    Attributes:
        weights: (degree + 1,) after `steps` steps, in the problem's storage dtype.
        mse: (problem.rows(steps),) of the same dtype.
        steps: how many steps were taken; fewer than asked for when the run diverged or was interrupted.
        diverged_at: the first step whose mse is not finite in the storage dtype, or None. Then `weights` are those that
            have this mse, and steps == diverged_at.
        interrupted: Ctrl-C ended the run.
    """

    weights: Array
    mse: Array
    steps: int
    diverged_at: int | None = None
    interrupted: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class FitResult:
    """A polynomial fitted by gradient descent. Arrays are numpy or torch, as x and y were.

    Attributes:
        weights: (degree + 1,), x^0 first; float64 in precision "double", else float32.
        mse: the mean squared error before steps 0, trace_every, 2 trace_every, ...; same dtype. The returned weights'
            own mse is therefore not in it: it belongs to the step after the last.
        steps: how many steps were taken.
        learn_rate, precision, trace_every: as asked for.
        backend: what ran.
        seconds: how long the run took, compilation included (the first run on a machine compiles).
        diverged_at: None, or the step at which the mse stopped being finite; `mse` and `weights` end there.
    """

    weights: Any
    mse: Any
    steps: int
    learn_rate: float
    precision: str
    backend: str
    seconds: float
    diverged_at: int | None
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
        """The fit as a numpy.polynomial.Polynomial in float64 (`.deriv()`, `.roots()`, and so on)."""
        from numpy.polynomial import Polynomial

        return Polynomial(self._numpy_weights())

    def predict(self, x: Any) -> Any:
        """The polynomial at `x`: a number, list, array or tensor of any shape, in that shape.

        Evaluated by Horner's rule in float64, or in the tensor's own float dtype on its own device.
        """
        weights = self._numpy_weights()
        if not is_tensor(x):
            x = np.asarray(x, np.float64)
        value = x * 0.0 + weights[-1]
        for weight in weights[-2::-1]:
            value = value * x + weight
        return value

    def _numpy_weights(self) -> Array:
        weights = self.weights.cpu().numpy() if is_tensor(self.weights) else self.weights
        return np.asarray(weights, np.float64)

    def __repr__(self) -> str:
        terms = " ".join(
            f"{weight:+.6g}" + (f" x^{k}" if k > 1 else " x" if k else "")
            for k, weight in enumerate(self._numpy_weights())
        )
        end = f"diverged at step {self.diverged_at:,}" if self.diverged_at is not None else f"{self.steps:,} steps"
        return f"FitResult({terms.lstrip('+')}; {end}, {self.backend} {self.precision}, {self.seconds:.3g} s)"
