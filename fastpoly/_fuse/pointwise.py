"""The table from elementwise ATen operation to expression. A new operation is one line.

A function takes the operation's arguments in the order of its schema: Exprs for tensors, plain values for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .expressions import Expr, call, compare, logical, where

TABLE: dict[str, Callable[..., Expr]] = {
    # arithmetic
    "add": lambda a, b, alpha=1: a + alpha * Expr.of(b),
    "sub": lambda a, b, alpha=1: a - alpha * Expr.of(b),
    "rsub": lambda a, b, alpha=1: b - alpha * a,
    "mul": lambda a, b: a * b,
    "div": lambda a, b, rounding_mode=None: quotient(Expr.of(a), Expr.of(b), rounding_mode),
    "remainder": lambda a, b: remainder(Expr.of(a), Expr.of(b)),
    "fmod": lambda a, b: call("fmod", a, b),
    "true_divide": lambda a, b: a / b,
    "reciprocal": lambda a: 1 / a,
    "neg": lambda a: -a,
    "pow": lambda a, b: power(Expr.of(a), Expr.of(b)),
    "square": lambda a: a * a,
    "addcmul": lambda a, b, c, value=1: a + value * (b * c),
    "addcdiv": lambda a, b, c, value=1: a + value * (b / c),
    "lerp": lambda a, b, weight: lerp(a, b, Expr.of(weight)),
    "hypot": lambda a, b: hypot(call("absolute", a), call("absolute", b)),
    # elementary functions
    "exp": lambda a: call("exp", a),
    "exp2": lambda a: call("exp2", a),
    "expm1": lambda a: call("expm1", a),
    "log": lambda a: call("log", a),
    "log2": lambda a: call("log2", a),
    "log10": lambda a: call("log10", a),
    "asin": lambda a: call("asin", a),
    "acos": lambda a: call("acos", a),
    "atan": lambda a: call("atan", a),
    "sinh": lambda a: call("sinh", a),
    "cosh": lambda a: call("cosh", a),
    "asinh": lambda a: call("asinh", a),
    "acosh": lambda a: call("acosh", a),
    "atanh": lambda a: call("atanh", a),
    "lgamma": lambda a: call("lgamma", a),
    "log1p": lambda a: call("log1p", a),
    "sin": lambda a: call("sin", a),
    "cos": lambda a: call("cos", a),
    "tan": lambda a: call("tan", a),
    "tanh": lambda a: call("tanh", a),
    "sigmoid": lambda a: call("sigmoid", a),
    "erf": lambda a: call("erf", a),
    "erfc": lambda a: call("erfc", a),
    "sqrt": lambda a: call("sqrt", a),
    "rsqrt": lambda a: 1 / call("sqrt", a),
    # piecewise
    "abs": lambda a: call("absolute", a),
    "floor": lambda a: call("floor", a),
    "ceil": lambda a: call("ceil", a),
    "trunc": lambda a: call("trunc", a),
    "round": lambda a, decimals=0: call("nearest", a * 10.0**decimals) / 10.0**decimals,
    "frac": lambda a: a - call("trunc", a),
    "sign": lambda a: where(compare("gt", a, 0), 1.0, where(compare("lt", a, 0), -1.0, 0.0)),
    "relu": lambda a: call("maximum", a, 0.0),
    "leaky_relu": lambda a, slope=0.01: where(compare("gt", a, 0), a, slope * a),
    "clamp": lambda a, low=None, high=None: clamp(a, low, high),
    "clamp_min": lambda a, low: clamp(a, low, None),
    "clamp_max": lambda a, high: clamp(a, None, high),
    "hardtanh": lambda a, low=-1.0, high=1.0: clamp(a, low, high),
    "maximum": lambda a, b: call("maximum", a, b),
    "minimum": lambda a, b: call("minimum", a, b),
    "fmax": lambda a, b: where(logical("or", compare("ge", a, b), compare("ne", b, b)), a, b),
    "fmin": lambda a, b: where(logical("or", compare("le", a, b), compare("ne", b, b)), a, b),
    "where": where,
    "masked_fill": lambda a, mask, value: where(mask, value, a),
    # comparisons
    "lt": lambda a, b: compare("lt", a, b),
    "le": lambda a, b: compare("le", a, b),
    "gt": lambda a, b: compare("gt", a, b),
    "ge": lambda a, b: compare("ge", a, b),
    "eq": lambda a, b: compare("eq", a, b),
    "ne": lambda a, b: compare("ne", a, b),
    "isnan": lambda a: compare("ne", a, a),
    "isinf": lambda a: compare("eq", call("absolute", a), math.inf),
    "logical_and": lambda a, b: logical("and", a, b),
    "logical_or": lambda a, b: logical("or", a, b),
    "logical_xor": lambda a, b: logical("xor", a, b),
    "logical_not": lambda a: logical("not", a),
    "bitwise_and": lambda a, b: logical("and", a, b),
    "bitwise_or": lambda a, b: logical("or", a, b),
    "bitwise_xor": lambda a, b: logical("xor", a, b),
    "bitwise_not": lambda a: logical("not", a),
    # constants, copies, casts
    "ones_like": lambda *_: Expr.of(1.0),
    "zeros_like": lambda *_: Expr.of(0.0),
    "full_like": lambda _, value, *__: Expr.of(value),
    "fill": lambda _, value: Expr.of(value),
    "copy": lambda _, source, *__: Expr.of(source),
    "_to_copy": lambda a, dtype=None, *_: a.as_bool() if str(dtype) == "torch.bool" else a.as_float(),
    # derivatives that torch has as operations of their own
    "tanh_backward": lambda g, y: g * (1 - y * y),
    "sigmoid_backward": lambda g, y: g * (y * (1 - y)),
    "threshold_backward": lambda g, a, threshold: where(compare("le", a, threshold), 0.0, g),
    "leaky_relu_backward": lambda g, a, slope, *_: where(compare("gt", a, 0), g, slope * g),
}


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
