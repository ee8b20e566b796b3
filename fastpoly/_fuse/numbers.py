"""Numbers of Python's in a step: the first value is part of the kernel, from the second on it is an argument.

A number that stands in a loss is worth most where the compiler knows it: as a factor that is folded, an exponent that
becomes two products. But a sweep over it, a new value in every call, would compile a kernel for each. So a graph is
known by what it is without its numbers; those that were seen to differ are read from memory like data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from .graph import Graph, Node
from .operations import record
from .scan import every

Place = tuple[Node, int]
"""A node and which of its arguments; -1: what a constant is baked as."""


@dataclass
class Seen:
    """The numbers of a graph when it was first seen, and which of them have had another value since."""

    first: tuple[str, ...]
    changing: frozenset[int] = frozenset()

    def also(self, numbers: tuple[str, ...]) -> None:
        """Take note of these."""
        differ = (i for i, (one, other) in enumerate(zip(self.first, numbers, strict=True)) if one != other)
        self.changing = self.changing.union(differ)


def places_of_numbers(graph: Graph, known: Iterable[Node]) -> dict[Place, str]:
    """Where numbers stand that may as well be read from memory, and what they are."""
    found = {}
    for node in known:
        if node.baked is not None and node.baked.size == 1 and node.dtype.is_floating_point:
            value = node.baked.flat[0].item()
            if _is_loose(value):
                found[node, -1] = repr(value)
    for node in every(graph.nodes):
        if record(node).is_elementwise and _computes_in_floats(node):
            for i, value in enumerate(node.args):
                if isinstance(value, float) and _is_loose(value) and not (node.op == "pow" and _is_exponent(value, i)):
                    found[node, i] = repr(value)
    return found


def make_arguments(places: Iterable[Place], dtype: torch.dtype) -> None:
    """Let the numbers at these places be constants of the graph's dtype that are data."""
    for node, at in places:
        if at < 0:
            node.baked = None
            continue
        value = torch.tensor(node.args[at], dtype=dtype)
        number: Any = Node("constant", (), (), dtype, node.where, tensor=value, label="number", is_own=True)
        node.args = (*node.args[:at], number, *node.args[at + 1 :])


def _is_loose(value: float) -> bool:
    """0 and 1 are no factors and no terms: operations vanish with them."""
    return math.isfinite(value) and value not in (0.0, 1.0, -1.0)


def _is_exponent(value: float, at: int) -> bool:
    """One that `pointwise.power` has something better for than a power."""
    return at == 1 and (2 * value).is_integer()


def _computes_in_floats(node: Node) -> bool:
    """A number beside integers is rounded, wraps, or makes floats of them."""
    tensors = [part for part in node.args if isinstance(part, Node)]
    return all(part.dtype.is_floating_point or part.dtype == torch.bool for part in (*tensors, node))
