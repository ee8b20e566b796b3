"""`fit` as a scikit-learn estimator, for pipelines, grid searches and cross-validation.

    from fastpoly.sklearn import PolynomialDescent

    model = PolynomialDescent(degree=3).fit(X, y)  # X (n, features)
    GridSearchCV(PolynomialDescent(), {"degree": range(1, 8)}).fit(X, y)

It needs scikit-learn: pip install 'fastpoly[sklearn]'.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.polynomial.polynomial import polyval

from . import _domain
from ._additive import AdditiveResult, fit_additive
from ._arrays import Array
from ._fit import fit
from ._fit_many import fit_many
from ._result import FitResult

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
except ImportError as error:  # an older one has no validate_data
    raise ModuleNotFoundError(
        "fastpoly.sklearn needs scikit-learn 1.6 or later; pip install 'fastpoly[sklearn]'", name=error.name
    ) from error

__all__ = ["PolynomialDescent"]

Result: TypeAlias = FitResult | AdditiveResult


class PolynomialDescent(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A polynomial in each feature, fitted by gradient descent on the mean squared error.

    Of one feature it is what `fastpoly.fit` makes. Of several it is additive: w_0 + sum_j sum_k w_jk t_j**k with powers
    of each feature, t_j the mapped one, and no products of them. That runs in closed form and in double.

    The parameters are those of `fastpoly.fit`, which says more of each, with its defaults. As in all estimators nothing
    is checked before `fit`.

    Args:
        degree: of the polynomial, >= 0.
        steps: how many to take; "auto": as many as bring the mse within 0.1 % of least squares' own. From degree 6 on
            such a polynomial may still differ from least squares' own between and beyond the samples; 10**12 steps come
            as close as they can, and in double cost no more.
        learn_rate: > 0; "auto": the one that comes closest to the minimum in these steps.
        domain: the interval of X that is mapped to [-1, 1]: two numbers; "auto" is the range of the X that is fitted,
            of each feature its own; None maps nothing. Two numbers are for all features; (features, 2), for each.
        ridge: >= 0, a number or one for each weight: ridge * w**2 is added to the mse for each weight of the mapped
            variable, the constant among them.
        backend: a name from `backends()`, or "auto". With several features "auto" or "spectral".
        precision: "double", "mixed" or "single". With several features "double".
        trace_every: keep the mse of every trace_every-th step, as `result_.mse`; None keeps none.

    Attributes:
        coef_: (1 + features * degree,), or (outputs, 1 + features * degree) where y has columns: the constant, then
            powers 1 to degree of the first mapped feature, then those of the second, and so on; of X itself if
            `domain_` is None. Those of one feature itself are `result_.raw_weights`.
        domain_: the interval of X that was mapped to [-1, 1]; (features, 2) of several features; or None.
        learn_rate_: the learn rate, or (outputs,) of them where y has columns.
        n_iter_: how many steps were taken; the most that a column of y took.
        result_: the FitResult, or a list of one for each column of y; it says how near the minimum the run came, with
            standard errors and bands. Of several features an AdditiveResult, which says the same but for bands.
        n_features_in_: the number of features.
        feature_names_in_: (features,), their names, if X had some in `fit`.
    """

    def __init__(
        self,
        degree: int = 4,
        *,
        steps: int | str = "auto",
        learn_rate: float | str = "auto",
        domain: Any = "auto",
        ridge: Any = 0.0,
        backend: str = "auto",
        precision: str = "double",
        trace_every: int | str | None = None,
    ) -> None:
        self.degree = degree
        self.steps = steps
        self.learn_rate = learn_rate
        self.domain = domain
        self.ridge = ridge
        self.backend = backend
        self.precision = precision
        self.trace_every = trace_every

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PolynomialDescent:
        """Fit the polynomial.

        Args:
            X: (n, features) real numbers: a list, an array, a DataFrame; a Series as series.to_frame().
            y: (n,), or (n, outputs), whose columns are fitted each by itself.
            sample_weight: (n,) >= 0, what squared residuals are multiplied by; 2 is a sample that is there twice, 0 one
                that is not there. It needs `backend` "auto" or "spectral", and so does `ridge`.

        Returns:
            self.

        Raises:
            TypeError, ValueError: a parameter or an argument cannot be meant; or the backend or the precision cannot
                do several features.
            MemoryError: the powers of so many features do not fit.
            BackendUnavailableError: the backend cannot run here.
            Interrupted: Ctrl-C.

        Warns:
            DivergenceWarning, ConvergenceWarning: as `fastpoly.fit`.
        """
        _refuse_masked(X, "X")
        _refuse_masked(y, "y")
        X, y = validate_data(self, X, y, validate_separately=({}, {"ensure_2d": False}))
        check_consistent_length(X, y)
        if sample_weight is not None and not np.asarray(sample_weight).any():
            raise ValueError("sample_weight: is zero for every sample, wants one of some weight; None weighs all alike")
        results = self._fitted(X, y.reshape(len(y), -1), sample_weight)
        weights = np.array([result.weights for result in results])
        rates = np.array([result.learn_rate for result in results], np.float64)
        one = y.ndim == 1
        self.result_: Result | list[Result] = results[0] if one else results
        self.coef_: Array = weights[0] if one else weights
        self.learn_rate_: float | Array = float(rates[0]) if one else rates
        self.n_iter_ = max(result.steps for result in results)
        self.domain_ = results[0].domain
        return self

    def predict(self, X: Any) -> Array:
        """The polynomial at X.

        Args:
            X: (n, features), as in `fit`.

        Returns:
            (n,), or (n, outputs) where y had columns; float64 whatever X, y and precision are.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: X has other features, or NaN or infinite entries.
        """
        check_is_fitted(self, "coef_")
        _refuse_masked(X, "X")
        X = validate_data(self, X, reset=False)
        places = _domain.places(X.T, self.domain_).astype(np.float64)
        weights = self.coef_.astype(np.float64).T
        none, parts = np.zeros_like(weights[:1]), np.split(weights[1:], len(places))
        with np.errstate(over="ignore", invalid="ignore"):  # far outside the domain it is infinite
            values = polyval(places[0], np.concatenate([weights[:1], parts[0]]))
            for t, part in zip(places[1:], parts[1:], strict=True):
                values += polyval(t, np.concatenate([none, part]))
        return np.asarray(values.T)

    def _fitted(self, X: Array, y: Array, sample_weight: Any) -> list[Any]:
        """The result of each column of y, (n, outputs): of one call where that can do what is asked for."""
        names = ("degree", "steps", "learn_rate", "domain", "backend", "precision", "trace_every")
        options = {name: getattr(self, name) for name in names}
        if X.shape[1] > 1:
            return fit_additive(X, y, sample_weight=sample_weight, ridge=self.ridge, **options)
        x = X[:, 0]
        if y.shape[1] > 1 and sample_weight is None and not np.any(self.ridge) and self.trace_every != "auto":
            return list(fit_many(x, y.T, problems="rows", **options))
        return [fit(x, column, sample_weight=sample_weight, ridge=self.ridge, **options) for column in y.T]


def _refuse_masked(values: Any, name: str) -> None:
    """scikit-learn would take what is masked for samples."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: has masked entries; leave such samples out")
