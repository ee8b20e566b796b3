"""Student's t distribution, for bands: how many standard errors hold a given part of all cases."""

from __future__ import annotations

import math

from fastpoly_kernels.aside import imported

MANY = 10_000
"""Degrees of freedom beyond which the expansion below is right to more digits than a float has use for: its next term
is of the order of freedom**-3."""


def quantile(level: float, freedom: int) -> float:
    """The t for which P(|T| <= t) = level, with so many degrees of freedom."""
    if freedom > MANY:
        z: float = imported("statistics").NormalDist().inv_cdf((1 + level) / 2)  # Abramowitz and Stegun, 26.7.5
        first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
        return z + first / freedom + second / freedom**2
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _inside(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle)), a finite series for a whole number: Abramowitz and Stegun, 26.7.3 and 4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    square, term, total = cosine * cosine, 1.0, 0.0
    if freedom % 2:
        term = cosine
        for k in range(1, (freedom - 1) // 2 + 1):
            total += term
            term *= square * (2 * k) / (2 * k + 1)
        return 2 / math.pi * (angle + sine * total)
    for k in range(1, freedom // 2 + 1):
        total += term
        term *= square * (2 * k - 1) / (2 * k)
    return sine * total
