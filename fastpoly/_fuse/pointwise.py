"""Elementwise operations that take more than a line: from elements of their arguments to one of their result."""

from __future__ import annotations

import math
from typing import Any

from .expressions import Expr, call, compare, logical, where


def power(base: Expr, exponent: Expr) -> Expr:
    """base ** exponent: products for small whole exponents, roots for halves."""
    n = exponent.number
    if n is None:
        return call("pow", base, exponent)
    if n == int(n) and abs(n) <= 64:
        result = base.power(abs(int(n)))
        return result if n >= 0 else 1 / result
    if n in (0.5, -0.5):
        root = call("sqrt", base)
        return root if n > 0 else 1 / root
    if n in (1.5, 2.5):
        return base.power(int(n)) * call("sqrt", base)
    return call("pow", base, exponent)


def lerp(a: Expr, b: Expr, weight: Expr) -> Expr:
    """Between `a` and `b`, from the nearer of them: exactly that where the weight is 0 or 1."""
    return where(compare("lt", call("absolute", weight), 0.5), a + weight * (b - a), b - (b - a) * (1 - weight))


def hypot(a: Expr, b: Expr) -> Expr:
    """The root of a * a + b * b, without the squares of what is very large or very small; of no negative numbers."""
    large, small = call("maximum", a, b), call("minimum", a, b)
    has_ratio = logical("and", compare("gt", large, 0), compare("lt", large, math.inf))
    ratio = where(has_ratio, small / large, 0.0)
    length = large * call("sqrt", 1 + ratio * ratio)
    is_infinite = logical("or", compare("eq", a, math.inf), compare("eq", b, math.inf))  # and the other one may be NaN
    return where(is_infinite, math.inf, length)


def quotient(a: Expr, b: Expr, mode: str | None) -> Expr:
    """a / b as torch.div gives it."""
    a, b = Expr.of(a).as_float(), Expr.of(b).as_float()
    if mode is None:
        return a / b
    exactly = Expr("div", a, b)  # not a product with 1 / b
    if mode == "trunc":
        return call("trunc", exactly)
    rest = call("fmod", a, b)
    whole = Expr("div", a - rest, b)  # but for a rounding
    whole = where(_is_of_other_sign(rest, b), whole - 1, whole)
    near = call("floor", whole)
    near = where(compare("gt", whole - near, 0.5), near + 1, near)
    return where(compare("eq", b, 0), exactly, where(compare("eq", whole, 0), exactly * 0.0, near))


def remainder(a: Expr, b: Expr) -> Expr:
    """What is left of `a`, with the sign of b."""
    rest = call("fmod", a, b)
    return where(_is_of_other_sign(rest, b), rest + b, rest)


def _is_of_other_sign(rest: Expr, b: Expr) -> Expr:
    return logical("and", compare("ne", rest, 0), logical("xor", compare("lt", b, 0), compare("lt", rest, 0)))


def clamp(a: Expr, low: Any, high: Any) -> Expr:
    """`a`, or the bound that it is beyond."""
    if low is not None:
        a = call("maximum", a, low)
    return call("minimum", a, high) if high is not None else a


def converted(a: Expr, dtype: str) -> Expr:
    """As torch converts to a dtype: whole numbers are those that are left without a fraction."""
    if dtype == "torch.bool":
        return a.as_bool()
    return call("trunc", a) if not a.is_bool and dtype.startswith(("torch.int", "torch.uint")) else a.as_float()
