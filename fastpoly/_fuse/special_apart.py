"""Special functions whose formulas depend on a whole number or on the dtype, taken apart into operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .special import ZETA

# -- polygamma
# -----------------------------------------------------------------------------------------------------------


def _zeta(power: int, q: Any) -> Any:
    """The sum of (q + k) ** -power over k = 0, 1, ..., for positive q: nine terms, and the integral of the others."""
    total = q**-power
    for k in range(1, 10):
        last = (q + k) ** -power
        total = total + last
    w = q + 9
    total = total + last * w / (power - 1) - 0.5 * last
    factor = 1.0
    for k, divisor in enumerate(ZETA):
        factor *= power + 2 * k
        last = last / w
        total = total + factor / divisor * last
        factor *= power + 2 * k + 1
        last = last / w
    return total


def _trigamma(x: Any) -> Any:
    """The derivative of digamma, as torch's kernel has it: to nine digits."""
    is_left = x < 0.5
    y = torch.where(is_left, 1 - x, x)
    total = torch.zeros_like(x)
    for _ in range(6):
        total = total + 1 / (y * y)
        y = y + 1
    z = 1 / (y * y)
    total = total + (1 + 1 / (2 * y) + z * (1.0 / 6 - z * (1.0 / 30 - z * (1.0 / 42)))) / y
    sine = (math.pi * x).sin()
    return torch.where(is_left, math.pi**2 / (sine * sine) - total, total)


def _derivative_of_cotangent(order: int, x: Any) -> Any:
    """Of cot(pi x): a polynomial in it, as the derivative of y = cot(u) is -(1 + y**2)."""
    coefficients = [0.0, 1.0]
    for _ in range(order):
        slopes = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [-math.pi * (a + b) for a, b in zip([*slopes, 0, 0], [0, 0, *slopes], strict=True)]
    y = 1 / (math.pi * (x - x.round())).tan()
    total = torch.zeros_like(x)
    for c in coefficients[::-1]:
        total = total * y + c
    return total


def _polygamma(order: int, x: Any) -> Any:
    """A derivative of digamma; of negative numbers by reflection, where torch adds up a term for each unit."""
    if order == 0:
        return x.digamma()
    if order == 1:
        return _trigamma(x)
    is_left = x < 0
    right = _zeta(order + 1, torch.where(is_left, 1 - x, x)) * (math.factorial(order) * (-1.0) ** (order + 1))
    left = right * (-1.0) ** order - math.pi * _derivative_of_cotangent(order, x)
    is_pole = (x <= 0) & (x == x.round())
    return torch.where(is_pole, math.inf * (-1.0) ** (order + 1), torch.where(is_left, left, right))


# -- the parts of a float
# ------------------------------------------------------------------------------------------------


def _nextafter(a: Any, b: Any) -> Any:
    """The neighbour of a towards b: Rump, Ogita and Oishi (2009), but for numbers that are nearly too small."""
    info = torch.finfo(a.dtype)
    unit, smallest = info.eps / 2, info.tiny * info.eps
    size = a.abs()
    is_small = size < info.tiny / info.eps**2
    large = 1 / info.eps**3
    scaled = torch.where(is_small, size * large, size)
    gap = scaled * (unit * (1 + 2 * unit))
    up, down = scaled + gap, scaled - gap
    up, down = torch.where(is_small, up * (1 / large), up), torch.where(is_small, down * (1 / large), down)
    is_least = size < 2 * info.tiny  # between these the gap is always the same
    up, down = torch.where(is_least, size + smallest, up), torch.where(is_least, size - smallest, down)
    down = torch.where(size == math.inf, info.max, down)
    goes_up = b > a
    negative = a < 0
    moved = torch.where(negative, torch.where(goes_up, -down, -up), torch.where(goes_up, up, down))
    moved = torch.where(a == 0, torch.where(goes_up, smallest, -smallest), moved)
    return torch.where(a == b, b, torch.where((a == a) & (b == b), moved, math.nan))


def _frexp(a: Any) -> Any:
    """(mantissa, exponent): a = mantissa * 2**exponent, the mantissa's size from 1/2 up to 1."""
    bits = 10 if a.dtype == torch.float64 else 7
    mantissa, exponent = a, torch.zeros(a.shape, dtype=torch.int64, device=a.device)
    for steps in (2**k for k in range(bits, -1, -1)):
        half = steps // 2
        for is_far, sign in (
            (mantissa.abs() >= 2.0 ** (steps - 1), 1),
            (mantissa.abs() < 2.0**-steps, -1),
        ):
            by = 2.0 ** (-sign * half), 2.0 ** (-sign * (steps - half))  # one factor may be out of range
            mantissa = torch.where(is_far, mantissa * by[0] * by[1], mantissa)
            exponent = torch.where(is_far, exponent + sign * steps, exponent)
    is_finite = (a != 0) & (a.abs() < math.inf)
    return torch.where(is_finite, mantissa, a), torch.where(is_finite, exponent, 0).to(torch.int32)


APART: dict[str, Callable[..., Any]] = {
    "polygamma": _polygamma,
    "special_polygamma": _polygamma,
    "nextafter": _nextafter,
    "frexp": _frexp,
}
