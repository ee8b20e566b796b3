"""Whole numbers that change from step to step: as torch has them, or refused by name.

A kernel computes with floats alone. Floats are exact for whole numbers up to 2**24 in float32 and 2**53 in float64, and
do not wrap around where torch's integers do. So bounds of every whole number are computed from those of what it is made
of; where they leave either range, or the operation is one on bits, the step cannot be fused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .._errors import UnsupportedOperationError
from .arguments import leaves
from .graph import Graph, Node
from .rules import VIEWS
from .survey import COMPARISONS

Bounds = tuple[float, float]
"""The smallest and the largest value that there may be; whole numbers are ints here, which have all their digits."""

EXACT = {"float32": 2**24, "float64": 2**53}
"""Whole numbers up to these are floats, and so are their sums and differences."""

BITWISE = frozenset({"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"})

BY_PLACE = frozenset({"gather", "scatter", "scatter_add", "index", "index_put", "_unsafe_index", "_unsafe_index_put"})
BY_PLACE |= {"select_backward", "cumsum", "cumprod"}
"""They compare places, or read them from data."""


def refuse_inexact_integers(graph: Graph, dtype: str) -> None:
    """Raise UnsupportedOperationError if floats of this dtype would give another number than torch's integers do."""
    exact = EXACT[dtype]
    bounds: dict[Node, Bounds] = {}

    def of(value: Any) -> Bounds:
        if not isinstance(value, Node):
            number = int(value) if value == int(value) else value
            return number, number
        if value not in bounds:
            bounds[value] = _of_constant(value)
        return bounds[value]

    for node in graph.nodes:
        if node.op in BY_PLACE:
            longest = max((size for part in (node, *_nodes(node)) for size in part.shape), default=0)
            if longest > exact:
                raise _refusal(node, f"places beyond {exact:,} are not whole numbers in {dtype}", "use float64")
        if node.op in COMPARISONS and not any(part.dtype.is_floating_point for part in _nodes(node)):
            _refuse_beyond(node, [of(part) for part in _nodes(node)], exact, dtype)
        if node.dtype.is_floating_point or node.dtype.is_complex:
            continue
        if node.dtype == torch.bool:
            bounds[node] = 0, 1
            if node.op in BITWISE and any(part.dtype != torch.bool for part in _nodes(node)):
                raise _refusal(node, "it works on the bits of whole numbers", "use torch.where")
            continue
        bounds[node] = _bounds(node, of)
        info = torch.iinfo(node.dtype)
        _refuse_beyond(node, [bounds[node], *(of(part) for part in _nodes(node) if _is_whole(part))], exact, dtype)
        if not info.min <= bounds[node][0] <= bounds[node][1] <= info.max:
            raise _refusal(node, f"its result may leave the range of {node.dtype}", "use torch.int64, or floats")


def _bounds(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    if any(part.dtype.is_floating_point for part in _nodes(node)) and node.op not in LIKE:
        raise _refusal(node, "it makes whole numbers of floats", "compute with floats")
    rule = HULL.get(node.op) or RULES.get(node.op)
    if rule is None:
        raise _refusal(node, f"it computes with {node.dtype}", "compute with floats")
    return rule(node, of)


def _nodes(node: Node) -> list[Node]:
    return [part for part in leaves(node.args) if isinstance(part, Node)]


def _is_whole(node: Node) -> bool:
    return not (node.dtype.is_floating_point or node.dtype.is_complex or node.dtype == torch.bool)


def _of_constant(node: Node) -> Bounds:
    if node.dtype == torch.bool or node.tensor is None or not node.tensor.numel():
        return 0, 1
    return node.tensor.min().item(), node.tensor.max().item()


def _refuse_beyond(node: Node, bounds: list[Bounds], exact: int, dtype: str) -> None:
    if any(max(-low, high) > exact for low, high in bounds):
        raise _refusal(node, f"whole numbers beyond {exact:,} are not exact in {dtype}", "use float64, or floats")


def _refusal(node: Node, why: str, way_out: str) -> UnsupportedOperationError:
    place = f" in {node.where} ({node.where.text})" if node.where else ""
    return UnsupportedOperationError(f"{node.op}{place} cannot be fused: {why}. Way out: {way_out}, or backend='eager'")


# -- bounds by operation
# ----------------------------------------------------------------------------------------------

Rule = Callable[[Node, Callable[[Any], Bounds]], Bounds]


def _hull(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    """Of all that it is given."""
    found = [of(part) for part in leaves(node.args) if isinstance(part, (Node, int, float))]
    return min(low for low, _ in found), max(high for _, high in found)


def _first(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    """Of what its elements are taken from."""
    found = [of(part) for part in leaves(node.args[0])]
    return min(low for low, _ in found), max(high for _, high in found)


def _sum_of(one: Bounds, other: Bounds, times: float = 1) -> Bounds:
    scaled = sorted(times * value for value in other)
    return one[0] + scaled[0], one[1] + scaled[1]


def _product_of(one: Bounds, other: Bounds) -> Bounds:
    products = [a * b for a in one for b in other]
    return min(products), max(products)


def _repeated(bounds: Bounds, count: int) -> Bounds:
    """Of a sum of at most so many."""
    return min(0, count * bounds[0]), max(0, count * bounds[1])


def _summed(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    return _repeated(of(node.args[0]), math.prod(node.args[0].shape))


def _multiplied(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    low, high = of(node.args[0])
    largest = max(abs(low), abs(high), 1)
    power = largest ** min(math.prod(node.args[0].shape), 64)
    return (0 if low >= 0 else -power), power


def _power(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    base, exponent = of(node.args[0]), of(node.args[1])
    if exponent[0] < 0:
        raise _refusal(node, "it takes a whole number to a negative power", "compute with floats")
    largest = max(abs(base[0]), abs(base[1]), 1) ** min(exponent[1], 64)
    return (0 if base[0] >= 0 else -largest), largest


def _rest(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    low, high = of(node.args[1])
    if low <= 0 <= high:
        raise _refusal(node, "it may divide a whole number by 0", "compute with floats")
    largest = max(abs(low), abs(high)) - 1
    return -largest, largest


def _quotient(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    _rest(node, of)
    low, high = of(node.args[0])
    largest = max(abs(low), abs(high)) + 1
    return (0 if low >= 0 and of(node.args[1])[0] > 0 else -largest), largest


def _matrix_product(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    one, other = node.args[:2]
    return _repeated(_product_of(of(one), of(other)), one.shape[-1] if one.shape else 1)


def _added_at(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    values = node.args[3] if node.op == "scatter_add" else node.args[2]
    return _sum_of(of(node.args[0]), _repeated(of(values), math.prod(values.shape)))


def _negated(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    low, high = of(node.args[0])
    return -high, -low


def _alpha(node: Node) -> float:
    return node.args[2] if len(node.args) > 2 and node.args[2] is not None else 1


LIKE = frozenset({"ones_like", "zeros_like", "full_like"})
"""They take a shape and no values."""

HULL: dict[str, Rule] = dict.fromkeys(
    ("maximum", "minimum", "fmax", "fmin", "clamp", "clamp_min", "clamp_max", "hardtanh"), _hull
)
HULL |= dict.fromkeys(
    (*VIEWS, "cat", "stack", "gather", "index", "_unsafe_index", "amax", "amin", "max", "min"), _first
)
HULL |= dict.fromkeys(("_to_copy", "floor", "ceil", "trunc", "round", "frac"), _first)

RULES: dict[str, Rule] = {
    "add": lambda node, of: _sum_of(of(node.args[0]), of(node.args[1]), _alpha(node)),
    "sub": lambda node, of: _sum_of(of(node.args[0]), of(node.args[1]), -_alpha(node)),
    "rsub": lambda node, of: _sum_of(of(node.args[1]), of(node.args[0]), -_alpha(node)),
    "mul": lambda node, of: _product_of(of(node.args[0]), of(node.args[1])),
    "square": lambda node, of: (0, max(map(abs, of(node.args[0]))) ** 2),
    "neg": _negated,
    "abs": lambda node, of: (0, max(map(abs, of(node.args[0])))),
    "sign": lambda *_: (-1, 1),
    "relu": lambda node, of: (0, max(of(node.args[0])[1], 0)),
    "pow": _power,
    "remainder": _rest,
    "fmod": _rest,
    "div": _quotient,
    "where": lambda node, of: _outer(of(node.args[1]), of(node.args[2])),
    "masked_fill": lambda node, of: _outer(of(node.args[0]), of(node.args[2])),
    "scatter": lambda node, of: _outer(of(node.args[0]), of(node.args[3])),
    "copy": lambda node, of: of(node.args[1]),
    "fill": lambda node, of: of(node.args[1]),
    "full_like": lambda node, of: of(node.args[1]),
    "ones_like": lambda *_: (1, 1),
    "zeros_like": lambda *_: (0, 0),
    "sum": _summed,
    "cumsum": _summed,
    "prod": _multiplied,
    "cumprod": _multiplied,
    "scatter_add": _added_at,
    "index_put": _added_at,
    "_unsafe_index_put": _added_at,
    "mm": _matrix_product,
    "mv": _matrix_product,
    "dot": _matrix_product,
    "bmm": _matrix_product,
}


def _outer(one: Bounds, other: Bounds) -> Bounds:
    return min(one[0], other[0]), max(one[1], other[1])
