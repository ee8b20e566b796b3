"""A loop split into what is truly serial, and what is one operation on rows.

Of the operations of an iteration (*classes*) each gets values of its own iteration, of the one before, rows, and what
is the same for all. Those that need each other around a circle become a `Scan`; all others are lifted (`lift`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .arguments import leaves, mapped
from .graph import Node
from .iterations import Before, Own
from .lift import Rows, Writer
from .operations import record
from .runs import components
from .scan import OF_SCANS, Carry, Scan


@dataclass(eq=False)
class Stacked:
    """Rows that lie somewhere.

    Attributes:
        count: how many.
        node: the rows, if they are a node.
        scan, of: if they come of a scan: its node, and the node of its body.
        whole, low: if they are a part of other rows: those, and where they begin.
        seen: if they are a view of other rows: what writes it down.
    """

    count: int
    node: Node | None = None
    scan: Node | None = None
    of: Node | None = None
    whole: Stacked | None = None
    low: int = 0
    seen: Callable[[], Node] | None = None

    def rows(self, write: Writer) -> Node:
        """The rows, written down where somebody reads them."""
        if self.whole is not None:
            return write.sliced(self.whole.rows(write), self.low, self.low + self.count)
        if self.seen is not None:
            return self.seen()
        if self.node is None:
            assert self.scan is not None
            assert self.scan.scan is not None
            assert self.of is not None
            position = self.scan.scan.output(self.of)
            return write.new("scan_rows", (self.scan, position), (self.count, *self.of.shape), self.of)
        return self.node


class Split:
    """A loop while it is written.

    Args:
        write: where.
        classes: the operations of an iteration, in order.
        operands: for each class what its arguments are, in the order of `leaves`.
        count: how many iterations.
        backwards: are its rows in the order of the last iteration first?

    Attributes:
        stacked: of the classes that are written.
    """

    def __init__(
        self, write: Writer, classes: Sequence[Node], operands: Sequence[Sequence[Any]], count: int, backwards: bool
    ) -> None:
        self.write_down = write
        self.classes, self.operands = classes, operands
        self.count, self.backwards = count, backwards
        self.stacked: dict[int, Stacked] = {}

    def write(self) -> None:
        """All classes, each circle of them after what it needs."""
        edges = [[operand.of for operand in own if isinstance(operand, (Own, Before))] for own in self.operands]
        for j, node in enumerate(self.classes):
            if node.op in OF_SCANS and edges[j]:  # a loop within goes where what comes of it goes
                edges[edges[j][0]].append(j)
        for members in components(edges):
            if not self.written(members, is_circle=len(members) > 1 or members[0] in edges[members[0]]):
                self.scan(members)

    # -- what a subclass says

    def written(self, members: list[int], is_circle: bool) -> bool:
        """Write classes that need each other otherwise than as a scan; False if they are one."""
        raise NotImplementedError

    def operand(self, operand: Any) -> Any:
        """For an operation on rows: Rows, or what is the same for all iterations."""
        raise NotImplementedError

    def value(self, node: Node) -> Node:
        """What a loop begins with."""
        raise NotImplementedError

    # -- one operation on rows

    def arguments(self, j: int, of: Any) -> tuple[Any, ...]:
        """A class's arguments, `of` each operand."""
        operands = iter(self.operands[j])
        return tuple(mapped(lambda _: of(next(operands)), arg) for arg in self.classes[j].args)

    def lifted(self, j: int, args: Sequence[Any]) -> bool:
        """Write a class as one operation on rows, if there is a rule for it."""
        node = self.classes[j]
        self.write_down.where, lift = node.where, record(node).lift
        new = lift(self.write_down, node, args, self.count) if lift else None
        if new is not None:
            self.stacked[j] = Stacked(self.count, new)
        return new is not None

    def once(self, j: int, args: Sequence[Any]) -> Node:
        """Write a class that does the same in all iterations."""
        node = self.classes[j]
        self.write_down.where = node.where
        return self.write_down.new(node.op, args, node.shape, node)

    # -- sums

    def addition(self, members: list[int]) -> tuple[int, Before, list[Any]] | None:
        """Of a circle of additions what is handed on, it as it begins, and what is added; None if it is no such circle.

        Nothing outside of the circle reads what it comes to on the way.
        """
        operands = self.operands
        carried = [o for j in members for o in operands[j] if isinstance(o, Before) and o.of in members]
        if len(carried) != 1 or len(carried[0].starts) != 1:
            return None
        if any(self.classes[j].op != "add" or operands[j][2:] != [1] for j in members):
            return None
        terms: list[Any] = []
        for j in members:
            inside = [isinstance(o, (Own, Before)) and o.of in members for o in operands[j][:2]]
            if inside.count(True) != 1:
                return None
            terms.append(operands[j][inside.index(False)])
        others = (own for j, own in enumerate(operands) if j not in members)
        if any(isinstance(o, (Own, Before)) and o.of in members for own in others for o in own):
            return None
        return carried[0].of, carried[0], terms

    # -- what is truly serial

    def scan(self, members: list[int]) -> Scan:
        """Write a circle of classes as a loop of its own."""
        scan = Scan(self.count, self.backwards)
        starts: list[Node] = []
        outer_rows: list[Node] = []
        outer_same: list[Node] = []
        body: dict[int, Node] = {}
        inputs: dict[Any, Node] = {}
        carried: list[tuple[Before, list[Node]]] = []

        def given(key: Any, like: Node, shape: Sequence[int], into: list[Node]) -> Node:
            label = like.label or like.op
            inputs[key] = Node("input", (), tuple(shape), like.dtype, position=len(inputs), label=label)
            into.append(inputs[key])
            return inputs[key]

        def carry(operand: Before) -> Node:
            key = (operand.of, operand.starts)
            if key not in inputs:
                like = self.classes[operand.of]
                own = [
                    given((key, lag), like, like.shape, []) for lag in range(len(operand.starts))
                ]  # the oldest first
                inputs[key] = own[0]
                starts.extend(self.value(start) for start in operand.starts)
                carried.append((operand, own))
            return inputs[key]

        def get(operand: Any) -> Any:
            if isinstance(operand, Own) and operand.of in members:
                return body[operand.of]
            if isinstance(operand, Before) and operand.of in members:
                return carry(operand)
            value = self.operand(operand)
            if isinstance(value, Rows):
                if value.node not in inputs:
                    outer_rows.append(value.node)
                    given(value.node, value.node, value.node.shape[1:], scan.rows)
                return inputs[value.node]
            if isinstance(value, Node):
                if value not in inputs:
                    outer_same.append(value)
                    given(value, value, value.shape, scan.same)
                return inputs[value]
            return value

        for j in members:
            node = self.classes[j]
            body[j] = Node(node.op, self.arguments(j, get), node.shape, node.dtype, node.where, scan=node.scan)
        scan.body = [body[j] for j in members]
        scan.carries = [Carry(own, body[operand.of]) for operand, own in carried]
        scan_node = Node("scan", (starts, outer_rows, outer_same), (), self.classes[members[0]].dtype, scan=scan)
        scan_node.where = self.classes[members[0]].where
        self.write_down.nodes.append(scan_node)
        begun = {operand.of: operand.starts for operand, _ in reversed(carried)}
        for j in members:
            starts_of = begun.get(j, ())
            whole = Stacked(self.count + len(starts_of), scan=scan_node, of=body[j])
            self.stacked[j] = whole
            if starts_of:
                self.stacked[j] = Stacked(self.count, whole=whole, low=0 if self.backwards else len(starts_of))
            self.scanned(j, whole, starts_of)
        for j in members:
            if j not in begun:
                self.stacked[j].seen = self._view(j, members, begun)
        return scan

    def _view(self, j: int, members: list[int], begun: dict[int, tuple[Node, ...]]) -> Callable[[], Node] | None:
        """What writes down the rows of a class of a scan as a view of other rows of it, which need no memory of their
        own; None if it is no view of such, or of few of their elements, or all that there is of them.
        """
        node, lift = self.classes[j], record(self.classes[j]).lift
        if not record(node).is_view or lift is None or not self.operands[j]:
            return None
        first, *others = self.operands[j]
        if not isinstance(first, (Own, Before)) or first.of not in members or any(isinstance(o, Node) for o in others):
            return None
        if not 0 < math.prod(self.classes[first.of].shape) <= 2 * math.prod(node.shape):
            return None
        readers = [k for k, own in enumerate(self.operands) for o in own if getattr(o, "of", None) == first.of]
        if readers == [j] and first.of not in begun:
            return None
        source = self.stacked[first.of]
        if isinstance(first, Before):
            if source.whole is None or begun.get(first.of) != first.starts:
                return None
            source = Stacked(self.count, whole=source.whole, low=len(first.starts) if self.backwards else 0)

        def seen() -> Node:
            rows = Rows(source.rows(self.write_down))
            args = self.arguments(j, lambda operand: rows if operand is first else operand)
            self.write_down.where = node.where
            found = lift(self.write_down, node, args, self.count)
            assert found is not None, "a view has no rows"
            return found

        return seen

    def scanned(self, j: int, whole: Stacked, starts: Sequence[Node]) -> None:
        """Told of each class of a scan: its rows, with those of what it began with."""


def last_of(stacked: Stacked) -> tuple[Node, int] | None:
    """What a scan hands on last of a class that it carries: the scan's node, and the position of the carry."""
    whole = stacked.whole
    if whole is None or whole.scan is None or whole.scan.scan is None:
        return None
    carries = whole.scan.scan.carries
    return whole.scan, next(i for i, carry in enumerate(carries) if carry.next is whole.of)


def has_rows(args: Iterable[Any]) -> bool:
    """Is there a row for each iteration among the arguments?"""
    return any(isinstance(leaf, Rows) for leaf in leaves(*args))
