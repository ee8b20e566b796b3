"""The samples of curves: where they lie, which are there, and how much each of them counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .._arrays import Array
from .._problem import shown
from .objective import GAUSS, POISSON


class Samples:
    """Of one curve, or of many; one curve is a batch of one.

    Attributes:
        is_many: has ydata rows?
        count, n: how many curves, and samples of each.
        x, y: where they lie, a row for each curve if `own_x`; and what was measured, (count, n).
        has_no_x: is there no x? The model knows where its samples lie.
        there: (count, n), which samples are there; None if all are.
        number: (count,), how many they are.
        is_refused: (count,), the curves that cannot be fitted.
        weights: (count, n), what each residual is multiplied with, 0 where there is no sample; or None.
        whitening: (count, n, n), a matrix that residuals are multiplied with; or None.
    """

    def __init__(self, xdata: Any, ydata: Any, predictors: int | None, nan_policy: Any, check_finite: bool) -> None:
        y = numbers(ydata, "ydata")
        if y.size == 0:
            raise ValueError("`ydata` must not be empty!")
        if y.ndim not in (1, 2):
            raise ValueError(f"ydata: wants (n,), or (batch, n) with a row for each curve, got {y.shape}; reshape it")
        self.is_many = y.ndim == 2
        self.y = y if self.is_many else y[None]
        self.count, self.n = self.y.shape
        self.has_no_x = xdata is None  # a model may know where its samples lie
        x = np.arange(float(self.n)) if self.has_no_x else numbers(xdata, "xdata")
        self.x, self.own_x = self._placed(x, predictors)
        if nan_policy not in (None, "raise", "omit"):
            raise ValueError(f"nan_policy: wants None, 'raise' or 'omit', got {shown(nan_policy)}; omit leaves NaN out")
        self._look_for_missing(nan_policy, check_finite)

    def _placed(self, x: Array, predictors: int | None) -> tuple[Array, bool]:
        """x, and whether each curve has its own."""
        if not self.is_many:
            return x, False
        own = x.ndim == 3 or (x.ndim == 2 and x.shape == self.y.shape and predictors is None)
        shape = (self.count, *x.shape[1:-1], self.n) if own else (*x.shape[:-1], self.n)
        if x.ndim not in (1, 2, 3) or x.shape != shape or (predictors and x.ndim > 1 and x.shape[-2] != predictors):
            wants = f"(n,) = ({self.n},), (k, n), or these with {self.count:,} curves in front"
            raise ValueError(f"xdata: wants {wants}, got {x.shape}")
        return x, own

    def _look_for_missing(self, nan_policy: str | None, check_finite: bool) -> None:
        """Which samples are there, and which curves cannot be fitted."""
        bad_x: Array = np.isnan(self.x)
        while bad_x.ndim > 1 + self.own_x:
            bad_x = np.asarray(bad_x.any(axis=-2))
        missing: Array = np.isnan(self.y) | bad_x
        if nan_policy == "raise" and missing.any():
            raise ValueError("The input contains nan values")
        finite = np.isfinite(self.y).all(axis=1) if nan_policy is None else ~np.isinf(self.y).any(axis=1)
        of_x = np.isinf(self.x) if nan_policy == "omit" else ~np.isfinite(self.x)
        if check_finite and (
            (not self.is_many and not finite.all()) or (of_x.any() and not (self.is_many and self.own_x))
        ):
            raise ValueError("array must not contain infs or NaNs")
        self.is_refused: Array = np.array(~finite)
        if self.is_many and self.own_x:
            self.is_refused |= of_x.reshape(self.count, -1).any(axis=1)
        self.there = ~missing if nan_policy == "omit" and missing.any() else None
        if self.there is not None:
            self.y = np.where(self.there, self.y, 0.0)
            self.x = np.where(np.isnan(self.x), 1.0, self.x)  # a place where the model is something
        self.number = np.full(self.count, self.n) if self.there is None else self.there.sum(axis=1)
        self.weights: Array | None = None
        self.whitening: Array | None = None

    def weigh(self, sigma: Any, noise: str) -> None:
        """Weights of the samples, and their covariance."""
        if noise not in (GAUSS, POISSON):
            raise ValueError(f"noise: wants {GAUSS!r} or {POISSON!r}, got {shown(noise)}; counts have Poisson's")
        if noise == POISSON:
            if sigma is not None:
                raise ValueError(
                    "sigma: counts have the noise that their means have; leave it out with noise='poisson'"
                )
            if (self.y < 0).any():
                raise ValueError("ydata: counts are >= 0; noise='gauss' takes any numbers")
        if sigma is not None:
            self._weigh(numbers(sigma, "sigma"))
        if self.there is not None:
            own = self.there.astype(np.float64)
            self.weights = own if self.weights is None else np.where(self.there, self.weights, 0.0)

    def _weigh(self, sigma: Array) -> None:
        shapes = [(), (self.n,), *[(self.count, self.n)] * self.is_many]
        wide = (self.count, self.n, self.n) if self.is_many else (self.n, self.n)
        if sigma.shape == wide:
            self._whiten(sigma.reshape(self.count, self.n, self.n))
            return
        if sigma.shape not in shapes:
            raise ValueError("`sigma` has incorrect shape.")
        with np.errstate(divide="ignore"):
            weights = np.abs(1 / np.broadcast_to(sigma, (self.count, self.n)))
        wrong = ~np.isfinite(weights) if self.there is None else ~np.isfinite(weights) & self.there
        if wrong.any():
            if not self.is_many:
                raise ValueError("Residuals are not finite in the initial point: `sigma` has zeros or NaN.")
            self.is_refused |= wrong.any(axis=1)
        self.weights = np.where(np.isfinite(weights), weights, 0.0)

    def _whiten(self, covariance: Array) -> None:
        self.whitening = np.empty_like(covariance)
        for k, matrix in enumerate(covariance):
            there = np.arange(self.n) if self.there is None else np.flatnonzero(self.there[k])
            part = matrix[np.ix_(there, there)]
            self.whitening[k] = np.eye(self.n)
            try:
                inverse = np.linalg.inv(np.linalg.cholesky(part))
            except np.linalg.LinAlgError:
                if not self.is_many:
                    raise ValueError("`sigma` must be positive definite.") from None
                self.is_refused[k] = True
                continue
            self.whitening[k][np.ix_(there, there)] = inverse


def numbers(values: Any, name: str) -> Array:
    """Numbers as an array of doubles."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: wants numbers, got {shown(values)}; pass an array or a tensor of floats") from error
