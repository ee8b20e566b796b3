"""The arguments of `curve_fit`, checked and made into problems."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from .._arrays import Array
from .._known_kernels import MOST_KNOWN, key_of
from .._monitor import Monitor, Progress
from .._problem import shown
from .curve_result import CurveResult
from .levenberg import Tolerances
from .objective import POISSON, ROBUST, Objective
from .samples import Samples, numbers
from .solve import Problems, solve

TOLERANCE = 1.49012e-8
"""scipy's ftol and xtol: the root of the spacing of doubles."""


def options(given: dict[str, Any]) -> tuple[Tolerances, int | None, str, float]:
    """Tolerances, evaluations at most, loss and its scale: those of scipy's options that mean something here.

    Raises:
        TypeError: another option. ValueError: a value that cannot be meant.
    """
    rest = dict(given)
    values = [rest.pop(name, default) for name, default in (("ftol", TOLERANCE), ("xtol", TOLERANCE), ("gtol", 0.0))]
    values = [0.0 if value is None else float(value) for value in values]
    if any(not value >= 0 for value in values):
        raise ValueError(
            f"ftol, xtol, gtol: want numbers >= 0, got {values}; leave them out for 1.49012e-8, that and 0"
        )
    counts = [rest.pop(name, None) for name in ("maxfev", "max_nfev")]
    most = next((int(count) for count in counts if count), None)  # 0 is scipy's default, too
    if most is not None and most < 0:
        raise ValueError(f"maxfev: wants a number > 0, got {most}; leave it out for 100 (p + 1)")
    loss, f_scale = rest.pop("loss", "linear"), float(rest.pop("f_scale", 1.0))
    if loss != "linear" and loss not in ROBUST:
        raise ValueError(f"loss: wants one of linear, {', '.join(ROBUST)}, got {shown(loss)}; linear is least squares")
    if not f_scale > 0:
        raise ValueError(f"f_scale: wants a number > 0, got {f_scale}; residuals beyond it count less")
    rest.pop("x_scale", None)  # the method scales by the Jacobian; no unit matters
    if rest:
        taken = "ftol, xtol, gtol, maxfev, max_nfev, loss, f_scale"
        raise TypeError(f"curve_fit: has no option {', '.join(rest)}; of scipy's it takes {taken}")
    return Tolerances(*values), most, loss, f_scale


DTYPES = {"double": np.float64, "single": np.float32}


class Curves:
    """Curves that are to be fitted: a model, samples, and where to begin.

    Attributes:
        p: how many parameters there are.
        start, lower, upper: (count, p); the bounds may be None.
        is_fixed, free: (p,), which parameters stay; and the positions of the others.
        is_held: (count, p), those whose bounds are equal, too.
        wanted: (count,), how many are fitted.
        is_absolute: is sigma in the units of the samples?
        interrupted: was there a Ctrl-C?
    """

    def __init__(self, f: Callable[..., Any], samples: Samples, is_absolute: bool) -> None:
        self.f, self.samples, self.is_absolute, self.interrupted = f, samples, is_absolute, False

    def begin(self, p0: Any, bounds: Any, fixed: Any, method: Any) -> None:
        """Starts, bounds, and what is held."""
        names = names_of(self.f) if p0 is None or fixed is not None else None
        if p0 is None:
            if names is None:
                raise ValueError("Unable to determine number of fit parameters.")
            self.p = len(names)
        else:
            p0 = np.atleast_1d(numbers(p0, "p0"))
            self.p = p0.shape[-1]
        if method not in (None, "lm", "trf", "dogbox"):
            raise ValueError(f"method: wants 'lm', 'trf' or 'dogbox', got {shown(method)}; None is as good as any")
        lower, upper = self._bounds(bounds)
        is_bounded = bool((lower > -np.inf).any() or (upper < np.inf).any())
        if method == "lm" and is_bounded:
            raise ValueError("Method 'lm' only works for unconstrained problems. Use 'trf' instead.")
        start = _inside(lower, upper) if p0 is None else self._each(p0, "p0")
        if not np.isfinite(start).all():
            raise ValueError("p0: wants finite numbers, got NaN or infinity; start elsewhere")
        if ((start < lower) | (start > upper)).any():
            raise ValueError("Initial guess is outside of provided bounds: `x0` is infeasible.")
        is_fixed = _fixed(fixed, self.p, names)
        self.start, self.is_fixed = start, is_fixed
        self.free = np.flatnonzero(~is_fixed)
        if not len(self.free):
            raise ValueError("fixed: all parameters are; leave one out to be fitted")
        self.lower: Array | None = lower if is_bounded else None
        self.upper: Array | None = upper if is_bounded else None
        self.is_held = np.broadcast_to(is_fixed, (self.samples.count, self.p)) | (lower == upper)
        self.wanted = (~self.is_held).sum(axis=1)
        few = self.samples.number < self.wanted
        if not self.samples.is_many and few[0]:
            more = f"The number of func parameters={self.wanted[0]} must not exceed the number of data points="
            raise TypeError(f"{more}{self.samples.number[0]}")
        self.samples.is_refused |= few

    def _bounds(self, bounds: Any) -> tuple[Array, Array]:
        if bounds is None:
            bounds = -np.inf, np.inf
        if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
            bounds = bounds.lb, bounds.ub
        if not isinstance(bounds, tuple | list) or len(bounds) != 2:
            raise ValueError(f"bounds: wants (lower, upper), got {shown(bounds)}; numbers, (p,) or (batch, p)")
        lower = self._each(numbers(bounds[0], "bounds"), "bounds")
        upper = self._each(numbers(bounds[1], "bounds"), "bounds")
        if np.isnan(lower).any() or np.isnan(upper).any() or (lower > upper).any():
            raise ValueError("Each lower bound must be less than each upper bound, or equal to hold the parameter.")
        return lower, upper

    def _each(self, values: Array, name: str) -> Array:
        """(p,), (batch, p) or a number as (batch, p)."""
        count, is_many = self.samples.count, self.samples.is_many
        wants = ["a number" * (name == "bounds"), f"({self.p},)", f"({count}, {self.p})" * is_many]
        is_wrong = values.ndim > 1 + is_many or (values.ndim and values.shape[-1] != self.p)
        if is_wrong or (values.ndim == 2 and len(values) != count):
            raise ValueError(f"{name}: wants {' or '.join(filter(None, wants))}, got {values.shape}")
        return np.array(np.broadcast_to(values, (count, self.p)), np.float64)

    def minimize(self, noise: str, jac: Any, loss: str, f_scale: float, precision: str) -> None:
        """The problems."""
        if jac is not None and not callable(jac) and jac not in ("2-point", "3-point", "cs"):
            raise ValueError(f"jac: wants None, a function, '2-point', '3-point' or 'cs', got {shown(jac)}")
        if noise == POISSON and loss != "linear":
            raise ValueError("loss: with noise='poisson' the deviance is minimized; leave loss out")
        if precision not in DTYPES:
            raise ValueError(f"precision: wants 'double' or 'single', got {shown(precision)}; double has 15 digits")
        samples, dtype = self.samples, DTYPES[precision]
        tensors: list[torch.Tensor] = []
        is_own: list[bool] = []

        def given(array: Array, own: bool = True) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
            at = len(tensors)
            tensors.append(torch.from_numpy(np.require(array, dtype, requirements=["C", "W"])))
            is_own.append(own)
            return lambda all_of_them: all_of_them[at]

        x, observed = given(samples.x, samples.own_x), given(samples.y)
        weights = None if samples.weights is None else given(samples.weights)
        white = None if samples.whitening is None else given(samples.whitening)
        held = given(self.start) if self.is_fixed.any() else None

        def whole(params: Sequence[torch.Tensor], all_of_them: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            if held is None:
                return list(params)
            values = list(held(all_of_them))
            for at, value in zip(self.free, params, strict=True):
                values[at] = value
            return values

        def model(params: Sequence[torch.Tensor], all_of_them: Sequence[torch.Tensor]) -> torch.Tensor:
            given = None if samples.has_no_x else x(all_of_them)
            return self._values(self._called(given, whole(params, all_of_them)), params)

        def jacobian(params: Sequence[torch.Tensor], all_of_them: Sequence[torch.Tensor]) -> torch.Tensor:
            given = None if samples.has_no_x else x(all_of_them)
            columns = torch.as_tensor(jac(given, *whole(params, all_of_them)))
            if columns.shape != (samples.n, self.p):
                raise ValueError(f"jac: wants to return (n, p) = ({samples.n}, {self.p}), got {tuple(columns.shape)}")
            return columns[:, torch.from_numpy(self.free)]

        how = jacobian if callable(jac) else "autograd" if jac is None else "2-point"
        self.objective = Objective(model, observed, weights, white, noise, loss, f_scale, how)
        bounds = [None if one is None else one[:, self.free].astype(dtype) for one in (self.lower, self.upper)]
        rows = [None if one is None else torch.from_numpy(one) for one in bounds]
        weighted = samples.y if samples.weights is None else samples.y * samples.weights
        with np.errstate(all="ignore"):
            magnitude = np.sqrt((weighted * weighted).sum(axis=1))
        start = torch.from_numpy(self.start[:, self.free].astype(dtype))
        key, self.alive = self._key(jac)
        self.problems = Problems(
            self.objective, tensors, is_own, start, rows[0], rows[1], samples.is_refused, magnitude, self.f, key
        )

    def _key(self, jac: Any) -> tuple[Hashable | None, list[Any]]:
        """See `Problems.key`; and what must stay alive for it."""
        of_f, alive = key_of(self.f)
        of_jac, also = key_of(jac) if callable(jac) else (jac, [])
        given, objective = self.samples, self.objective
        if of_f is None or (callable(jac) and of_jac is None) or (not given.own_x and given.x.nbytes > MOST_KNOWN):
            return None, []
        x = given.has_no_x, None if given.own_x else (given.x.shape, given.x.tobytes())
        parts = (given.weights is None, given.whitening is None, objective.noise, objective.loss, objective.f_scale)
        return (of_f, of_jac, x, *parts, tuple(self.free), self.p, self.lower is None), [*alive, *also]

    def _called(self, x: torch.Tensor | None, params: list[torch.Tensor]) -> Any:
        try:
            return self.f(x, *params)
        except RuntimeError as error:
            if "numpy() on Tensor that requires grad" not in str(error):
                raise
            raise TypeError("f: computes with numpy; write it in torch, as torch.exp for np.exp") from error

    def _values(self, values: Any, params: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the model returned, as (n,) numbers."""
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"f: wants to return a tensor, got {type(values).__name__}; write it with torch's functions"
            )
        n = self.samples.n
        if values.shape not in ((n,), ()):
            raise ValueError(f"f: wants to return n = {n} values, got shape {tuple(values.shape)}")
        return values.to(params[0].dtype).expand(n)

    def fit(self, tolerances: Tolerances, most: int | None, backend: str, report: Progress | None) -> CurveResult:
        """Do it."""
        monitor = Monitor(report)
        most = most or 100 * (len(self.free) + 1)
        self.told = {"ftol": tolerances.ftol, "xtol": tolerances.xtol, "gtol": tolerances.gtol, "maxfev": most}
        ends = solve(self.problems, tolerances, most, backend, monitor)
        self.interrupted = monitor.interrupted
        return CurveResult(self, ends)


def names_of(f: Callable[..., Any]) -> list[str] | None:
    """What f calls its parameters behind x; None if nobody knows."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [one.name for one in parameters if one.kind in kinds]
    if len(names) < 2 or any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):
        return None
    return names[1:]


def _inside(lower: Array, upper: Array) -> Array:
    """A start within the bounds, as scipy chooses it."""
    start = np.ones_like(lower)
    has_low, has_high = np.isfinite(lower), np.isfinite(upper)
    with np.errstate(invalid="ignore"):
        start = np.where(has_low & has_high, 0.5 * (lower + upper), start)
    start = np.where(has_low & ~has_high, lower + 1, start)
    return np.where(~has_low & has_high, upper - 1, start)


def _fixed(fixed: Any, p: int, names: list[str] | None) -> Array:
    """Which parameters are fixed: (p,) truths."""
    result = np.zeros(p, bool)
    if fixed is None:
        return result
    if isinstance(fixed, str | int) and not isinstance(fixed, bool):
        fixed = [fixed]
    values = list(fixed.tolist() if hasattr(fixed, "tolist") else fixed)
    if len(values) == p and all(isinstance(value, bool) for value in values):
        return np.array(values)
    for value in values:
        if isinstance(value, str) and names is not None and value in names:
            result[names.index(value)] = True
        elif isinstance(value, int) and not isinstance(value, bool) and -p <= value < p:
            result[value] = True
        else:
            known = ", ".join(names) if names else f"0 to {p - 1}"
            raise ValueError(f"fixed: wants names, positions or {p} truths, got {shown(value)}; parameters are {known}")
    return result
