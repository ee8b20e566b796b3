"""fastpoly: gradient descent on a polynomial, thousands of times faster than the loop it replaces.

    from fastpoly import train          # the post's function, the post's numbers
    from fastpoly import fit            # the same training run with a modern face

This list is the whole public face. Importing it loads numpy and nothing heavier: torch, llvmlite and matplotlib come in
when something needs them. `fastpoly.reference` holds the published loops, the yardstick of every test and benchmark;
`fastpoly.sklearn`, which needs scikit-learn, `fit` as an estimator.
"""

from typing import TYPE_CHECKING, Any

from . import reference
from ._backends import Backend, backends
from ._dropin import train
from ._errors import (
    BackendUnavailableError,
    ConvergenceWarning,
    DivergenceWarning,
    GroupError,
    Interrupted,
    UnsupportedOperationError,
)
from ._fit import fit
from ._model import dpoly_dw, poly, stability_limit
from ._problem import FitProblem
from ._result import FitResult

if TYPE_CHECKING:
    from . import optimizers, profiling
    from ._covariance import covariance
    from ._curve_fit import curve_fit
    from ._dask.batches import LazyBatch
    from ._descend import descend, descend_module
    from ._descend_many import descend_many
    from ._descent_result import DescentResult
    from ._fit_batch import FitBatch
    from ._fit_many import fit_many
    from ._least_squares import least_squares
    from ._many_result import ManyResult
    from ._scan import scan
    from ._value_and_grad import value_and_grad

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendUnavailableError",
    "ConvergenceWarning",
    "DescentResult",
    "DivergenceWarning",
    "FitBatch",
    "FitProblem",
    "FitResult",
    "GroupError",
    "Interrupted",
    "LazyBatch",
    "ManyResult",
    "UnsupportedOperationError",
    "backends",
    "covariance",
    "curve_fit",
    "descend",
    "descend_many",
    "descend_module",
    "dpoly_dw",
    "fit",
    "fit_many",
    "least_squares",
    "optimizers",
    "poly",
    "profiling",
    "reference",
    "scan",
    "stability_limit",
    "train",
    "value_and_grad",
]


_LATER = {
    "_covariance": ("covariance",),
    "_curve_fit": ("curve_fit",),
    "_dask.batches": ("LazyBatch",),
    "_least_squares": ("least_squares",),
    "_descend": ("DescentResult", "descend", "descend_module"),
    "_descend_many": ("ManyResult", "descend_many"),
    "_scan": ("scan",),
    "_value_and_grad": ("value_and_grad",),
}
_LATER |= {"_fit_batch": ("FitBatch",), "_fit_many": ("fit_many",), "optimizers": (), "profiling": ()}
"""Modules that not every process needs, and what they have of the list above."""


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for."""
    from importlib import import_module

    for module, names in _LATER.items():
        if name == module or name in names:
            found = import_module(f".{module}", __name__)
            return found if name == module else globals().setdefault(name, getattr(found, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
