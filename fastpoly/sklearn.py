"""`fit` as a scikit-learn estimator, for pipelines, grid searches and cross-validation.

    from fastpoly.sklearn import PolynomialDescent

    model = PolynomialDescent(degree=3).fit(X, y)  # X of one feature: (n, 1), or (n,)
    GridSearchCV(PolynomialDescent(), {"degree": range(1, 8)}).fit(X, y)

It needs scikit-learn: pip install 'fastpoly[sklearn]'.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _domain
from ._arrays import Array
from ._fit import fit
from ._fit_many import fit_many
from ._result import FitResult

try:
    from scipy.sparse import issparse
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
except ImportError as error:  # an older one has no validate_data
    raise ModuleNotFoundError(
        "fastpoly.sklearn needs scikit-learn 1.6 or later; pip install 'fastpoly[sklearn]'", name=error.name
    ) from error

__all__ = ["PolynomialDescent"]


class PolynomialDescent(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A polynomial in one feature, fitted by gradient descent on the mean squared error.

    The parameters are those of `fastpoly.fit`, which says more of each, with its defaults. As in all estimators nothing
    is checked before `fit`.

    Args:
        degree: of the polynomial, >= 0.
        steps: how many to take; "auto": as many as bring the mse within 0.1 % of least squares' own. From degree 6 on
            such a polynomial may still differ from least squares' own between and beyond the samples; 10**12 steps come
            as close as they can, and in double cost no more.
        learn_rate: > 0; "auto": the one that comes closest to the minimum in these steps.
        domain: the interval of X that is mapped to [-1, 1]: two numbers; "auto" is the range of the X that is fitted;
            None maps nothing.
        ridge: >= 0, a number or one for each weight: ridge * w**2 is added to the mse for each weight of the mapped
            variable, the constant among them.
        backend: a name from `backends()`, or "auto".
        precision: "double", "mixed" or "single".
        trace_every: keep the mse of every trace_every-th step, as `result_.mse`; None keeps none.

    Attributes:
        coef_: (degree + 1,), or (outputs, degree + 1) where y has columns: of the powers of the mapped variable, power
            0 first, so that the constant is among them; of X itself if `domain_` is None. Those of X itself are
            `result_.raw_weights`.
        domain_: the interval of X that was mapped to [-1, 1], or None.
        learn_rate_: the learn rate, or (outputs,) of them where y has columns.
        n_iter_: how many steps were taken; the most that a column of y took.
        result_: the FitResult, or a list of one for each column of y; it says how near the minimum the run came, with
            standard errors and bands.
        n_features_in_: 1.
        feature_names_in_: (1,), the name of the feature, if X had one in `fit`.
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
            X: (n, 1) or (n,) real numbers: a list, an array, a DataFrame of one column, a Series.
            y: (n,), or (n, outputs), whose columns are fitted each by itself.
            sample_weight: (n,) >= 0, what squared residuals are multiplied by; 2 is a sample that is there twice, 0 one
                that is not there. It needs `backend` "auto" or "spectral", and so does `ridge`.

        Returns:
            self.

        Raises:
            TypeError, ValueError: a parameter or an argument cannot be meant; X has several features.
            BackendUnavailableError: the backend cannot run here.
            Interrupted: Ctrl-C.

        Warns:
            DivergenceWarning, ConvergenceWarning: as `fastpoly.fit`.
        """
        _refuse_masked(y, "y")
        X, y = validate_data(self, _column(X), y, validate_separately=({}, {"ensure_2d": False}))
        check_consistent_length(X, y)
        x = self._one_feature(X)
        if sample_weight is not None and not np.asarray(sample_weight).any():
            raise ValueError("sample_weight: is zero for every sample, wants one of some weight; None weighs all alike")
        results = self._fitted(x, y.reshape(len(y), -1), sample_weight)
        weights = np.array([result.weights for result in results])
        rates = np.array([result.learn_rate for result in results], np.float64)
        one = y.ndim == 1
        self.result_: FitResult | list[FitResult] = results[0] if one else results
        self.coef_: Array = weights[0] if one else weights
        self.learn_rate_: float | Array = float(rates[0]) if one else rates
        self.n_iter_ = max(result.steps for result in results)
        self.domain_ = results[0].domain
        return self

    def predict(self, X: Any) -> Array:
        """The polynomial at X.

        Args:
            X: (n, 1) or (n,), as in `fit`.

        Returns:
            (n,), or (n, outputs) where y had columns; float64 whatever X, y and precision are.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
            ValueError: X has other features, or NaN or infinite entries.
        """
        check_is_fitted(self, "coef_")
        X = validate_data(self, _column(X), reset=False)
        places = _domain.places(self._one_feature(X), self.domain_)
        weights = self.coef_.astype(np.float64).T
        with np.errstate(over="ignore", invalid="ignore"):  # far outside the domain it is infinite
            values = np.polynomial.polynomial.polyval(places.astype(np.float64), weights)
        return np.asarray(values.T)

    def _one_feature(self, X: Any) -> Any:
        """(n,) of (n, 1)."""
        if X.shape[1] > 1:
            raise ValueError(
                f"X: wants one feature, got {X.shape[1]}; choose one, X[:, [0]] of an array and X[['name']] of a "
                "DataFrame, or sklearn.compose.ColumnTransformer in a pipeline"
            )
        return X[:, 0]

    def _fitted(self, x: Array, y: Array, sample_weight: Any) -> list[FitResult]:
        """The FitResult of each column of y, (n, outputs): of one call where that can do what is asked for."""
        names = ("degree", "steps", "learn_rate", "domain", "backend", "precision", "trace_every")
        options = {name: getattr(self, name) for name in names}
        if y.shape[1] > 1 and sample_weight is None and not np.any(self.ridge) and self.trace_every != "auto":
            return list(fit_many(x, y.T, problems="rows", **options))
        return [fit(x, column, sample_weight=sample_weight, ridge=self.ridge, **options) for column in y.T]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.regressor_tags.poor_score = True  # of ten features, of which scikit-learn's checks take the first
        return tags


def _column(X: Any) -> Any:
    """X of one dimension as a column, that of a Series with its name; else X itself."""
    _refuse_masked(X, "X")
    if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) != 1 or issparse(X):
        return X
    return X.to_frame() if hasattr(X, "to_frame") else np.asarray(X).reshape(-1, 1)


def _refuse_masked(values: Any, name: str) -> None:
    """scikit-learn would take what is masked for samples."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: has masked entries; leave such samples out")
