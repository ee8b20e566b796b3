"""How good a fit is: how far from the minimum it ended, and what the samples say of its weights.

All of it follows from the few numbers of a `Minimum`. Sums of squares are of residuals as they were weighted: divided
by sigma, and their squares multiplied by sample_weight over its mean. With a ridge, `final_mse`, `least_squares_mse`
and the gradient are of the mse with its penalty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _domain
from ._arrays import Array, is_tensor, numbers
from ._lazy import lazy
from ._student import quantile

if TYPE_CHECKING:
    from ._domain import Domain
    from ._minimum import Minimum


class Quality:
    """What a fit of any model that is linear in its weights says of itself. Nothing is computed before it is asked for.

    Attributes:
        minimum: what all of this is computed from: the singular values of V, and what y has along each.
    """

    learn_rate: Any
    weights: Any
    minimum: Minimum
    weights_as_array: Callable[[], Array]

    @lazy
    def _excess(self) -> float:
        return self.minimum.excess(self.weights_as_array())

    @property
    def final_mse(self) -> float:
        """The mean squared error of `weights`, which the trace does not hold."""
        return (self.minimum.least + self._excess) / self.minimum.n

    @property
    def least_squares_mse(self) -> float:
        """The least that any weights have, to which the descent goes."""
        return self.minimum.least / self.minimum.n

    @property
    def converged(self) -> bool:
        """Is the mse within 1 % of least squares' own, or within 1e-6 of the variance of y, or of rounding?"""
        return self._excess <= self.minimum.useful

    @property
    def gradient_norm(self) -> float:
        """The length of the gradient of the mse at `weights`."""
        return self.minimum.gradient_norm(self.weights_as_array())

    @property
    def steps_to_converge(self) -> int | None:
        """About how many more steps at this learn rate bring the mse near least squares' own.

        Within 0.1 % of it, or of rounding. 0 if it is; None if 10**12 do not.
        """
        if self._excess <= self.minimum.enough:
            return 0
        if not math.isfinite(self._excess):
            return None
        return self.minimum.steps(float(self.learn_rate), gaps=self.minimum.gaps(self.weights_as_array()))

    @property
    def r_squared(self) -> float:
        """The part of the variance of y that the polynomial explains; NaN where y is constant."""
        total = self.minimum.total
        return 1 - self._squares / total if total > 4 * self.minimum.rounding else math.nan

    @property
    def reduced_chi_squared(self) -> float:
        """The sum of squared residuals, each over its sigma, over the degrees of freedom; NaN if there are none."""
        return self._squares / self.degrees_of_freedom if self.degrees_of_freedom > 0 else math.nan

    @property
    def degrees_of_freedom(self) -> int:
        """Samples less weights; those of weight 0 do not count."""
        return self.minimum.n - len(self.minimum.start)

    @property
    def _squares(self) -> float:
        """The sum of squared residuals, without a penalty."""
        return self.minimum.residual_squares(self.weights_as_array())

    @lazy
    def covariance(self) -> Array:
        """(m, m), of the m `weights`: (V^T V)^-1 times the variance of the residuals of least squares.

        As numpy.polyfit(..., cov=True) has it. Weights of a run that has not converged are off by more than this says.
        With a ridge V^T V has the penalty, too. Infinite without degrees of freedom, or where V does not see a weight.
        """
        minimum, size = self.minimum, len(self.minimum.start)
        if self.degrees_of_freedom <= 0 or not (len(minimum.s) == size and minimum.visible.all()):
            return np.full((size, size), math.inf)
        scaled = minimum.v / minimum.s[:, None]
        variance = minimum.residual_squares(minimum.solution()) / self.degrees_of_freedom
        with np.errstate(invalid="ignore"):  # of an infinite variance
            return np.asarray(scaled.T @ scaled * variance)

    @property
    def standard_errors(self) -> Array:
        """(m,), of `weights`."""
        return np.sqrt(self.covariance.diagonal())


class PolynomialQuality(Quality):
    """What a FitResult says of itself, besides."""

    domain: Domain | None
    predict: Callable[[Any], Any]
    _find_minimum: Callable[[], Minimum] | None

    @property
    def degree(self) -> int:
        """Of the polynomial."""
        return int(self.weights.shape[-1]) - 1

    @lazy
    def minimum(self) -> Minimum:
        """What all of this is computed from: the singular values of the power matrix, and what y has along each.

        Raises:
            ValueError: there is none: the powers of x are beyond float64.
        """
        if self._find_minimum is None:
            raise ValueError("minimum: this result has none; fit again, it is known of what fit returns")
        return self._find_minimum()

    @lazy
    def raw_covariance(self) -> Array:
        """As `covariance`, of `raw_weights`."""
        if self.domain is None:
            return self.covariance
        _, change = _domain.raw(self.weights_as_array(), self.domain)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(change @ self.covariance @ change.T)

    @property
    def raw_standard_errors(self) -> Array:
        """(degree + 1,), of `raw_weights`."""
        return np.sqrt(self.raw_covariance.diagonal())

    def standard_error(self, x: Any) -> Array:
        """Of the polynomial at x, a number or an array-like of any shape; float64 of that shape."""
        at = _domain.places(numbers(x, "x"), self.domain)
        at = np.asarray(at.detach().cpu() if is_tensor(at) else at, np.float64)
        powers = at[..., None] ** np.arange(self.degree + 1)
        minimum, dof = self.minimum, self.degrees_of_freedom
        if not np.isfinite(self.covariance).all():
            return np.full(at.shape, math.inf)
        # by singular values: powers @ covariance @ powers would cancel
        parts = powers @ (minimum.v / minimum.s[:, None]).T
        variance = minimum.residual_squares(minimum.solution()) / dof
        return np.asarray(np.sqrt((parts * parts).sum(-1) * variance))

    def confidence_band(self, x: Any, level: float = 0.95) -> tuple[Array, Array]:
        """Between which the true polynomial lies at x with this probability, at one x at a time: (lower, upper).

        Student's t, for independent normal errors of one size, or of the sizes that sigma gives.

        Raises:
            ValueError: level is not between 0 and 1.
        """
        return self._band(x, self.standard_error(x), level)

    def prediction_band(self, x: Any, level: float = 0.95) -> tuple[Array, Array]:
        """As `confidence_band`, for a new sample at x; with sigma, one whose own is 1 unit of it.

        Raises:
            ValueError: level is not between 0 and 1.
        """
        dof = self.degrees_of_freedom
        noise = self.minimum.residual_squares(self.minimum.solution()) / dof if dof > 0 else math.inf
        return self._band(x, np.sqrt(self.standard_error(x) ** 2 + noise), level)

    def _band(self, x: Any, error: Array, level: float) -> tuple[Array, Array]:
        if not (isinstance(level, (int, float)) and 0 < level < 1):
            raise ValueError(f"level: wants a number between 0 and 1, got {level!r}; 0.95 is the usual one")
        value = self.predict(x)
        value = np.asarray(value.cpu() if is_tensor(value) else value, np.float64)
        width = error * (quantile(level, self.degrees_of_freedom) if self.degrees_of_freedom > 0 else math.inf)
        return value - width, value + width
