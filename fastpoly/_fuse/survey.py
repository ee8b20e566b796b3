"""What a graph tells about itself before it is scheduled: its samples, which axes are short, what must be kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from .arguments import leaves
from .graph import Graph, Node
from .instructions import COMPARISONS
from .operations import record
from .scan import every

UNROLLED = (16, 8, 4, 3, 2, 1)
"""Axes up to one of these lengths are unrolled: the longest with which the step stays below MOST_OPERATIONS, and its
sums over samples below `most_sums`."""

MOST_OPERATIONS = 1200
"""More are written as loops, which compile sooner."""

MOST_SUMS = 40
"""Of unrolled axes, in a CPU's variables: twice as many as registers, and every turn of the loop moves most of them to
memory and back. The network 1-16-1, which would have 50, is a tenth faster with a loop over the 16."""

WIDE = 8
"""Axes within an iteration of a loop from which registers run along them, and not along the iterations' rows."""


def samples_of(graph: Graph) -> int:
    """The size of the axis that registers run along: the one that most of the data has.

    Where a loop within the step has axes of its own that are long enough, it is one of those.
    """
    scans = [node.scan for node in every(graph.nodes) if node.scan is not None]
    within = _commonest([one.shape for scan in scans for one in scan.inputs])
    if within >= WIDE:
        return within
    data = [node.shape for node in constants(graph) if node.baked is None]
    given = [node.shape for node, then in zip(graph.inputs, graph.outputs, strict=False) if then is node]
    return _commonest(_largest([*data, *given]) if given else data or [node.shape for node in graph.inputs])


def _largest(shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Where params are among the arguments that stay as they are, as in one call of a loss: those that may be data."""
    most = max(map(math.prod, shapes))
    return [shape for shape in shapes if 10 * math.prod(shape) >= most]


def _commonest(shapes: list[tuple[int, ...]]) -> int:
    """The size that most elements have among their shape's."""
    sizes: dict[int, int] = {}
    for shape in shapes:
        for size in set(shape) - {0}:
            sizes[size] = sizes.get(size, 0) + math.prod(shape)
    return max(sizes, key=lambda size: (sizes[size], size), default=1)


def constants(graph: Graph) -> list[Node]:
    """The constants of a graph, in the order of their use."""
    found: dict[Node, None] = {}
    for part in leaves(*(node.args for node in every(graph.nodes)), graph.outputs):
        if isinstance(part, Node) and part.is_constant:
            if part.view_of is not None:
                found[part.view_of[0]] = None
            found[part] = None
    return list(found)


def compared_with_itself(graph: Graph) -> list[Node]:
    """What is compared with elements of its own: the largest, as the gradient of amax does, or all, as a sort does.

    It must be kept: computed anew in another loop it may be rounded differently, and then it equals nothing, or stands
    before and behind the same other.
    """
    found: dict[Node, None] = {}
    known: dict[Node, dict[Node, None]] = {}
    for node in graph.nodes:
        if node.op in COMPARISONS:
            one, other = (_chosen_from(argument, known) for argument in node.args)
            found.update((whole, None) for whole in one if whole in other)
    return [node for node in found if node.op not in ("input", "constant")]


def _chosen_from(value: Any, known: dict[Node, dict[Node, None]]) -> dict[Node, None]:
    """The nodes some of whose elements these are, moved and picked and not computed with."""
    if not isinstance(value, Node):
        return {}
    if value not in known:
        parts: list[Any] = []
        if record(value).is_view or record(value).is_extreme:
            parts = [value.args[0]]
        elif value.op == "where":
            parts = list(value.args[1:])
        known[value] = {value: None}
        for part in parts:
            known[value] |= _chosen_from(part, known)
    return known[value]


def unrolled_up_to(graph: Graph, samples: int, most_sums: int) -> int:
    """The longest axis to unroll."""
    counts = [node.scan.count for node in every(graph.nodes) if node.scan is not None]
    for limit in UNROLLED:
        if counts and limit >= min(counts):  # rows have a loop
            continue
        operations = sum(_operations(node, limit) for node in every(graph.nodes))
        sums = sum(_sums(node, limit, samples) for node in graph.nodes)
        if samples > max(limit, 4) and operations <= MOST_OPERATIONS and sums <= most_sums:
            return limit
    return UNROLLED[-1] if samples > 4 else samples


def _operations(node: Node, limit: int) -> int:
    """How many statements a node becomes when axes up to `limit` are unrolled."""
    count = math.prod(size for size in node.shape if size <= limit)
    if record(node).launch == "product" and node.args[0].shape[-1] <= limit:
        count *= node.args[0].shape[-1]
    return count


def _sums(node: Node, limit: int, samples: int) -> int:
    """How many sums over the samples a node becomes when axes up to `limit` are unrolled."""
    if record(node).launch == "product":
        is_one = node.args[0].shape[-1] == samples
    else:
        is_one = node.op in ("sum", "mean") and samples in node.args[0].shape and samples not in node.shape
    return math.prod(size for size in node.shape if size <= limit) if is_one else 0


def kernel_dtype(graph: Graph) -> torch.dtype:
    """What a kernel of the graph computes in: the widest of its floats."""
    found = {node.dtype for node in (*graph.inputs, *every(graph.nodes)) if node.dtype.is_floating_point}
    return torch.float32 if torch.float32 in found and torch.float64 not in found else torch.float64


def is_mixed(graph: Graph) -> bool:
    """Has it floats that are narrower than what its kernel computes in? They are rounded, each as torch rounds it."""
    return kernel_dtype(graph) == torch.float64 and any(node.dtype == torch.float32 for node in every(graph.nodes))


def single(value: Any, is_rounded: bool) -> Any:
    """A number, rounded to float32 if it is to be; anything else as it is."""
    return float(np.float32(value)) if is_rounded and isinstance(value, float) else value
