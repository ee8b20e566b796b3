"""What a graph tells about itself before it is scheduled: its samples, which axes are short, what must be kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from .arguments import leaves
from .graph import Graph, Node
from .instructions import COMPARISONS
from .operations import record
from .scan import every

RESHAPES = frozenset({"view", "_unsafe_view", "reshape"})

MUCH = 8
"""One element in so many that a step computes, taken out of its register, takes as long as all others: a register has
8 to 16."""

UNROLLED = (16, 8, 4, 3, 2, 1)
"""Axes up to one of these lengths are unrolled: the longest with which the step stays below MOST_OPERATIONS, and its
sums over samples below `most_sums`."""

MOST_OPERATIONS = 1200
"""More are written as loops, which compile sooner."""

MOST_SUMS = 40
"""Of unrolled axes, in a CPU's variables: twice as many as registers, and every turn of the loop moves most of them to
memory and back. The network 1-16-1, which would have 50, is a tenth faster with a loop over the 16."""

WIDE = 8
"""Axes from which registers run along them: within an iteration of a loop, and not along the iterations' rows; or
instead of shorter ones that more of the data has."""


def samples_of(graph: Graph, is_whole: bool = False) -> int:
    """The size of the axis that registers run along: the one that most of the data has.

    Where a loop within the step has axes of its own that are long enough, it is one of those. Of a whole step without
    loops, a size that leaves much of a register empty counts as less.
    """
    scans = [node.scan for node in every(graph.nodes) if node.scan is not None]
    within = _commonest([one.shape for scan in scans for one in scan.inputs])
    if within >= WIDE:
        return within
    data = [node.shape for node in constants(graph) if node.baked is None]
    given = [node.shape for node, then in zip(graph.inputs, graph.outputs, strict=False) if then is node]
    shapes = _largest([*data, *given]) if given else data or [node.shape for node in graph.inputs]
    return _commonest(shapes, fills=is_whole and not scans)


def _largest(shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Where params are among the arguments that stay as they are, as in one call of a loss: those that may be data."""
    most = max(map(math.prod, shapes))
    return [shape for shape in shapes if 10 * math.prod(shape) >= most]


def _commonest(shapes: list[tuple[int, ...]], fills: bool = False) -> int:
    """The size that most elements have among their shape's; if it `fills` registers, a short one counts as less."""
    sizes: dict[int, int] = {}
    for shape in shapes:
        for size in set(shape) - {0}:
            sizes[size] = sizes.get(size, 0) + math.prod(shape) * (min(size, WIDE) if fills else 1)
    return max(sizes, key=lambda size: (sizes[size], size), default=1)


def samples_and_order(graph: Graph, most_sums: int) -> tuple[int, bool]:
    """The size of the axis that registers run along on a CPU; is it the last of several of that size, not the first?

    Loops within the step have axes of their own, which are laid out beside those of the step.
    """
    samples = samples_of(graph, is_whole=True)
    if any(node.scan is not None for node in every(graph.nodes)):
        return samples, False
    width = width_of(graph, samples, most_sums)
    return width or samples, width is not None or are_rows_of_images(graph, samples)


def width_of(graph: Graph, samples: int, most_sums: int) -> int | None:
    """The size of the axis that registers run along instead, where products of matrices flatten that of the samples.

    A layer of a network flattens all dimensions but the last, a batch and its times, to rows of a matrix. Registers
    along a part of these rows, or along the rows where all else is a batch and its times, are taken apart and put
    together, element by element, before and after each product. None unless that is so of half of what products read
    and make, and of much of the step, and of half as much where registers run along another axis.
    """
    pairs = _flattened(graph)
    sizes: dict[int, int] = {}
    for one, other in pairs:
        for d in _preserved(one, other):
            sizes[one[d]] = sizes.get(one[d], 0) + math.prod(one)

    def taken_apart(samples: int, is_last: bool) -> int:
        unrolled = unrolled_up_to(graph, samples, most_sums)
        apart = 0
        for one, other in pairs:
            ends = [lanes_along(shape, range(len(shape)), samples, unrolled, is_last) for shape in (one, other)]
            if ends[0] is None or _preserved(one, other).get(ends[0]) != ends[1]:
                apart += math.prod(one)
        return apart

    products = [node for node in graph.nodes if record(node).launch == "product"]
    whole = sum(math.prod(part.shape) for node in products for part in (node, *node.args) if isinstance(part, Node))
    now = taken_apart(samples, is_last=False)
    total = sum(math.prod(node.shape) for node in graph.nodes if not record(node).is_view)
    if 2 * now < whole or MUCH * now < total:
        return None
    widths = [size for size in sizes if size >= WIDE and 2 * taken_apart(size, is_last=True) <= now]
    return max(widths, key=lambda size: (sizes[size], size), default=None)


def are_rows_of_images(graph: Graph, samples: int) -> bool:
    """Are these samples the sides of images in the data, and not how many there are?"""
    shapes = [node.shape for node in constants(graph) if node.baked is None and len(node.shape) > 2]
    sides = (pair for shape in shapes if shape[0] != samples for pair in itertools.pairwise(shape))
    return (samples, samples) in sides


def lanes_along(shape: tuple[int, ...], used: Iterable[int], samples: int, unrolled: int, is_last: bool) -> int | None:
    """The dimension that registers run along: the samples, or the last long one.

    Args:
        used: the dimensions that it may be.
        is_last: is it the last of several as long as the samples, and not the first?
    """
    long = [d for d in used if shape[d] > unrolled]
    found = long[::-1] if is_last else long
    return next((d for d in found if shape[d] == samples), long[-1] if long else None)


def _flattened(graph: Graph) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The shapes of what products of matrices read or make, as they have it and as everything else has it."""
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for node in graph.nodes:
        sides: list[Any] = list(node.args) if record(node).launch == "product" else []
        if node.op in RESHAPES and record(_behind(node.args[0])).launch == "product":
            sides = [node]
        for side in sides:
            before = _behind(side)
            if isinstance(before, Node) and before.op in RESHAPES:
                found.append((before.shape, before.args[0].shape))
    return found


def _behind(node: Any) -> Any:
    """What is seen through views that flatten nothing."""
    while isinstance(node, Node) and record(node).is_view and node.op not in RESHAPES:
        node = node.args[0]
    return node


def _preserved(one: tuple[int, ...], other: tuple[int, ...]) -> dict[int, int]:
    """Of two shapes of the same elements, the dimensions of the first that are one of the second, too."""
    found: dict[int, int] = {}
    rest = math.prod(other)
    behind = {}  # by how many elements are in the dimensions from here on
    for d, size in enumerate(other):
        if size > 1:
            behind[rest] = d
            rest //= size
    rest = math.prod(one)
    for d, size in enumerate(one):
        if size > 1 and rest in behind and other[behind[rest]] == size:
            found[d] = behind[rest]
        rest //= max(size, 1)
    return found


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
