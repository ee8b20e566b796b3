"""Whole numbers that change from step to step: as torch has them, or refused by name.

A kernel computes with floats alone. Floats are exact for whole numbers up to 2**24 in float32 and 2**53 in float64, and
do not wrap around where torch's integers do. So bounds of every whole number are computed from those of what it is made
of; where they leave either range, or the operation is one on bits, the step cannot be fused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .._errors import UnsupportedOperationError
from .arguments import leaves
from .bounds import Bounds, refusal
from .graph import Graph, Node
from .instructions import COMPARISONS
from .operations import record
from .scan import OF_SCANS

EXACT = {"float32": 2**24, "float64": 2**53}
"""Whole numbers up to these are floats, and so are their sums and differences."""


PICKS = ("gather", "scatter", "scatter_add", "fastpoly::put", "fastpoly::put_add")
"""What an index (the third argument) names places along a dimension (the second) for."""

UNKNOWN: Bounds = (-math.inf, math.inf)


def refuse_inexact_integers(graph: Graph, dtype: str, inputs: Mapping[Node, Bounds]) -> WholeNumbers:
    """The bounds of a graph's whole numbers, from those of its inputs.

    Raises:
        UnsupportedOperationError: floats of this dtype would give another number than torch's integers do.
    """
    found = WholeNumbers(inputs)
    for node in graph.nodes:
        _refuse_places(node, found, dtype)
        if node.op in COMPARISONS and not any(part.dtype.is_floating_point for part in _nodes(node)):
            _refuse_beyond(node, [found(part) for part in _nodes(node)], dtype)
        if node.dtype == torch.bool:
            if node.op.startswith("bitwise_") and any(part.dtype != torch.bool for part in _nodes(node)):
                raise refusal(node, "it works on the bits of whole numbers", "use torch.where")
        elif is_whole(node):
            found.add(node)
            _refuse_beyond(node, [found(part) for part in (node, *_nodes(node)) if is_whole(part)], dtype)
            info = torch.iinfo(node.dtype)
            if not info.min <= found(node)[0] <= found(node)[1] <= info.max:
                raise refusal(node, f"its result may leave the range of {node.dtype}", "use torch.int64, or floats")
    return found


def bounds_of(node: Node) -> Bounds:
    """Of whole numbers that are made of constants; unknown of others."""
    found = WholeNumbers({})
    found.look(node)
    return found(node)


def is_whole(node: Node) -> bool:
    """Is it made of whole numbers?"""
    return not (node.dtype.is_floating_point or node.dtype.is_complex or node.dtype == torch.bool)


class WholeNumbers:
    """Between which bounds whole numbers lie.

    Args:
        inputs: those of inputs.
    """

    def __init__(self, inputs: Mapping[Node, Bounds]) -> None:
        self._known: dict[Node, Bounds] = dict(inputs)

    def __call__(self, value: Any) -> Bounds:
        """Of a node, or a number."""
        if not isinstance(value, Node):
            if not math.isfinite(value):
                return UNKNOWN
            number = int(value) if value == int(value) else value
            return number, number
        if value not in self._known:
            self._known[value] = _of_constant(value)
        return self._known[value]

    def add(self, node: Node) -> None:
        """Find out those of a node, from those of what it is made of.

        Raises:
            UnsupportedOperationError: nobody knows.
        """
        if node.op == "scan_rows":
            self.look(node)
            if self(node) == UNKNOWN:
                raise refusal(node, "it makes whole numbers of floats", "compute with floats")
            return
        if node.op == "_to_copy" and node.args[0].dtype.is_floating_point:
            low, high = _of_float(node.args[0]) or _of_floats(node.args[0], node, self)
            self._known[node] = math.trunc(low), math.trunc(high)
            return
        is_of_any = node.op.endswith("_like") or record(node).is_place
        if any(part.dtype.is_floating_point for part in _nodes(node)) and not is_of_any:
            raise refusal(node, "it makes whole numbers of floats", "compute with floats")
        rule = record(node).whole
        if rule is None:
            raise refusal(node, f"it computes with {node.dtype}", "compute with floats")
        self._known[node] = rule(node, self)

    def look(self, node: Node) -> None:
        """Find out those of a node, and of all that it is made of."""
        if node.op == "scan_rows":
            made = node.args[0].scan.outputs[node.args[1]]
            self.look(made)
            self._known[node] = self(made)
        elif node.op in ("input", *OF_SCANS):
            self.unknown(node)
        elif not node.is_constant:
            for part in filter(is_whole, _nodes(node)):
                self.look(part)
            self.add_if_known(node)

    def unknown(self, node: Node) -> None:
        """It has none."""
        self._known[node] = UNKNOWN

    def add_if_known(self, node: Node) -> None:
        """The same; what nobody knows has no bounds."""
        try:
            self.add(node)
        except UnsupportedOperationError:
            self.unknown(node)


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


BOUNDED = frozenset(
    {
        *("add", "sub", "rsub", "mul", "neg", "where", "masked_fill"),
        *("fastpoly::uniform", "fastpoly::uniform_double", "fastpoly::between"),
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


def _of_constant(node: Node) -> Bounds:
    if node.dtype == torch.bool or node.tensor is None or not node.tensor.numel():
        return 0, 1
    return node.tensor.min().item(), node.tensor.max().item()


def _refuse_beyond(node: Node, bounds: list[Bounds], dtype: str) -> None:
    exact = EXACT[dtype]
    if any(max(-low, high) > exact for low, high in bounds):
        raise refusal(node, f"whole numbers beyond {exact:,} are not exact in {dtype}", "use float64, or floats")


def _refuse_places(node: Node, found: WholeNumbers, dtype: str) -> None:
    """Places must be whole numbers of that dtype, and exist."""
    if record(node).by_place:
        longest = max((size for part in (node, *_nodes(node)) for size in part.shape), default=0)
        if longest > EXACT[dtype]:
            raise refusal(node, f"places beyond {EXACT[dtype]:,} are not whole numbers in {dtype}", "use float64")
    if node.op in PICKS and not node.args[2].is_constant:
        source, dim, index = node.args[:3]
        low, high = found(index)
        size = source.shape[dim] if source.shape else 1
        if low < 0 or high >= size:
            raise refusal(
                node,
                f"its index changes from step to step and may lie outside of the {size} places of dimension {dim}",
                "keep it inside with index.clamp(0, size - 1)",
            )
