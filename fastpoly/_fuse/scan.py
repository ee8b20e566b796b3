"""A loop within a step: what a time step takes from the one before, as a node of the graph.

A node of the op "scan" runs a `Scan`; its arguments are what the first iteration begins with, what has a row for each
iteration, and what is the same for all. What comes of it are nodes of two ops, with the scan's node as an argument:
"scan_rows", whose second argument is a position among `Scan.outputs` (a row for each iteration, and for each start),
and "scan_last", with a position among `Scan.carries` (what the last iteration hands on).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .graph import Node

OF_SCANS = ("scan_rows", "scan_last")
"""What comes of a scan."""


@dataclass(eq=False)
class Carry:
    """A value that iterations hand on.

    Attributes:
        inputs: it as an iteration gets it, from so many iterations before; the oldest first.
        next: what an iteration makes of it.
    """

    inputs: list[Node]
    next: Node


@dataclass(eq=False)
class Scan:
    """Equal iterations, one after the other.

    Attributes:
        count: how many.
        backwards: does the first iteration take the last row?
        body: what an iteration does, in order.
        carries: what it hands on. The scan's node has the starts of each, the oldest first.
        rows: inputs of which each iteration gets its own row.
        same: inputs that are the same in every iteration.
        outputs: nodes of the body whose values somebody reads afterwards.
    """

    count: int
    backwards: bool
    body: list[Node] = field(default_factory=list)
    carries: list[Carry] = field(default_factory=list)
    rows: list[Node] = field(default_factory=list)
    same: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)

    @property
    def inputs(self) -> list[Node]:
        """All that an iteration gets."""
        return [*(one for carry in self.carries for one in carry.inputs), *self.rows, *self.same]

    @property
    def described(self) -> tuple[Any, ...]:
        """Equal for scans that do the same."""
        numbers: dict[Node, int] = {}

        def of(value: Any) -> Any:
            if isinstance(value, Node):
                return "node", numbers.get(value, value)
            return tuple(map(of, value)) if isinstance(value, (list, tuple)) else repr(value)

        for one in (*self.inputs, *self.body):
            numbers[one] = len(numbers)
        body = [(n.op, n.shape, n.dtype, of(n.args), n.scan.described if n.scan else ()) for n in self.body]
        carries = [(of(carry.inputs), of(carry.next)) for carry in self.carries]
        ends = of(self.rows), of(self.same), of(self.outputs)
        return self.count, self.backwards, tuple(body), tuple(carries), *ends

    def output(self, node: Node) -> int:
        """The position of a node of the body among the outputs."""
        if node not in self.outputs:
            self.outputs.append(node)
        return self.outputs.index(node)

    def starts_of(self, node: Node) -> int:
        """How many rows of starts stand before (after, if backwards) the rows of an output."""
        return next((len(carry.inputs) for carry in self.carries if carry.next is node), 0)


def every(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes, and those of the bodies of scans."""
    for node in nodes:
        yield node
        if node.scan is not None:
            yield from every(node.scan.body)
