"""fastpoly: gradient descent on a polynomial, thousands of times faster than the loop it replaces.

    from fastpoly import train          # the post's function, the post's numbers
    from fastpoly import fit            # the same training run with a modern face

This list is the whole public face. Importing it loads numpy and nothing heavier: torch, numba and matplotlib come in
when something needs them. `fastpoly.reference` holds the published loops, the yardstick of every test and benchmark.
"""

from . import reference
from ._backends import Backend, backends
from ._dropin import train
from ._errors import BackendUnavailableError, DivergenceWarning, Interrupted
from ._fit import fit
from ._fit_many import fit_many
from ._model import dpoly_dw, poly, stability_limit
from ._problem import FitProblem
from ._result import FitResult

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendUnavailableError",
    "DivergenceWarning",
    "FitProblem",
    "FitResult",
    "Interrupted",
    "backends",
    "dpoly_dw",
    "fit",
    "fit_many",
    "poly",
    "reference",
    "stability_limit",
    "train",
]
