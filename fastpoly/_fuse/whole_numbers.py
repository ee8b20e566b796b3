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

from .arguments import leaves
from .bounds import Bounds, refusal
from .graph import Graph, Node
from .instructions import COMPARISONS
from .operations import record

EXACT = {"float32": 2**24, "float64": 2**53}
"""Whole numbers up to these are floats, and so are their sums and differences."""


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
        if record(node).by_place:
            longest = max((size for part in (node, *_nodes(node)) for size in part.shape), default=0)
            if longest > exact:
                raise refusal(node, f"places beyond {exact:,} are not whole numbers in {dtype}", "use float64")
        if node.op in COMPARISONS and not any(part.dtype.is_floating_point for part in _nodes(node)):
            _refuse_beyond(node, [of(part) for part in _nodes(node)], exact, dtype)
        if node.dtype.is_floating_point or node.dtype.is_complex:
            continue
        if node.dtype == torch.bool:
            bounds[node] = 0, 1
            if node.op.startswith("bitwise_") and any(part.dtype != torch.bool for part in _nodes(node)):
                raise refusal(node, "it works on the bits of whole numbers", "use torch.where")
            continue
        bounds[node] = _bounds(node, of)
        info = torch.iinfo(node.dtype)
        _refuse_beyond(node, [bounds[node], *(of(part) for part in _nodes(node) if _is_whole(part))], exact, dtype)
        if not info.min <= bounds[node][0] <= bounds[node][1] <= info.max:
            raise refusal(node, f"its result may leave the range of {node.dtype}", "use torch.int64, or floats")


def _bounds(node: Node, of: Callable[[Any], Bounds]) -> Bounds:
    if node.op == "_to_copy" and node.args[0].dtype.is_floating_point:
        low, high = _of_floats(node.args[0], node, of)
        return math.trunc(low), math.trunc(high)
    if any(part.dtype.is_floating_point for part in _nodes(node)) and not node.op.endswith("_like"):
        raise refusal(node, "it makes whole numbers of floats", "compute with floats")
    rule = record(node).whole
    if rule is None:
        raise refusal(node, f"it computes with {node.dtype}", "compute with floats")
    return rule(node, of)


BOUNDED = frozenset(
    {
        *("add", "sub", "rsub", "mul", "neg", "where", "masked_fill"),
        *("floor", "ceil", "trunc", "clamp", "clamp_min", "clamp_max"),
    }
)
"""What makes floats whose bounds follow from those of what they are made of, beside views."""


def _of_floats(value: Any, whole: Node, of: Callable[[Any], Bounds]) -> Bounds:
    """Of floats that become whole numbers, and are never NaN."""
    if not isinstance(value, Node) or not value.dtype.is_floating_point:
        return of(value)
    if value.is_constant and value.tensor is not None and bool(value.tensor.isfinite().all()) and value.tensor.numel():
        return value.tensor.min().item(), value.tensor.max().item()
    rule = record(value).whole
    if rule is None or not (value.op in BOUNDED or record(value).is_view):
        raise refusal(whole, "it makes whole numbers of floats", "compute with floats")
    return rule(value, lambda part: _of_floats(part, whole, of))


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
        raise refusal(node, f"whole numbers beyond {exact:,} are not exact in {dtype}", "use float64, or floats")
