"""What `curve_fit` returns: parameters, covariances, and a word on each curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._arrays import Array
from .covariance import from_jacobians, inverse_normal
from .levenberg import BOTH, FTOL, GTOL, NO_JACOBIAN, NOT_FINITE, STALLED, XTOL
from .solve import MAXFEV, REFUSED, SUCCESSES, Ends, has_lost, linearized

if TYPE_CHECKING:
    from .curves import Curves

IER = {FTOL: 1, XTOL: 2, BOTH: 3, GTOL: 4, MAXFEV: 5, STALLED: 7, NO_JACOBIAN: 9, NOT_FINITE: 10, REFUSED: 0}
"""MINPACK's numbers, as far as it has some."""

MESSAGES = {
    FTOL: "Both actual and predicted relative reductions in the sum of squares\n  are at most {ftol:f}",
    XTOL: "The relative error between two consecutive iterates is at most {xtol:f}",
    BOTH: "Both actual and predicted relative reductions in the sum of squares\n  are at most {ftol:f} and the "
    "relative error between two consecutive iterates is at \n  most {xtol:f}",
    GTOL: "The cosine of the angle between func(x) and any column of the\n  Jacobian is at most {gtol:f} in absolute "
    "value",
    MAXFEV: "Number of calls to function has reached maxfev = {maxfev:d}.",
    STALLED: "No step makes the sum of squares smaller, and the gradient is not small.",
    NO_JACOBIAN: "The Jacobian is not finite, neither by autograd nor by differences.",
    NOT_FINITE: "Residuals are not finite in the initial point.",
    REFUSED: "The samples cannot give this fit: too few of them, or some are not finite.",
}


class CurveResult:
    """What came of fitting curves.

    Attributes:
        done: how many curves were fitted, or found not to be.
        succeeded: which were fitted.
        is_unknown: which of these have no covariance.
    """

    def __init__(self, curves: Curves, ends: Ends) -> None:
        self.curves, self.ends = curves, ends
        self.succeeded = np.isin(ends.end, SUCCESSES)
        self.done = int((ends.evaluations > 0).sum() + (ends.end == REFUSED).sum())
        self.popt = np.where(curves.is_fixed, curves.start, np.nan)
        self.popt[:, curves.free] = ends.params
        self.popt[ends.end == REFUSED] = np.nan
        self.pcov = self._covariances()
        self.is_unknown = self.succeeded & ~np.isfinite(self.pcov).all(axis=(1, 2))

    def _covariances(self) -> Array:
        curves, ends = self.curves, self.ends
        free = curves.free
        is_free = ~curves.is_held[:, free]
        inverse, good = inverse_normal(ends.normal.astype(np.float64), is_free)
        again = np.flatnonzero(self.succeeded & ~good)
        if again.size:
            inverse[again] = from_jacobians(self._linear(again)[1].astype(np.float64), is_free[again])
        if not curves.is_absolute:
            left = curves.samples.number - curves.wanted
            with np.errstate(all="ignore"):
                scaled = np.where(np.isinf(inverse), np.inf, inverse * (ends.squares / left)[:, None, None])
            inverse = np.where((left > 0)[:, None, None], scaled, np.inf)
        inverse[~self.succeeded | has_lost(ends, curves.problems.magnitude)] = np.inf
        inverse[ends.end == REFUSED] = np.nan
        result = np.zeros((curves.samples.count, curves.p, curves.p))
        result[np.ix_(np.arange(curves.samples.count), free, free)] = inverse
        result[~self.succeeded] = inverse[~self.succeeded][:, :1, :1]
        return result

    def _linear(self, which: Array) -> tuple[Array, Array]:
        """The weighted residuals of some curves at their ends and their Jacobian, of the free parameters."""
        residuals, jacobian = linearized(self.curves.problems.some(which), torch.from_numpy(self.ends.params[which]))
        return residuals.numpy(), jacobian.numpy()

    def _residuals(self) -> Array:
        """The weighted residuals at the ends, (curves, n); NaN of curves that could not be tried."""
        result = np.full((self.curves.samples.count, self.curves.samples.n), np.nan)
        which = np.flatnonzero(self.ends.end != REFUSED)
        if which.size:
            result[which] = self._linear(which)[0]
        return result

    def message(self, k: int) -> str:
        """A word on a curve."""
        return MESSAGES[int(self.ends.end[k])].format(**self.curves.told)

    def raise_if_failed(self) -> None:
        """Raise what scipy raises if the only curve was not fitted."""
        end = int(self.ends.end[0])
        if end in SUCCESSES or self.curves.interrupted:
            return
        if end in (NOT_FINITE, REFUSED):
            raise ValueError(self.message(0))
        raise RuntimeError(f"Optimal parameters not found: {self.message(0)}")

    def returned(self, full_output: bool) -> tuple[Any, ...]:
        """What `curve_fit` returns; of one curve as scipy does, of many with the curves first."""
        found: list[Any] = [self.popt, self.pcov]
        if full_output:
            info = {"nfev": self.ends.evaluations.astype(int), "fvec": self._residuals()}
            messages = [self.message(k) for k in range(self.curves.samples.count)]
            found += [info, messages, np.array([IER[int(end)] for end in self.ends.end])]
        if self.curves.samples.is_many:
            return tuple(found)
        found = [{name: value[0] for name, value in one.items()} if isinstance(one, dict) else one[0] for one in found]
        return (*found[:4], int(found[4])) if full_output else tuple(found)

    def warnings(self) -> list[str]:
        """What to say of many curves."""
        failed = int((~self.succeeded).sum())
        unknown = int(self.is_unknown.sum())
        count = self.curves.samples.count
        said = []
        if failed:
            said.append(f"{failed:,} of {count:,} curves were not fitted: see ier and mesg of full_output=True")
        if unknown:
            said.append(f"Covariance of the parameters could not be estimated of {unknown:,} of {count:,} curves")
        return said
