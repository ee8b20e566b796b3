"""The interval of x that is mapped to [-1, 1], as in numpy.polynomial: there powers of x are far less alike.

On years, frequencies or anything far from [-1, 1] the powers of x differ by many orders of magnitude, and gradient
descent, whose steps are as long as the largest allows, never moves the weights of the others.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastpoly_kernels.aside import imported

from ._arrays import Array, beside, is_chunked, is_tensor, namespace, refuse_nonfinite, to_device
from ._problem import shown

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.polynomial import Polynomial

Domain: TypeAlias = tuple[float, float]
"""Its ends, the lower first."""

WINDOW = (-1.0, 1.0)

WHOLE = 2**53
"""Beyond it not every integer is a float64."""

LOST = 1e6
"""How much larger than the polynomial its terms may be, in x as it was given, until `raw` warns of lost digits."""


def checked_domain(domain: Any, x: Any) -> Domain | None:
    """The domain that the argument means: None is none, "auto" the range of x, else two numbers.

    Args:
        domain: as the caller gave it.
        x: (n,) samples, an array or a tensor.

    Raises:
        TypeError, ValueError: it means none; or x has none: it is not finite, or its range is beyond float64.
    """
    if domain is None:
        return None
    if not isinstance(domain, str):
        return _ends(domain)
    if domain != "auto":
        raise ValueError(f"domain: wants 'auto', None or two numbers, got {shown(domain)}; 'auto' is the range of x")
    ends = x.ends() if is_chunked(x) else (x.min(), x.max())
    lower, upper = map(float, ends)
    if not (math.isfinite(lower) and math.isfinite(upper)):
        refuse_nonfinite(x, "x", np.dtype(np.float64))
    if _kind(x) in "iu" and max(abs(lower), abs(upper)) > WHOLE:
        way = "take x - x.min(), which is exact"
        raise ValueError(f"x: wants integers up to 2**53, which float64 can tell apart, got {int(ends[1])}; {way}")
    if lower == upper:  # as numpy.polynomial does, where 1 is not too small to be seen
        half = max(1.0, abs(lower) * 2**-20)
        lower, upper = lower - half, upper + half
    return _finite(lower, upper, "x: wants a range that float64 can hold")


def checked_domains(domain: Any, x: Any) -> Any:
    """As `checked_domain`, for a row of samples for each problem: (batch, 2) of "auto", else one for all.

    Args:
        domain: as the caller gave it.
        x: (batch, n) samples, an array or a tensor.
    """
    found = checked_domain(domain, x)  # of all rows: what is refused there is refused here
    if not isinstance(domain, str):
        return found
    lower, upper = (
        np.asarray(to_device(ends, None), np.float64) for ends in (namespace(x).amin(x, 1), namespace(x).amax(x, 1))
    )
    half = np.where(lower == upper, np.maximum(1.0, np.abs(lower) * 2**-20), 0.0)
    return np.stack([lower - half, upper + half], axis=1)


def _ends(domain: Any) -> Domain:
    wants = "domain: wants 'auto', None or two numbers, the lower first"
    try:
        ends = np.asarray(domain, np.float64).ravel().tolist()
    except Exception:  # whatever a stranger raises
        raise TypeError(f"{wants}, got {type(domain).__name__}; write (x.min(), x.max())") from None
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError(f"{wants}, got {shown(domain)}; write (x.min(), x.max())")
    return _finite(ends[0], ends[1], wants)


def _finite(lower: float, upper: float, wants: str) -> Domain:
    if not math.isfinite(upper - lower):
        raise ValueError(f"{wants}, got {lower:g} to {upper:g}; scale x down")
    return lower, upper


def _kind(x: Any) -> str:
    if is_tensor(x):
        return "f" if x.is_floating_point() else "i"
    return str(x.dtype.kind)


def _columns(domains: Array, x: Any) -> tuple[Any, Any]:
    """Lower and upper ends, (batch, 1) each, where x lies."""
    ends = beside(x, domains[:, :, None])
    return ends[:, 0], ends[:, 1]


def mapped(x: Any, domain: Any) -> Any:
    """x in the mapped variable: float64 in [-1, 1], an array or a tensor as x is one; x itself without a domain.

    The domain is (lower, upper), or (batch, 2) for (batch, n) of x.

    ((x - lower) - (upper - x)) / (upper - lower), whose differences lose nothing near the ends, however far from 0 the
    domain lies; numpy's own scale * x + offset loses |x| / (upper - lower) eps.
    """
    if domain is None:
        return x
    x = x.double() if is_tensor(x) else x.astype(np.float64, copy=False)
    lower, upper = domain if isinstance(domain, tuple) else _columns(domain, x)
    with np.errstate(over="ignore", invalid="ignore"):
        return ((x - lower) - (upper - x)) / (upper - lower)


MANY = 2**20
"""Samples from which on they are mapped when they are read, and not before: a file of them is never in memory whole."""


class Mapped:
    """Samples in the mapped variable, (n,) float64: as much of an array as those who read them in parts ask for.

    Attributes:
        given: the samples as they were given.
        domain: the interval that is mapped to [-1, 1].
    """

    dtype, ndim = np.dtype(np.float64), 1
    flags = SimpleNamespace(c_contiguous=False, writeable=True)

    def __init__(self, x: Array, domain: Domain) -> None:
        self.given, self.domain = x, domain
        self.shape, self.size = x.shape, x.size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: Any) -> Any:
        return mapped(self.given[part], self.domain)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)


def mapped_when_read(x: Any, domain: Domain | None) -> Any:
    """As `mapped`; many samples are mapped in the parts in which they are read."""
    if is_chunked(x):
        return x.mapped(domain)
    return mapped(x, domain) if domain is None or is_tensor(x) or x.size < MANY else Mapped(x, domain)


def raw(weights: Array, domain: Domain) -> tuple[Array, Array]:
    """The weights in x as it was given, and the matrix that makes them of those in the mapped variable.

    Exact, then rounded once: sum_k w_k (scale x + offset)**k in powers of x.
    """
    fraction = imported("fractions").Fraction
    change = conversion(len(weights), domain)
    exact = [fraction(float(weight)) for weight in weights] if np.isfinite(weights).all() else None
    if exact is None:
        return np.full(len(weights), math.nan), _rounded(change)
    found = [sum((row[k] * exact[k] for k in range(len(exact))), fraction()) for row in change]
    return np.array([_float(value) for value in found]), _rounded(change)


def conversion(size: int, domain: Domain) -> list[list[Fraction]]:
    """Row j, column k: what x**j gets of the k-th power of the mapped variable."""
    fraction = imported("fractions").Fraction
    lower, upper = map(fraction, domain)
    scale, offset = 2 / (upper - lower), -(lower + upper) / (upper - lower)
    return [
        [math.comb(k, j) * scale**j * offset ** (k - j) if j <= k else fraction() for k in range(size)]
        for j in range(size)
    ]


def _rounded(matrix: list[list[Fraction]]) -> Array:
    return np.array([[_float(value) for value in row] for row in matrix])


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def cancellation(weights: Array, domain: Domain, predict: Callable[[Any], Any]) -> float:
    """How many times as large as the polynomial the terms in x as it was given are, of which it is the sum.

    Args:
        weights: those in x.
        domain: the interval on which it is looked at.
        predict: the polynomial.
    """
    ends = np.abs(np.asarray(domain)).max()
    with np.errstate(over="ignore", invalid="ignore"):
        terms = float(np.sum(np.abs(weights) * ends ** np.arange(len(weights))))
        largest = float(np.abs(predict(np.linspace(*domain, 50))).max())
    if not largest > 0:
        return 1.0
    return terms / largest if math.isfinite(terms) else math.inf


def warn_of_lost_digits(weights: Array, domain: Domain, predict: Callable[[Any], Any]) -> None:
    """Warn if terms in x as it was given cancel so far that their sum has lost digits."""
    times = cancellation(weights, domain, predict)
    if times > LOST:
        lost = math.log10(times)
        warnings.warn(
            f"raw_weights: terms that are 1e{lost:.0f} times as large as the polynomial cancel in it, and as many of "
            "16 digits are lost where it is evaluated; use predict(), or polynomial, which keep x mapped",
            RuntimeWarning,
            stacklevel=3,
        )


def polynomial(weights: Array, domain: Domain | None) -> Polynomial:
    """As numpy's, with domain and window."""
    from numpy.polynomial import Polynomial

    return Polynomial(weights) if domain is None else Polynomial(weights, domain=domain, window=WINDOW)


def places(x: Any, domain: Domain | None) -> Any:
    """Places to predict at, real numbers, in the mapped variable; tensors of a dtype that is computed with keep it."""
    if domain is None:
        return x
    if is_tensor(x):
        import torch

        kept = x.dtype if x.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64) else torch.float64
        return mapped(x, domain).to(kept)
    return mapped(x, domain)
