"""Tensors that lie in memory: each once, with the dimension that registers run along last."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .expressions import Memory, Places
from .graph import Node
from .survey import lanes_along

ALIASED = 32
"""Rows that lie a multiple of so many registers (1,024 bytes with AVX2) apart crowd into few sets of the caches: the
same samples of 64 rows push each other out."""


MANY_ROWS = 16
"""Rows beyond which that happens with each of several registers, too."""


class Memories:
    """What lies in memory.

    Args:
        samples: the size of the axis that registers run along.
        unrolled: axes up to this length have no loops.
        lanes: how many elements are taken at a time.
        registers: how many registers those fill.
        is_last: do registers run along the last of several dimensions as long as the samples, and not the first?

    Attributes:
        found: the memories of nodes: one for each dimension that registers run along where the node is a constant.
    """

    def __init__(self, samples: int, unrolled: int, lanes: int, registers: int, is_last: bool = False) -> None:
        self.samples, self.unrolled, self.lanes, self.registers = samples, unrolled, lanes, registers
        self.is_last = is_last
        self.found: dict[tuple[Node, int | None], Memory] = {}
        self._first: dict[Node, Memory] = {}

    def is_long(self, shape: Sequence[int]) -> bool:
        """Has a tensor of this shape an axis with a loop?"""
        return any(size > self.unrolled for size in shape)

    def of(self, node: Node, region: str, along: int | None = None) -> Memory:
        """Where a node's elements lie; registers of them run `along` that dimension, or any."""
        if along is None and node in self._first:
            return self._first[node]
        if (node, along) not in self.found:
            self.found[node, along] = memory = self.new(region, node, node.label or node.op, along=along)
            self._first.setdefault(node, memory)
        return self.found[node, along]

    def new(
        self, region: str, node: Node, name: str, shape: tuple[int, ...] | None = None, along: int | None = None
    ) -> Memory:
        """Memory with the dimension that registers run along last: `along`, or the samples, or the last long one."""
        shape = node.shape if shape is None else shape
        used = [d for d in range(len(shape)) if shape[d] != 1]
        if node.tensor is not None:
            used = [d for d in used if node.tensor.stride(d) != 0]
        long = [d for d in used if shape[d] > self.unrolled]
        if along is None:
            along = lanes_along(shape, used, self.samples, self.unrolled, self.is_last)
        if along is None and used:
            along = used[-1]
        order = [d for d in used if d != along]
        order.sort(key=lambda d: d in long)  # short dimensions outermost, otherwise as they are
        padded = 1
        if along is not None:
            order.append(along)
            padded = -(-shape[along] // self.lanes) * self.lanes if shape[along] > self.unrolled else shape[along]
            rows = math.prod(shape[d] for d in order[:-1])
            register = self.lanes // self.registers if rows > MANY_ROWS else self.lanes
            if self.lanes > 1 and len(order) > 1 and padded % (ALIASED * register) == 0:
                padded += max(2 * register, self.lanes)
        return Memory(region, name, tuple(shape), tuple(order), padded)


def lanes_dimension(places: Places) -> int | None:
    """The dimension that the axis of the registers runs along by itself."""
    for d, place in enumerate(places):
        if any(axis.name == "i" for axis in place.axes):
            return d
    return None
