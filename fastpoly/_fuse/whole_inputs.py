"""Whole numbers that are carried from step to step: where they may start, so that they are exact for good.

Requirements: a kernel is kept for any start. So what is found out of a carried whole number holds after any number of
steps, by induction: if it lies between two bounds before a step, it lies between them after it. Places that wrap
around, as (place + 1) % size, have such bounds. A counter has none; but if it grows by little in each step, it stays
exact in float64 for longer than anybody runs, and in float32 for long enough to look at it between portions of a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch

from .._errors import UnsupportedOperationError
from .bounds import Bounds, refusal
from .graph import Graph, Node
from .whole_numbers import EXACT, WholeNumbers, is_whole, refuse_inexact_integers

Ranges: TypeAlias = "tuple[Bounds | None, ...]"
"""For each input where it may start; None for what is no whole number."""

HALF = {"float64": 2**52, "float32": 15 * 2**20}
"""A counter stays below this, with room for what is added to it, ..."""

START = {"float64": 2**51, "float32": 2**23}
"""... if it starts below this, ..."""

SLOW = {"float64": 16, "float32": 1}
"""... and grows by no more than this in a step: in float64 that takes 2**47 steps, a day and more."""


def ranges(graph: Graph, dtype: str) -> Ranges:
    """Where the inputs may start that are whole numbers, in a kernel whose floats are of this dtype.

    Raises:
        UnsupportedOperationError: floats would give another number than torch's integers do.
    """
    exact = EXACT[dtype]
    carried = {node: then for node, then in zip(graph.inputs, graph.outputs, strict=False) if is_whole(node)}
    if not carried:
        refuse_inexact_integers(graph, dtype, {})
        return (None,) * len(graph.inputs)
    anywhere: dict[Node, Bounds] = dict.fromkeys(carried, (-exact, exact))
    after = WholeNumbers(anywhere)
    for node in filter(is_whole, graph.nodes):
        after.add_if_known(node)
    inside, start = dict(anywhere), dict(anywhere)
    for node, then in carried.items():
        low, high = after(then)
        if then is not node and -exact <= low and high <= exact:
            inside[node] = start[node] = low, high
        elif _growth(then, node, after) <= SLOW[dtype]:
            most, first = HALF[dtype], START[dtype]
            inside[node], start[node] = (-most, most), (-first, first)
        elif then is not node:
            raise refusal(
                then, f"it may grow from step to step beyond what is exact in {dtype}", "wrap it around with %"
            )
    refuse_inexact_integers(graph, dtype, inside)
    return tuple(None if place in graph.counts else start.get(node) for place, node in enumerate(graph.inputs))


def _growth(node: Node, source: Node, bounds: WholeNumbers) -> float:
    """By how much a whole number may exceed `source`, from which it follows; infinity if nobody knows.

    What lies between bounds of its own, wherever `source` lies, does not grow.
    """
    if node is source:
        return 0
    if node.op in ("add", "sub") and isinstance(node.args[0], Node):
        times = abs(node.args[2]) if len(node.args) > 2 and node.args[2] is not None else 1
        return _growth(node.args[0], source, bounds) + times * max(map(abs, bounds(node.args[1])))
    if node.op == "where":
        parts = [_growth(part, source, bounds) for part in node.args[1:] if isinstance(part, Node)]
        return max(parts, default=0)
    low, high = bounds(node)
    return 0 if low >= -START["float32"] and high <= START["float32"] else math.inf


def refuse_start(allowed: Ranges, inputs: Sequence[torch.Tensor]) -> None:
    """Raise UnsupportedOperationError if a whole number starts, or goes on, where it would not stay exact."""
    for bounds, tensor in zip(allowed, inputs, strict=True):
        if bounds is None or not tensor.numel():
            continue
        low, high = int(tensor.min()), int(tensor.max())
        if low < bounds[0] or high > bounds[1]:
            wrong = low if low < bounds[0] else high
            raise UnsupportedOperationError(
                f"the step cannot be fused: a whole number that it carries is {wrong:,} before it, and wants to "
                f"be between {bounds[0]:,} and {bounds[1]:,}, where it stays exact. Way out: start there, float64, or "
                "backend='eager'"
            )
