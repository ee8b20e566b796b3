"""The operations of ATen that may stand in a graph: one record each, with all that is asked of an operation.

Whatever has no record here is taken apart into what has one (`apart`). An elementwise operation is one line; elementary
functions, as `exp`, need none beside their row in `fastpoly_kernels.functions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastpoly_kernels.functions import FUNCTIONS

from . import bounds, dense, lift, rules
from .expressions import Expr, call, compare, logical, where
from .graph import Node
from .pointwise import clamp, converted, hypot, lerp, power, quotient, remainder
from .special import SPECIAL


@dataclass(frozen=True)
class Op:
    """What is known of an operation.

    Attributes:
        rule: from its operands' elements to its own: for an elementwise one a function of the arguments in the order of
            its schema, `Expr`s for tensors, plain values for the rest; for others a `rules.Rule`.
        lift: how it becomes one operation on rows (`lift.Lift`); None if a loop of it stays one.
        whole: between which bounds its whole numbers lie (`bounds.Rule`); None if it is refused for these.
        launch: what torch's launch of it is, see `launches.Launch`; "" if that depends on the sizes alone.
        is_elementwise: is an element of the result made of those at its place, broadcast?
        is_view: does it move elements and change none?
        is_extreme: is its result some of its elements?
        by_place: does it compare places, or read them from data?
        is_place: is it a place among its operand's elements, whatever these are?
        reads: does it ask for its operands' elements?
    """

    rule: Callable[..., Expr]
    lift: lift.Lift | None = None
    whole: bounds.Rule | None = None
    launch: str = ""
    is_elementwise: bool = False
    is_view: bool = False
    is_extreme: bool = False
    by_place: bool = False
    is_place: bool = False
    reads: bool = True


each = partial(Op, lift=lift.elementwise, is_elementwise=True)
extreme = partial(Op, lift=lift.reduction, whole=bounds.first, is_extreme=True)
product = partial(Op, rules.product, whole=bounds.matrix_product, launch="product")
view = partial(Op, whole=bounds.first, is_view=True)
pick = partial(Op, by_place=True)


def like(value: float) -> Op:
    """A number everywhere, in the shape of an operand that need not be computed for it."""
    whole = int(value), int(value)
    return each(lambda *_: Expr.of(value), whole=lambda *_: whole, reads=False)


def function(name: str, whole: bounds.Rule | None = None) -> Op:
    """An operation that is an elementary function of numbers."""
    return each(partial(call, name), whole=whole, launch="function" if FUNCTIONS[name].cost > 1 else "")


sign = each(lambda a: where(compare("gt", a, 0), 1.0, where(compare("lt", a, 0), -1.0, 0.0)), whole=lambda *_: (-1, 1))

CALLED = {
    "absolute": "abs",
    "nearest": "round",
    "erfcx": "special_erfcx",
    **{name: f"fastpoly::{name}" for name in ("uniform", "uniform_double")},  # no operations of ATen
}
"""What torch calls elementary functions that have another name here."""

OPERATIONS: dict[str, Op] = {
    **{CALLED.get(name, name): function(name) for name in FUNCTIONS},
    **{CALLED[name]: function(name, whole=lambda *_: (0, 1)) for name in ("uniform", "uniform_double")},
    # arithmetic
    "add": each(lambda a, b, alpha=1: a + alpha * Expr.of(b), whole=bounds.added),
    "sub": each(lambda a, b, alpha=1: a - alpha * Expr.of(b), whole=bounds.subtracted),
    "rsub": each(lambda a, b, alpha=1: b - alpha * a, whole=bounds.subtracted_from),
    "mul": each(lambda a, b: a * b, whole=lambda node, of: bounds.product_of(of(node.args[0]), of(node.args[1]))),
    "div": each(
        lambda a, b, rounding_mode=None: quotient(Expr.of(a), Expr.of(b), rounding_mode), whole=bounds.quotient
    ),
    "remainder": each(lambda a, b: remainder(Expr.of(a), Expr.of(b)), whole=bounds.remainder),
    "fmod": each(lambda a, b: call("fmod", a, b), whole=bounds.rest),
    "true_divide": each(lambda a, b: a / b),
    "reciprocal": each(lambda a: 1 / a),
    "neg": each(lambda a: -a, whole=bounds.negated),
    "pow": each(lambda a, b: power(Expr.of(a), Expr.of(b)), whole=bounds.power, launch="power"),
    "square": each(lambda a: a * a, whole=lambda node, of: (0, bounds.largest(node, of) ** 2)),
    "addcmul": each(lambda a, b, c, value=1: a + value * (b * c)),
    "addcdiv": each(lambda a, b, c, value=1: a + value * (b / c)),
    "lerp": each(lambda a, b, weight: lerp(a, b, Expr.of(weight))),
    "hypot": each(lambda a, b: hypot(call("absolute", a), call("absolute", b))),
    "rsqrt": each(lambda a: 1 / call("sqrt", a)),
    **{name: each(formula, launch="function") for name, formula in SPECIAL.items()},
    # piecewise
    "abs": function("absolute", whole=lambda node, of: (0, bounds.largest(node, of))),
    "floor": function("floor", whole=bounds.first),
    "ceil": function("ceil", whole=bounds.first),
    "trunc": function("trunc", whole=bounds.first),
    "round": each(lambda a, decimals=0: call("nearest", a * 10.0**decimals) / 10.0**decimals, whole=bounds.first),
    "frac": each(lambda a: a - call("trunc", a), whole=bounds.first),
    "sign": sign,
    "sgn": sign,  # of a complex number another one
    "angle": each(lambda a: where(compare("lt", a, 0), math.pi, where(compare("eq", a, a), 0.0, a))),
    "relu": each(lambda a: call("maximum", a, 0.0), whole=lambda node, of: (0, max(of(node.args[0])[1], 0))),
    "leaky_relu": each(lambda a, slope=0.01: where(compare("gt", a, 0), a, slope * a)),
    "clamp": each(lambda a, low=None, high=None: clamp(a, low, high), whole=bounds.clamped(1, 2)),
    "clamp_min": each(lambda a, low: clamp(a, low, None), whole=bounds.clamped(1, -1)),
    "clamp_max": each(lambda a, high: clamp(a, None, high), whole=bounds.clamped(-1, 1)),
    "hardtanh": each(lambda a, low=-1.0, high=1.0: clamp(a, low, high), whole=bounds.hull),
    "maximum": function("maximum", whole=bounds.hull),
    "minimum": function("minimum", whole=bounds.hull),
    "fmax": each(lambda a, b: where(logical("or", compare("ge", a, b), compare("ne", b, b)), a, b), whole=bounds.hull),
    "fmin": each(lambda a, b: where(logical("or", compare("le", a, b), compare("ne", b, b)), a, b), whole=bounds.hull),
    "where": each(where, whole=bounds.of_both(1, 2)),
    "masked_fill": each(lambda a, mask, value: where(mask, value, a), whole=bounds.of_both(0, 2)),
    # truths
    **{name: each(partial(compare, name)) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{f"logical_{name}": each(partial(logical, name)) for name in ("and", "or", "xor", "not")},
    **{f"bitwise_{name}": each(partial(logical, name)) for name in ("and", "or", "xor", "not")},
    "isnan": each(lambda a: compare("ne", a, a)),
    "isinf": each(lambda a: compare("eq", call("absolute", a), math.inf)),
    # constants, copies, casts
    "ones_like": like(1.0),
    "zeros_like": like(0.0),
    "full_like": each(lambda _, value, *__: Expr.of(value), whole=bounds.second),
    "fill": each(lambda _, value: Expr.of(value), whole=bounds.second),
    "copy": each(lambda _, source, *__: Expr.of(source), whole=bounds.second),
    "_to_copy": each(lambda a, dtype=None, *_: converted(a, str(dtype)), whole=bounds.first),
    # derivatives that torch has as operations of their own
    "tanh_backward": each(lambda g, y: g * (1 - y * y)),
    "sigmoid_backward": each(lambda g, y: g * (y * (1 - y))),
    "threshold_backward": each(lambda g, a, threshold: where(compare("le", a, threshold), 0.0, g)),
    "leaky_relu_backward": each(lambda g, a, slope, *_: where(compare("gt", a, 0), g, slope * g)),
    # reductions
    "sum": Op(rules.reduction("add"), lift.reduction, bounds.summed),
    "mean": Op(rules.reduction("add", is_mean=True), lift.reduction),
    "prod": Op(rules.reduction("mul"), lift.reduction, bounds.multiplied),
    "amax": extreme(rules.reduction("maximum")),
    "amin": extreme(rules.reduction("minimum")),
    "max": extreme(rules.reduction("maximum")),
    "min": extreme(rules.reduction("minimum")),
    "cumsum": Op(rules.cumulative("add", 0.0), lift.with_dimension(1), bounds.summed, by_place=True),
    "cumprod": Op(rules.cumulative("mul", 1.0), lift.with_dimension(1), bounds.multiplied, by_place=True),
    # products
    "mm": product(lift=lift.mm),
    "mv": product(lift=lift.mv),
    "dot": product(lift=lift.dot),
    "bmm": product(lift=lift.bmm),
    # matrices in loops of their own
    **{f"fastpoly::{name}": Op(rules.in_turns, whole=bounds.first) for name in dense.NAMES},
    "fastpoly::between": each(lambda a, *_: a, whole=lambda node, _: node.args[1:]),
    # views
    "view": view(rules.reshape, lift.view),
    "_unsafe_view": view(rules.reshape, lift.view),
    "reshape": view(rules.reshape, lift.view),
    "squeeze": view(rules.squeeze, lift.view),
    "unsqueeze": view(rules.unsqueeze, lift.view),
    "expand": view(rules.expand, lift.expand),
    "permute": view(rules.permute, lift.permute),
    "t": view(rules.transpose, lift.permute),
    "transpose": view(rules.transpose, lift.permute),
    "diagonal": view(rules.diagonal, lift.diagonal),
    "select": view(rules.select, lift.with_dimension(1)),
    "slice": view(rules.slice_of, lift.with_dimension(1)),
    "flip": view(rules.flip, lift.with_dimension(1)),
    "unfold": view(rules.unfold, lift.unfold),
    # parts
    "cat": Op(rules.cat, lift.join, bounds.first),
    "stack": Op(rules.stack, lift.join, bounds.first),
    "select_backward": pick(rules.select_backward, lift.select_backward),
    # in turns of their own
    "fastpoly::order": pick(rules.in_turns, lift.with_dimension(1), whole=bounds.place, is_place=True),
    "fastpoly::put": pick(rules.in_turns, lift.by_index, whole=bounds.of_both(0, 3)),
    "fastpoly::put_add": pick(rules.in_turns, lift.by_index, whole=bounds.added_at),
    # picking by constants
    "gather": pick(rules.gather, lift.by_index, whole=bounds.first, is_extreme=True),
    "scatter": pick(rules.scatter, whole=bounds.of_both(0, 3)),
    "scatter_add": pick(rules.scatter_add, lift.by_index, whole=bounds.added_at),
    "index": pick(rules.index, whole=bounds.first),
    "index_put": pick(rules.index_put, whole=bounds.added_at),
    "_unsafe_index": pick(rules.index, whole=bounds.first),
    "_unsafe_index_put": pick(rules.index_put, whole=bounds.added_at),
}
"""By ATen's name, without the overload."""

NONE = Op(lambda *_: Expr.of(math.nan))
"""Of inputs and constants, and of the loops that `reroll` makes."""


def record(value: Any) -> Op:
    """That of a node's operation; NONE of anything else."""
    return OPERATIONS.get(value.op, NONE) if isinstance(value, Node) else NONE
