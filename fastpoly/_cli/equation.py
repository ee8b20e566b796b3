"""A fitted polynomial in words: with as many digits as it takes to get the predictions back from what is printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import _domain
from .._arrays import Array
from .._result import FitResult

MOST_DIGITS = 17
"""Of a float64: more tell nothing."""

ROUNDING = 1e-13
"""A term that is never larger beside the largest value is a rounding error, and is not shown."""


@dataclass(frozen=True)
class Equation:
    """y as a sum of terms, each with its sign; and t, if they are of t."""

    terms: Sequence[str]
    mapping: str | None

    def joined(self, space: str = " ") -> str:
        """The sum; `space` stands inside of terms, where no line should end."""
        return " ".join(term.replace(" ", space) for term in self.terms)


def equation(result: FitResult, span: tuple[float, float], digits: int = 6) -> Equation:
    """In x, where the weights of its powers lose no digits, else in t.

    Args:
        result: its weights are finite.
        span: the least and the largest x of the samples.
        digits: of the prediction, to which what is printed is right.
    """
    weights, name, reach = raw_weights(result, span), "x", float(np.abs(span).max())
    if weights is None:
        weights, name, reach = result.weights_as_array(), "t", 1.0
    with np.errstate(over="ignore"):
        sizes = np.abs(weights) * reach ** np.arange(len(weights))  # of the terms, at most
    largest = float(np.abs(result.predict(np.linspace(*span, 50))).max())
    if largest > 0:
        digits += max(0, math.ceil(math.log10(min(sizes.sum() / largest, 1e17))))
        weights = np.where(sizes > ROUNDING * largest, weights, 0)
    digits = min(MOST_DIGITS, digits)
    mapping = _mapping(*result.domain, digits) if name == "t" and result.domain is not None else None
    return Equation(_terms(weights, name, digits), mapping)


def raw_weights(result: FitResult, span: tuple[float, float]) -> Array | None:
    """Those of the powers of x, or None where a sum of them would lose digits."""
    weights = result.weights_as_array()
    if result.domain is None:
        return weights
    found, _ = _domain.raw(weights, result.domain)
    if not np.isfinite(found).all():
        return None
    return found if _domain.cancellation(found, _wide(span), result.predict) <= _domain.LOST else None


def _wide(span: tuple[float, float]) -> tuple[float, float]:
    return span if span[0] < span[1] else (span[0], np.nextafter(span[0], math.inf))


def _terms(weights: Array, name: str, digits: int) -> list[str]:
    terms: list[str] = []
    for k, weight in enumerate(weights.tolist()):
        if weight == 0:
            continue
        sign = "-" if weight < 0 else "+" if terms else ""
        power = "" if not k else f" {name}" if k == 1 else f" {name}^{k}"
        terms.append(f"{sign} {abs(weight):.{digits}g}{power}".strip() if terms else f"{weight:.{digits}g}{power}")
    return terms or ["0"]


def _mapping(lower: float, upper: float, digits: int) -> str:
    """t of x: mid and half are so exact that t is."""
    middle, half = lower / 2 + upper / 2, upper / 2 - lower / 2
    more = max(0, math.ceil(math.log10(abs(middle) / half))) if middle else 0
    shift = f"{abs(middle):.{min(MOST_DIGITS, digits + 1 + more)}g}"
    x = "x" if not middle else f"(x {'-' if middle > 0 else '+'} {shift})"
    return f"{x} / {half:.{min(MOST_DIGITS, digits + 1)}g}"
