"""One loop of a trace, written down again: rows, sums over rows, and scans of what is truly serial."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .arguments import leaves, mapped
from .constants import BAKED
from .graph import Node
from .iterations import Before, Each, Loop, Own, Refused
from .lift import Rows
from .operations import record
from .runs import components
from .scan import Carry, Scan

if TYPE_CHECKING:
    from .reroll import Program

MOST_SEARCHED = 100_000
"""Numbers that are looked at to find those that belong to a place: more are written out."""


@dataclass(eq=False)
class Stacked:
    """Rows that lie somewhere, asked for when somebody reads them.

    Attributes:
        count: how many.
        node: the rows; None until asked for.
        scan, of: if they come of a scan: its node, and the node of its body.
        whole, low: if they are a part of other rows: those, and where they begin.
    """

    count: int
    node: Node | None = None
    scan: Node | None = None
    of: Node | None = None
    whole: Stacked | None = None
    low: int = 0


class Rolling:
    """One loop while it is written."""

    def __init__(self, program: Program, loop: Loop, outside: set[Node]) -> None:
        self.program = program
        self.write_down = program.write
        self.loop = loop
        self.outside = outside
        self.nodes = program.graph.nodes
        self.stacked: dict[int, Stacked] = {}  # of the classes that are written
        loop.backwards = self._reads_backwards()

    def write(self) -> None:
        """All classes, each circle of them after what it needs."""
        edges = [[operand.of for operand in own if isinstance(operand, (Own, Before))] for own in self.loop.operands]
        for members in components(edges):
            if len(members) == 1 and members[0] not in edges[members[0]] and self._lift(members[0]):
                continue
            if self._add_up(members):
                continue
            self._scan(members)

    def instance(self, j: int, iteration: int) -> Node:
        """What class j was in an iteration."""
        return self.nodes[self.loop.run.start + iteration * self.loop.run.period + j]

    def over(self, j: int) -> list[Node]:
        """What class j was in all of them."""
        return self.nodes[self.loop.run.start + j : self.loop.run.end : self.loop.run.period]

    def _reads_backwards(self) -> bool:
        """Do most of its rows come from the last row to the first?"""
        directions: Counter[int] = Counter()
        places = self.program.places
        for operand in (operand for own in self.loop.operands for operand in own if isinstance(operand, Each)):
            one, other = operand.values[1:3]
            if isinstance(one, Node):
                rows = dict(places.get(one, ()))
                steps = [row - rows[stacked] for stacked, row in places.get(other, ()) if stacked in rows]
                directions.update(steps[:1])
            elif isinstance(one, int):
                directions[other - one] += 1
        return directions[-1] > directions[1]

    def _in_rows(self, values: Sequence[Any]) -> list[Any]:
        """What iterations have, in the order of the rows."""
        return list(values[::-1] if self.loop.backwards else values)

    # -- operands as rows

    def operand(self, operand: Any) -> Any:
        """For an operation on rows: Rows, or what is the same for all iterations."""
        if isinstance(operand, Own):
            if operand.of not in self.stacked:
                raise Refused(self.loop.found)
            return Rows(self.program.stack(self.stacked[operand.of]))
        if isinstance(operand, Before):
            values = [*operand.starts, *self.over(operand.of)][: self.loop.count]
            return Rows(self._rows_of(values))
        if isinstance(operand, Each):
            if isinstance(operand.values[0], Node):
                return Rows(self._rows_of(operand.values))
            return Rows(self._numbers(operand.values))
        return self.program.value(operand)

    def _rows_of(self, values: Sequence[Node]) -> Node:
        rows = self.program.rows(self._in_rows(values))
        if rows is None:
            raise Refused(self.loop.found)
        return rows

    def _numbers(self, values: Sequence[Any]) -> Node:
        dtype = self.program.graph.inputs[0].dtype
        tensor = torch.tensor(self._in_rows(values), dtype=dtype)
        baked = tensor.numpy()
        return Node("constant", (), (len(values),), dtype, tensor=tensor, baked=baked, label="number", is_own=True)

    def _arguments(self, j: int, of: Any) -> tuple[Any, ...]:
        """A class's arguments, `of` each operand."""
        operands = iter(self.loop.operands[j])
        return tuple(mapped(lambda _: of(next(operands)), arg) for arg in self.loop.classes[j].args)

    def _differ_by_number(self, j: int) -> list[int]:
        """Which operands of a class are numbers that differ by iteration."""
        own = enumerate(self.loop.operands[j])
        return [i for i, o in own if isinstance(o, Each) and not isinstance(o.values[0], Node)]

    # -- one operation on rows

    def _lift(self, j: int) -> bool:
        """Write a class as one operation on rows, if there is a rule for it."""
        node = self.loop.classes[j]
        numbers = self._differ_by_number(j)
        if numbers and not _takes_numbers_of_rows(node):
            if (node.op == "select" and numbers == [2]) or (node.op == "slice" and numbers == [2, 3]):
                return self._lift_parts(j)
            if any(one in self.outside for one in self.over(j)):
                raise Refused(self.loop.found)
            return node.op == "select_backward"  # see `_add_up`
        args = self._arguments(j, self.operand)
        if not any(isinstance(leaf, Rows) for leaf in leaves(args)):  # numbers alone, or nothing
            self.stacked[j] = Stacked(self.loop.count, self.write_down.expanded(self._once(j, args), self.loop.count))
        else:
            self.write_down.where, lift = node.where, record(node).lift
            new = lift(self.write_down, node, args, self.loop.count) if lift else None
            if new is None:
                return False
            self.stacked[j] = Stacked(self.loop.count, new)
        self._register(j)
        return True

    def _once(self, j: int, args: Sequence[Any]) -> Node:
        node = self.loop.classes[j]
        self.write_down.where = node.where
        return self.write_down.new(node.op, args, node.shape, node)

    def _lift_parts(self, j: int) -> bool:
        """Elements 0, 1, 2, ... of something along a dimension are its rows, and so are slices one after the other."""
        source, dim, index = self.loop.operands[j][:3]
        if isinstance(source, (Own, Before, Each)):
            raise Refused(self.loop.found)
        of = self.program.value(source)
        dim %= len(of.shape)
        size, shape = of.shape[dim], self.loop.classes[j].shape
        length = shape[dim] if self.loop.classes[j].op == "slice" else 1
        at = [i % size if i < 0 else i for i in self._in_rows(index.values)]
        low, step = _evenly(at)
        if length > 1 and (abs(step) != length or self.loop.operands[j][4:] != [1]):
            raise Refused(self.loop.found)
        order = [dim, *(d for d in range(len(of.shape)) if d != dim)]
        rows = self.write_down.permuted(of, order)
        count = self.loop.count
        if step == 0:
            places = self._constant(torch.tensor(at), "places")
            rows = self.write_down.new("index", (rows, [places]), (count, *rows.shape[1:]), rows)
            rows = self.write_down.reshaped(rows, (count, *shape))
        elif length > 1:
            rows = self.write_down.sliced(rows, low, low + count * length)
            rows = self.write_down.reshaped(rows, (count, length, *rows.shape[1:]))
            rows = self.write_down.permuted(rows, [0, *range(2, dim + 2), 1, *range(dim + 2, len(rows.shape))])
        else:
            rows = self.write_down.sliced(rows, low, low + abs(step) * (count - 1) + 1, abs(step))
            rows = self.write_down.reshaped(rows, (count, *shape))
        self.stacked[j] = Stacked(count, rows if step >= 0 else self.write_down.flipped(rows))
        self._register(j)
        return True

    def _register(self, j: int) -> None:
        """Let others find what class j was among its rows."""
        stacked, places = self.stacked[j], self.program.places
        for row, node in enumerate(self._in_rows(self.over(j))):
            places.setdefault(node, []).append((stacked, row))

    # -- sums

    def _add_up(self, members: list[int]) -> bool:
        """Write a circle of additions whose total alone is read as sums over rows."""
        classes, operands = self.loop.classes, self.loop.operands
        carried = [o.of for j in members for o in operands[j] if isinstance(o, Before) and o.of in members]
        if len(carried) != 1 or any(classes[j].op != "add" or operands[j][2:] != [1] for j in members):
            return False
        last = carried[0]
        terms: list[Any] = []
        for j in members:
            inside = [isinstance(o, (Own, Before)) and o.of in members for o in operands[j][:2]]
            if inside.count(True) != 1:
                return False
            terms.append(operands[j][inside.index(False)])
        if any(self._is_read(j, members) for j in members) or any(
            node in self.outside for j in members for node in self.over(j) if j != last
        ):
            return False
        if any(node in self.outside for node in self.over(last)[:-1]):
            return False
        (before,) = (o for j in members for o in operands[j] if isinstance(o, Before) and o.of == last)
        if len(before.starts) != 1:
            return False
        node = classes[last]
        total = self.program.value(before.starts[0])
        for term in terms:
            self.write_down.where = node.where
            total = self.write_down.new("add", (total, self._sum(term, node), 1), node.shape, node)
        self.program.made[self.instance(last, self.loop.count - 1)] = total
        return True

    def _is_read(self, j: int, members: list[int]) -> bool:
        """Does a class outside of the circle read it?"""
        return any(
            isinstance(operand, (Own, Before)) and operand.of == j
            for other, own in enumerate(self.loop.operands)
            if other not in members
            for operand in own
        )

    def _sum(self, term: Any, total: Node) -> Any:
        """The sum of an operand over all iterations."""
        count = self.loop.count
        if isinstance(term, Own) and self._differ_by_number(term.of) and term.of not in self.stacked:
            return self._placed(term.of)
        rows = self.operand(term)
        if isinstance(rows, Rows):
            row = rows.node
            return self.write_down.new("sum", (row, [0], False), row.shape[1:], total)
        if isinstance(rows, Node):
            return self.write_down.new("mul", (rows, float(count)), rows.shape, rows)
        return rows * count

    def _placed(self, j: int) -> Node:
        """The sum of gradients of elements 0, 1, 2, ... along a dimension: each is a row of it."""
        gradient, *_, dim, index = self.loop.operands[j]
        node = self.loop.classes[j]
        if not isinstance(index, Each) or not isinstance(dim, int):
            raise Refused(self.loop.found)
        dim %= len(node.shape)
        size, count = node.shape[dim], self.loop.count
        at = [i % size for i in self._in_rows(index.values)]
        low, step = _evenly(at)
        operand = self.operand(gradient)
        rows = operand.node if isinstance(operand, Rows) else self.write_down.expanded(operand, count)
        order = [*range(1, dim + 1), 0, *range(dim + 1, len(node.shape))]
        if abs(step) != 1:  # any places: each row of the result is the sum of those that belong there
            if count * math.prod(node.shape) > MOST_SEARCHED:
                raise Refused(self.loop.found)
            one = [1] * (len(rows.shape) - 1)
            belongs = torch.nn.functional.one_hot(torch.tensor(at), size).bool().reshape(count, size, *one)
            each = self.write_down.reshaped(rows, (count, 1, *rows.shape[1:]))
            chosen = (self._constant(belongs, "belongs"), each, 0.0)
            placed = self.write_down.new("where", chosen, (count, size, *rows.shape[1:]), rows)
            total = self.write_down.new("sum", (placed, [0], False), (size, *rows.shape[1:]), rows)
            return self.write_down.permuted(total, order)
        rows = rows if step > 0 else self.write_down.flipped(rows)
        rest = size - low - count
        zeros = [self._zeros((n, *rows.shape[1:]), rows) if n else None for n in (low, rest)]
        parts = [part for part in (zeros[0], rows, zeros[1]) if part is not None]
        if len(parts) > 1:
            rows = self.write_down.new("cat", (parts, 0), (size, *rows.shape[1:]), rows)
        return self.write_down.permuted(rows, order)

    def _constant(self, tensor: torch.Tensor, label: str) -> Node:
        baked = tensor.numpy() if tensor.numel() <= BAKED else None
        shape, dtype = tuple(tensor.shape), tensor.dtype
        return Node("constant", (), shape, dtype, tensor=tensor, baked=baked, label=label, is_own=True)

    def _zeros(self, shape: Sequence[int], like: Node) -> Node:
        tensor = torch.zeros((), dtype=like.dtype).expand(tuple(shape))
        baked = torch.zeros(1, dtype=like.dtype).numpy()
        return Node("constant", (), tuple(shape), like.dtype, tensor=tensor, baked=baked, label="zeros", is_own=True)

    # -- what is truly serial

    def _scan(self, members: list[int]) -> None:
        """Write a circle of classes as a loop of its own."""
        loop = self.loop
        if any(self._differ_by_number(j) and not _takes_numbers_of_rows(loop.classes[j]) for j in members):
            raise Refused(loop.found)
        scan = Scan(loop.count, loop.backwards)
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
                like = loop.classes[operand.of]
                own = [
                    given((key, lag), like, like.shape, []) for lag in range(len(operand.starts))
                ]  # the oldest first
                inputs[key] = own[0]
                starts.extend(self.program.value(start) for start in operand.starts)
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
            node = loop.classes[j]
            body[j] = Node(node.op, self._arguments(j, get), node.shape, node.dtype, node.where, scan=node.scan)
        scan.body = [body[j] for j in members]
        scan.carries = [Carry(own, body[operand.of]) for operand, own in carried]
        scan_node = Node("scan", (starts, outer_rows, outer_same), (), loop.classes[members[0]].dtype, scan=scan)
        scan_node.where = loop.classes[members[0]].where
        self.write_down.nodes.append(scan_node)
        begun = {operand.of: operand.starts for operand, _ in reversed(carried)}
        for j in members:
            self._register_scanned(j, scan_node, body[j], begun.get(j, ()))

    def _register_scanned(self, j: int, scan_node: Node, of: Node, starts: Sequence[Node]) -> None:
        """Let others find what a class of a scan was: its rows, with what it began with, and its last value."""
        count, places = self.loop.count, self.program.places
        assert scan_node.scan is not None
        whole = Stacked(count + len(starts), scan=scan_node, of=of)
        for row, node in enumerate(self._in_rows([*starts, *self.over(j)])):
            if not node.is_constant:
                places.setdefault(node, []).append((whole, row))
        self.stacked[j] = whole
        if starts:
            self.stacked[j] = Stacked(count, whole=whole, low=0 if self.loop.backwards else len(starts))
            carry = next(i for i, carry in enumerate(scan_node.scan.carries) if carry.next is of)
            self.program.last[self.instance(j, count - 1)] = (scan_node, carry)


def _evenly(at: Sequence[int]) -> tuple[int, int]:
    """The lowest of these places, and the step from one to the next; 0 if they are not as far apart."""
    step = at[1] - at[0]
    if any(i != at[0] + k * step for k, i in enumerate(at)):
        step = 0
    return min(at), step


def _takes_numbers_of_rows(node: Node) -> bool:
    """May its numbers be tensors?"""
    return record(node).is_elementwise
