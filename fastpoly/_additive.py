"""An additive polynomial of several features, by gradient descent in closed form.

p(X) = w_0 + sum_j sum_k w_jk t_j**k, where t_j is the j-th feature mapped to [-1, 1] by its own domain, has no products
of features. It is linear in its weights, so that what `Minimum` and `spectral` know of the powers of one variable holds
for the matrix V = [1 | powers of t_1 | powers of t_2 | ...].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._advice import ended_far, remedied
from ._arrays import Array, dimensions
from ._backends import spectral
from ._domain import checked_domain, mapped
from ._errors import ConvergenceWarning, DivergenceWarning
from ._fit import far
from ._memory import refuse_beyond_memory
from ._minimum import FEWEST, MOST, Minimum
from ._monitor import Monitor
from ._plan import KEPT, is_auto, left_to_auto, penalty_of
from ._problem import checked_options, positive, refuse_long_trace, shown
from ._quality import Quality
from ._samples import Samples
from ._warn import warn


@dataclass(frozen=True, eq=False, repr=False)
class AdditiveResult(Quality):
    """An additive polynomial fitted by gradient descent, of m = 1 + features * degree weights.

    Attributes:
        weights: (m,), the constant, then powers 1 to degree of the first mapped feature, of the second, and so on.
        mse: the mean squared error before steps 0, trace_every, 2 trace_every, ...
        steps: how many steps were taken.
        learn_rate: the factor on the gradient; as asked for, or as "auto" has chosen it.
        diverged_at: None, or the step at which the mse stopped being finite; `mse` and `weights` end there.
        trace_every: how many steps lie between two of `mse`; None: there is none.
        domain: (features, 2), the intervals that are mapped to [-1, 1], or None.
        minimum: where the descent goes: the singular values of V, and what y has along each.
    """

    weights: Array
    mse: Array
    steps: int
    learn_rate: float
    diverged_at: int | None
    trace_every: int | None
    domain: Array | None
    minimum: Minimum

    def weights_as_array(self) -> Array:
        """`weights`."""
        return self.weights

    def __repr__(self) -> str:
        end = f"diverged at step {self.diverged_at:,}" if self.diverged_at is not None else f"{self.steps:,} steps"
        return f"AdditiveResult({len(self.weights):,} weights; {end}, mse {self.final_mse:.4g})"


def fit_additive(
    x: Array,
    y: Array,
    *,
    degree: Any,
    steps: Any,
    learn_rate: Any,
    domain: Any,
    sample_weight: Any,
    ridge: Any,
    backend: Any,
    precision: Any,
    trace_every: Any,
) -> list[AdditiveResult]:
    """Fit each column of y by itself; see `fit`, whose arguments and warnings these are.

    Args:
        x: (n, features) finite numbers.
        y: (n, outputs) of them.
        domain: besides, (features, 2).

    Raises:
        TypeError, ValueError: an argument cannot be meant, or not with several features.
        MemoryError: V does not fit.
    """
    chosen = left_to_auto(domain=domain, steps=steps, learn_rate=learn_rate)
    every = 1 if is_auto(trace_every, "trace_every") else trace_every
    degree, given, every, *_ = checked_options(degree, 0 if "steps" in chosen else steps, precision, every)
    _refuse_other_ways(backend, precision)
    kept = Samples.checked(np.arange(len(x)), y, sample_weight=sample_weight)
    x = x if len(kept.x) == len(x) else x[kept.x]
    model = Additive(
        x,
        kept.y.reshape(len(x), -1),
        kept.scale,
        degree,
        _checked_domains(domain, x),
        penalty_of(ridge, degree, x.shape[1]),
    )
    options = Options(
        None if "steps" in chosen else given,
        None if "learn_rate" in chosen else positive(learn_rate, "learn_rate"),
        "auto" if isinstance(trace_every, str) else every,
        chosen,
    )
    rows = model.rows()
    return [_descended(model, rows, column, options) for column in range(model.y.shape[1])]


@dataclass(frozen=True)
class Options:
    """How to descend.

    Attributes:
        steps, learn_rate: None is "auto".
        trace_every: None, a number, or "auto".
        chosen: of "domain", "steps" and "learn_rate", those that were left to "auto".
    """

    steps: int | None
    learn_rate: float | None
    trace_every: Any
    chosen: frozenset[str]


@dataclass(frozen=True, eq=False)
class Additive:
    """A model and its samples.

    Attributes:
        x: (n, features).
        y: (n, outputs).
        scale: (n,), what each residual is multiplied by, or None.
        degree: of each feature's polynomial.
        domains: (features, 2), or None.
        penalty: (m,), what each squared weight adds to the mse, or None.
    """

    x: Array
    y: Array
    scale: Array | None
    degree: int
    domains: Array | None
    penalty: Array | None

    @property
    def size(self) -> int:
        """How many weights there are."""
        return int(1 + self.x.shape[1] * self.degree)

    def rows(self) -> Array:
        """[V | y], or a triangle of its QR decomposition, of which V is never in memory whole.

        Raises:
            ValueError: powers leave float64. MemoryError: the rows do not fit.
        """
        n, columns = len(self.x), self.size + self.y.shape[1]
        block = max(spectral.BLOCK, columns)
        height = min(n, 2 * block) + (0 if self.penalty is None else self.size)
        what = f"{height:,} rows of {columns:,} columns, and their singular vectors, take"
        refuse_beyond_memory(4 * 8 * height * columns, what, "fewer features, or a lower degree")
        monitor = Monitor()
        with np.errstate(over="ignore", invalid="ignore"):
            rows = self.block(slice(None)) if n <= block else spectral.triangle_of(self.block, range(n), block, monitor)
        if monitor.interrupted:
            raise KeyboardInterrupt("interrupted before the first step")
        if not np.isfinite(rows).all():
            raise ValueError("X and y: want numbers whose powers float64 can hold; choose domain='auto', or scale them")
        return rows

    def block(self, part: slice) -> Array:
        """Some rows of [V | y], each multiplied by its scale."""
        t = mapped(self.x[part].T, self.domains).T
        m, degree = self.size, self.degree
        rows = np.empty((len(t), m + self.y.shape[1]), order="F")
        rows[:, 0] = 1
        if degree:
            rows[:, 1:m:degree] = t
        for k in range(2, degree + 1):
            np.multiply(rows[:, k - 1 : m : degree], t, out=rows[:, k:m:degree])
        rows[:, m:] = self.y[part]
        if self.scale is not None:
            rows *= self.scale[part, None]
        return rows

    def minimum(self, rows: Array, column: int, degree: int | None = None) -> Minimum:
        """Of a column of y; of a lower degree, if one is given, whose powers are among those of `rows`."""
        m = self.size
        kept = np.arange(m)
        if degree is not None:
            kept = kept[(kept == 0) | ((kept - 1) % self.degree < degree)]
        penalty = None if self.penalty is None else self.penalty[kept]
        return Minimum.of(rows[:, [*kept, m + column]], len(self.x), np.zeros(len(kept)), penalty).seen()


def _descended(model: Additive, rows: Array, column: int, options: Options) -> AdditiveResult:
    """Of a column of y; warns of what went wrong, or not far enough."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        minimum = model.minimum(rows, column)
        steps = options.steps
        rate = options.learn_rate if options.learn_rate is not None else minimum.rate(steps)
        if steps is None:
            steps = minimum.steps(rate) or (MOST if rate <= minimum.limit else FEWEST)
        every = max(1, -(-steps // KEPT)) if options.trace_every == "auto" else options.trace_every
        refuse_long_trace(0 if every is None else -(-steps // every), 8, "steps")
        found = spectral.descended(minimum, rate, steps)
        if found is None:
            raise ValueError(f"learn_rate: wants one that float64 can step by, got {rate:.4g}; leave it out")
        count = 0 if every is None else -(-found.steps // every)
        trace = found.modes.mse(minimum.n, count, every or 1)
    result = AdditiveResult(found.weights, trace, found.steps, rate, found.diverged_at, every, model.domains, minimum)
    said = _divergence(result)
    if said is not None:
        warn(said, DivergenceWarning)
    elif steps and far(result, options.chosen):
        end = result.final_mse, result.least_squares_mse

        def inside() -> Minimum:
            other = dataclasses.replace(model, domains=_checked_domains("auto", model.x))
            return other.minimum(other.rows(), column)

        def lower() -> Iterator[tuple[int, Minimum]]:
            return ((degree, model.minimum(rows, column, degree)) for degree in range(model.degree - 1, -1, -1))

        remedy = remedied(minimum, steps, rate, options.chosen, inside, lower())
        warn(f"{ended_far(steps, end)}; {remedy}", ConvergenceWarning)
    return result


def _divergence(result: AdditiveResult) -> str | None:
    """The mse left float64, or has grown beyond the stability limit; or None."""
    minimum, rate = result.minimum, result.learn_rate
    above = rate > minimum.limit
    first = (minimum.least + minimum.excess(minimum.start)) / minimum.n
    if result.diverged_at is not None:
        what = f"diverged at step {result.diverged_at:,}: the mse left the range of float64"
    elif above and result.final_mse > first:
        what = f"diverging: the mse grew from {first:.4g} to {result.final_mse:.4g} at step {result.steps:,}"
    else:
        return None
    where, way = ("above", f"choose one below {minimum.limit:.4g}") if above else ("below", "scale y down")
    limit = f"learn_rate {rate:.4g} is {where} the stability limit {minimum.limit:.4g}"
    return f"{what}; {limit}; {way}, or leave out domain and learn_rate"


def _refuse_other_ways(backend: Any, precision: str) -> None:
    way = "choose one, X[:, [0]] of an array and X[['name']] of a DataFrame, or leave it out"
    if backend not in ("auto", "spectral"):
        raise ValueError(f"backend: wants 'auto' or 'spectral' with several features, got {shown(backend)}; {way}")
    if precision != "double":
        raise ValueError(f"precision: wants 'double' with several features, got {shown(precision)}; {way}")


def _checked_domains(domain: Any, x: Array) -> Array | None:
    """(features, 2) that the argument means: as `checked_domain` for all, or a row for each feature."""
    if domain is None:
        return None
    features = x.shape[1]
    if isinstance(domain, str):
        each = [domain] * features
    elif dimensions(domain, "domain") == 2:
        each = list(np.asarray(domain))
    else:
        return np.array([checked_domain(domain, x)] * features)
    if len(each) != features:
        got = f"got {len(each)}; 'auto' is the range of each"
        raise ValueError(f"domain: wants two numbers, or a pair of them for each of {features} features, {got}")
    found = []
    for j, one in enumerate(each):
        try:
            found.append(checked_domain(one, x[:, j]))
        except ValueError as error:
            raise ValueError(f"feature {j}: {error}") from None
    return np.array(found)
