"""One loop of a trace, written down again: rows, sums over rows, and scans of what is truly serial."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from .arguments import array_of
from .constants import BAKED
from .graph import Node
from .iterations import Before, Each, Loop, Own, Refused
from .lift import Rows
from .operations import record
from .splitting import Split, Stacked, has_rows, last_of

if TYPE_CHECKING:
    from .reroll import Program

MOST_SEARCHED = 100_000
"""Numbers that are looked at to find those that belong to a place: more are written out."""


class Rolling(Split):
    """One loop while it is written."""

    def __init__(self, program: Program, loop: Loop, outside: set[Node]) -> None:
        self.program = program
        self.loop = loop
        self.outside = outside
        self.nodes = program.graph.nodes
        loop.backwards = self._reads_backwards()
        super().__init__(program.write, loop.classes, loop.operands, loop.count, loop.backwards)

    def written(self, members: list[int], is_circle: bool) -> bool:
        """As an operation on rows, or as sums over rows."""
        if any(self.classes[j].scan and not self.outside.isdisjoint(self.over(j)) for j in members):
            raise Refused(self.loop.found)
        if (not is_circle and self._lift(members[0])) or self._add_up(members):
            return True
        if any(self._differ_by_number(j) and not _takes_numbers_of_rows(self.classes[j]) for j in members):
            raise Refused(self.loop.found)
        return False

    def value(self, node: Node) -> Node:
        """What it is in the new graph."""
        value: Node = self.program.value(node)
        return value

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
        if self._is_scan(operand):
            raise Refused(self.loop.found)
        if isinstance(operand, Own):
            if operand.of not in self.stacked:
                raise Refused(self.loop.found)
            return Rows(self.stacked[operand.of].rows(self.write_down))
        if isinstance(operand, Before):
            values = [*operand.starts, *self.over(operand.of)][: self.count]
            return Rows(self._rows_of(values))
        if isinstance(operand, Each):
            if isinstance(operand.values[0], Node):
                return Rows(self._rows_of(operand.values))
            return Rows(self._numbers(operand.values))
        return self.program.value(operand)

    def _is_scan(self, operand: Any) -> bool:
        """Is it a loop, of which there are no rows?"""
        if isinstance(operand, Each):
            return isinstance(operand.values[0], Node) and operand.values[0].scan is not None
        return isinstance(operand, (Own, Before)) and self.classes[operand.of].scan is not None

    def _rows_of(self, values: Sequence[Node]) -> Node:
        rows = self.program.rows(self._in_rows(values))
        if rows is None:
            raise Refused(self.loop.found)
        return rows

    def _numbers(self, values: Sequence[Any]) -> Node:
        dtype = self.program.graph.inputs[0].dtype
        tensor = torch.tensor(self._in_rows(values), dtype=dtype)
        baked = array_of(tensor)
        return Node("constant", (), (len(values),), dtype, tensor=tensor, baked=baked, label="number", is_own=True)

    def _differ_by_number(self, j: int) -> list[int]:
        """Which operands of a class are numbers that differ by iteration."""
        own = enumerate(self.operands[j])
        return [i for i, o in own if isinstance(o, Each) and not isinstance(o.values[0], Node)]

    # -- one operation on rows

    def _lift(self, j: int) -> bool:
        """Write a class as one operation on rows, if there is a rule for it."""
        node = self.classes[j]
        numbers = self._differ_by_number(j)
        if numbers and not _takes_numbers_of_rows(node):
            if (node.op == "select" and numbers == [2]) or (node.op == "slice" and numbers == [2, 3]):
                return self._lift_parts(j)
            if any(one in self.outside for one in self.over(j)):
                raise Refused(self.loop.found)
            return node.op == "select_backward"  # see `_add_up`
        args = self.arguments(j, self.operand)
        if not has_rows(args):  # numbers alone, or nothing
            self.stacked[j] = Stacked(self.count, self.write_down.expanded(self.once(j, args), self.count))
        elif not self.lifted(j, args):
            return False
        self._register(j)
        return True

    def _lift_parts(self, j: int) -> bool:
        """Elements 0, 1, 2, ... of something along a dimension are its rows, and so are slices one after the other."""
        source, dim, index = self.operands[j][:3]
        if isinstance(source, (Own, Before, Each)):
            raise Refused(self.loop.found)
        of = self.program.value(source)
        dim %= len(of.shape)
        size, shape = of.shape[dim], self.classes[j].shape
        length = shape[dim] if self.classes[j].op == "slice" else 1
        at = [i % size if i < 0 else i for i in self._in_rows(index.values)]
        low, step = _evenly(at)
        if length > 1 and (abs(step) != length or self.operands[j][4:] != [1]):
            raise Refused(self.loop.found)
        order = [dim, *(d for d in range(len(of.shape)) if d != dim)]
        rows = self.write_down.permuted(of, order)
        count = self.count
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
        found = self.addition(members)
        if found is None:
            return False
        last, before, terms = found
        if any(node in self.outside for j in members for node in self.over(j) if j != last):
            return False
        if any(node in self.outside for node in self.over(last)[:-1]):
            return False
        node = self.classes[last]
        total = self.program.value(before.starts[0])
        for term in terms:
            self.write_down.where = node.where
            total = self.write_down.new("add", (total, self._sum(term), 1), node.shape, node)
        self.program.made[self.instance(last, self.count - 1)] = total
        return True

    def _sum(self, term: Any) -> Any:
        """The sum of an operand over all iterations."""
        count = self.count
        if isinstance(term, Own) and self._differ_by_number(term.of) and term.of not in self.stacked:
            return self._placed(term.of)
        rows = self.operand(term)
        if isinstance(rows, Rows):
            return self.write_down.summed(rows.node)
        if isinstance(rows, Node):
            return self.write_down.new("mul", (rows, float(count)), rows.shape, rows)
        return rows * count

    def _placed(self, j: int) -> Node:
        """The sum of gradients of elements 0, 1, 2, ... along a dimension: each is a row of it."""
        gradient, *_, dim, index = self.operands[j]
        node = self.classes[j]
        if not isinstance(index, Each) or not isinstance(dim, int):
            raise Refused(self.loop.found)
        dim %= len(node.shape)
        size, count = node.shape[dim], self.count
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
        baked = array_of(tensor) if tensor.numel() <= BAKED else None
        shape, dtype = tuple(tensor.shape), tensor.dtype
        return Node("constant", (), shape, dtype, tensor=tensor, baked=baked, label=label, is_own=True)

    def _zeros(self, shape: Sequence[int], like: Node) -> Node:
        tensor = torch.zeros((), dtype=like.dtype).expand(tuple(shape))
        baked = torch.zeros(1, dtype=like.dtype).numpy()
        return Node("constant", (), tuple(shape), like.dtype, tensor=tensor, baked=baked, label="zeros", is_own=True)

    # -- what is truly serial

    def scanned(self, j: int, whole: Stacked, starts: Sequence[Node]) -> None:
        """Let others find what a class of a scan was: its rows, with what it began with, and its last value."""
        for row, node in enumerate(self._in_rows([*starts, *self.over(j)])):
            if not node.is_constant:
                self.program.places.setdefault(node, []).append((whole, row))
        last = last_of(self.stacked[j])
        if last is not None:
            self.program.last[self.instance(j, self.count - 1)] = last


def _evenly(at: Sequence[int]) -> tuple[int, int]:
    """The lowest of these places, and the step from one to the next; 0 if they are not as far apart."""
    step = at[1] - at[0]
    if any(i != at[0] + k * step for k, i in enumerate(at)):
        step = 0
    return min(at), step


def _takes_numbers_of_rows(node: Node) -> bool:
    """May its numbers be tensors?"""
    return record(node).is_elementwise
