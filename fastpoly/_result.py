"""What comes out of a run: a Trajectory from a backend, a FitResult for the caller."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _domain
from ._arrays import Array, is_tensor, numbers, to_device
from ._lazy import lazy
from ._memory import refuse_beyond_memory
from ._quality import PolynomialQuality

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from numpy.polynomial import Polynomial

    from ._domain import Domain
    from ._minimum import Minimum
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
        minimum: what the backend has found of the minimum, if it has.
    """

    weights: Any
    mse: Any
    steps: int
    diverged_at: int | None = None
    stable: bool = False
    minimum: Minimum | None = None


@dataclass(frozen=True, eq=False, repr=False)
class FitResult(PolynomialQuality):
    """A polynomial fitted by gradient descent. Arrays are numpy or torch, as x and y were.

    Attributes:
        weights: (degree + 1,), of the powers of the mapped variable, power 0 first; of x itself if `domain` is None.
            float64 in precision "double", else float32.
        mse: the mean squared error before steps 0, trace_every, 2 trace_every, ...; same dtype. The returned weights'
            own mse is therefore not in it (it is `final_mse`): it belongs to the step after the last.
        steps: how many steps were taken.
        learn_rate: the factor on the gradient; as asked for, or as "auto" has chosen it.
        precision: as asked for.
        backend: what ran.
        seconds: how long the run took; the first in a process loads the kernel, the first on a machine compiles it.
        diverged_at: None, or the step at which the mse stopped being finite; `mse` and `weights` end there.
        trace_every: how many steps lie between two of `mse`; None: there is none.
        domain: the interval of x that is mapped to `window`, or None: x is not mapped.
        validation_mse: of the validation samples, before the same steps as `mse`; None without such samples.
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
    domain: Domain | None = None
    validation_mse: Any = None
    _find_minimum: Callable[[], Minimum] | None = field(default=None, repr=False)

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
    def window(self) -> Domain | None:
        """What `domain` is mapped to: (-1, 1), as in numpy.polynomial."""
        return None if self.domain is None else _domain.WINDOW

    @lazy
    def raw_weights(self) -> Array:
        """(degree + 1,) float64 weights of the powers of x as it was given, of which `weights` are the mapped.

        Warns:
            RuntimeWarning: terms of the polynomial in x cancel so far that digits are lost; `predict` loses none.
        """
        weights = self.weights_as_array()
        if self.domain is None:
            return weights
        found, _ = _domain.raw(weights, self.domain)
        _domain.warn_of_lost_digits(found, self.domain, self.predict)
        return found

    @property
    def polynomial(self) -> Polynomial:
        """The fit as a numpy.polynomial.Polynomial in float64 with domain and window (`.deriv()`, `.roots()`, ...)."""
        return _domain.polynomial(self.weights_as_array(), self.domain)

    def predict(self, x: Any) -> Any:
        """The polynomial at `x`: a number, list, array or tensor of any shape, in that shape; x as `fit` was given it.

        Evaluated by Horner's rule in float64, or in the tensor's own dtype if that is float16, bfloat16, float32 or
        float64, on its own device. Of a batch, every polynomial is evaluated: (batch, ...). NaN in x is NaN in y.

        Raises:
            TypeError, ValueError: x is no real number, or masked: as for `fit`.
            MemoryError: the values do not fit.
        """
        weights: Any = self.weights_as_array()
        x = numbers(x, "x")
        values = math.prod(weights.shape[:-1]) * math.prod(x.shape)
        refuse_beyond_memory(3 * values * 8, f"{values:,} predictions take", "fewer places at a time")
        x = _domain.places(x, self.domain)
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

    def save(self, path: str | PathLike[str], *, trace: bool = True) -> None:
        """Write all of it as JSON, which `load` reads, whole or not at all; without `mse` if trace is False.

        Raises:
            OSError: it cannot be written.
        """
        from ._saved import save

        save(self, path, trace)

    @staticmethod
    def load(path: str | PathLike[str]) -> FitResult:
        """What `save` has written; arrays are numpy.

        Raises:
            OSError: it cannot be read. ValueError: it is no such file.
        """
        from ._saved import load

        return load(path)

    def weights_as_array(self) -> Array:
        """`weights` in numpy and float64."""
        weights = self.weights.cpu().numpy() if is_tensor(self.weights) else self.weights
        return np.asarray(weights, np.float64)

    def __repr__(self) -> str:
        name = "x" if self.domain is None else "t"
        terms = " ".join(
            f"{weight:+.6g}" + (f" {name}^{k}" if k > 1 else f" {name}" if k else "")
            for k, weight in enumerate(self.weights_as_array())
        )
        where = "" if self.domain is None else f"; t = x mapped from [{self.domain[0]:.6g}, {self.domain[1]:.6g}]"
        end = f"diverged at step {self.diverged_at:,}" if self.diverged_at is not None else f"{self.steps:,} steps"
        run = f"{end}, {self.backend} {self.precision}, {self.seconds:.3g} s"
        return f"FitResult({terms.lstrip('+')}{where}; {run})"

    def __getstate__(self) -> dict[str, Any]:
        """To pickle and copy: with what is known of the minimum, if there is one, and without the samples."""
        state = dict(self.__dict__)
        state["_find_minimum"] = None
        with contextlib.suppress(ValueError):
            state["minimum"] = self.minimum
        return state
