"""Whole numbers that change from step to step: as torch has them, or refused by name.

A kernel computes with floats alone. Floats are exact for whole numbers up to 2**24 in float32 and 2**53 in float64, and
do not wrap around where torch's integers do. So bounds of every whole number are computed from those of what it is made
of; where they leave either range, or the operation is one on bits, the step cannot be fused.
"""

from __future__ import annotations

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
    if any(part.dtype.is_floating_point for part in _nodes(node)) and not node.op.endswith("_like"):
        bounds = _of_float(node.args[0]) if node.op == "_to_copy" else None
        if bounds is None:
            raise refusal(node, "it makes whole numbers of floats", "compute with floats")
        return bounds
    rule = record(node).whole
    if rule is None:
        raise refusal(node, f"it computes with {node.dtype}", "compute with floats")
    return rule(node, of)


_WHOLE = ("floor", "ceil", "trunc", "round")
"""Floats that are whole numbers, or NaN, or infinite."""


def _of_float(node: Node) -> Bounds | None:
    """The bounds of a float that is a whole number: `x.masked_fill(isnan(x), 0).clamp(0, 9)` of such an x, or NaN."""
    if node.op != "clamp" or any(not isinstance(bound, (int, float)) or bound % 1 for bound in node.args[1:3]):
        return None
    inner, (low, high) = node.args[0], node.args[1:3]
    if inner.op != "masked_fill" or inner.args[2] != 0 or inner.args[1].op != "isnan":
        return None
    value = inner.args[0]
    return (int(low), int(high)) if value is inner.args[1].args[0] and value.op in _WHOLE else None


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
