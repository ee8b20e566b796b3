"""A loop whose body was traced by itself, written down: see `Split`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arguments import leaves
from .bounds import refusal
from .graph import Node
from .iterations import Before, Own
from .known_rows import known_rows
from .lift import Rows, Writer
from .operations import record
from .scan import OF_SCANS, Scan
from .splitting import Split, Stacked, has_rows, last_of
from .whole_numbers import PICKS, bounds_of, is_whole


class Given(Split):
    """A loop of given iterations.

    Args:
        write: where.
        nodes: what an iteration does, in order.
        read: those of them that are read afterwards, all rows of each.
        count: how many iterations.
        backwards: does the first one take the last row?
        ahead: the loop whose gradient this is, and the first of its rows that belongs here.
        is_whole: is it not to be split?
    """

    def __init__(
        self,
        write: Writer,
        nodes: Sequence[Node],
        read: Sequence[Node],
        count: int,
        backwards: bool,
        ahead: tuple[Given, int] | None = None,
        is_whole: bool = False,
    ) -> None:
        self.is_whole = is_whole
        self.ahead, self.read = ahead, set(read)
        own = [node for node in nodes if ahead is None or not ahead[0].also(node)]
        super().__init__(write, own, [], count, backwards)
        self.classes: list[Node] = own
        self.index = {node: j for j, node in enumerate(own)}
        self.fixed: dict[int, Node] = {}  # classes that do the same in all iterations
        self.totals: dict[int, Node] = {}  # those that add up: what they come to
        self._given: dict[Node, Any] = {}  # what is known of an iteration's inputs
        self._after: dict[Node, Node] = {}  # what is made of those that are carried
        self._late: dict[int, int] = {}  # of classes that were asked for afterwards: the scan's
        self._begun: dict[int, tuple[Stacked, Sequence[Node]]] = {}  # of classes that a scan carries: see `scanned`

    # -- what an iteration gets

    def give_rows(self, own: Node, rows: Node) -> None:
        """It gets a row of this."""
        self._given[own] = Rows(rows)

    def give_carry(self, own: Node, after: Node, start: Node) -> None:
        """It gets this first, and then what the iteration before has made of it."""
        self._after[own] = after
        if after is own or self.count == 1:
            self._given[own] = start
            return
        carried = {operand.of for operand in self._given.values() if isinstance(operand, Before)}
        if self.index.get(after, -1) in carried or after not in self.index:
            after = self._after[own] = Node("view", (after, list(after.shape)), after.shape, after.dtype, after.where)
            self.index[after] = len(self.classes)
            self.classes.append(after)
        self._given[own] = Before(self.index[after], (start,))
        if own in self.read:
            self.read.add(after)

    def known(self, leaf: Any) -> Any:
        """What something is that an iteration reads."""
        if not isinstance(leaf, Node):
            return leaf
        if leaf in self.index:
            return Own(self.index[leaf])
        if leaf in self._given:
            return self._given[leaf]
        if self.ahead is not None:
            loop, low = self.ahead
            if leaf in loop.index or leaf in loop._given:
                loop.write_down = self.write_down
                found = loop.operand(loop.known(leaf))
                return Rows(self.write_down.sliced(found.node, low, low + self.count)) if has_rows([found]) else found
        return leaf

    def operand(self, operand: Any) -> Any:
        """See `Split`."""
        if isinstance(operand, Own):
            of = operand.of
            if of in self._late and self._late[of] in self.fixed:
                node = self.classes[of]
                return self.write_down.new(node.op, (self.fixed[self._late[of]], node.args[1]), node.shape, node)
            return self.fixed[of] if of in self.fixed else Rows(self.stacked[of].rows(self.write_down))
        return Rows(self._shifted(operand)) if isinstance(operand, Before) else operand

    def value(self, node: Node) -> Node:
        """See `Split`."""
        return node

    def _shifted(self, operand: Before) -> Node:
        """The rows of what the iteration before has made."""
        write, count = self.write_down, self.count
        whole, starts = self._begun.get(operand.of, (None, ()))
        if whole is not None and tuple(starts) == operand.starts:
            low = 1 if self.backwards else 0
            return write.sliced(whole.rows(write), low, low + count)
        rows = self._rows(self.operand(Own(operand.of)))
        (start,) = operand.starts
        first = write.reshaped(start, (1, *start.shape))
        parts = [write.sliced(rows, 1, count), first] if self.backwards else [first, write.sliced(rows, 0, count - 1)]
        return write.new("cat", (parts, 0), rows.shape, rows)

    def _rows(self, operand: Any) -> Node:
        return operand.node if isinstance(operand, Rows) else self.write_down.expanded(operand, self.count)

    # -- writing

    def write(self) -> None:
        """See `Split`."""
        self.operands = [[self.known(leaf) for leaf in leaves(node.args)] for node in self.classes]
        if not self.is_whole or self.count == 1:
            super().write()
            return
        changing: list[int] = []
        for j, own in enumerate(self.operands):
            if any(isinstance(o, (Before, Rows)) or (isinstance(o, Own) and o.of not in self.fixed) for o in own):
                changing.append(j)
            else:
                self._alone(j)
        if changing:
            self.scan(changing)

    def written(self, members: list[int], is_circle: bool) -> bool:
        """See `Split`."""
        outer = [o for j in members for o in self.operands[j] if not _is_among(o, members)]
        is_carried = any(isinstance(o, Before) and o.of in members for j in members for o in self.operands[j])
        if not is_carried and not has_rows(map(self.operand, outer)):
            for j in members:
                self._alone(j)
            return True
        if not is_circle:
            (j,) = members
            return self.lifted(j, self.arguments(j, self.operand))
        return is_carried and (self._added_up(members) or self._is_known(members))

    def _is_known(self, members: list[int]) -> bool:
        """Write a circle of whole numbers as rows that are constants, if that is what they are."""
        nodes = {j: self.classes[j] for j in members}
        if not any(map(is_whole, nodes.values())) or any(type(arg) is list for n in nodes.values() for arg in n.args):
            return False
        operands = {j: [o if _is_among(o, members) else self.operand(o) for o in self.operands[j]] for j in members}
        times = range(self.count)
        rows = known_rows(nodes, operands, times[::-1] if self.backwards else times)
        for j, found in (rows or {}).items():
            found = found.flip(0) if self.backwards else found
            rows_of = Node("constant", (), tuple(found.shape), found.dtype, tensor=found, label="counted", is_own=True)
            self.stacked[j] = Stacked(self.count, rows_of)
        return rows is not None

    def _alone(self, j: int) -> None:
        """Write a class that does the same in all iterations."""
        node, args = self.classes[j], self.arguments(j, self.operand)
        if node.scan is None:
            self.fixed[j] = self.once(j, args)
            return
        self.fixed[j] = Node(node.op, args, node.shape, node.dtype, node.where, scan=node.scan)
        self.write_down.nodes.append(self.fixed[j])

    def _added_up(self, members: list[int]) -> bool:
        """Write a circle of additions whose total alone is read as sums over rows."""
        found = self.addition(members)
        if found is None or any(self.classes[j] in self.read for j in members):
            return False
        last, before, terms = found
        node = self.classes[last]
        (total,) = before.starts
        for term in terms:
            self.write_down.where = node.where
            total = self.write_down.new("add", (total, self._total(self.operand(term)), 1), node.shape, node)
        self.totals[last] = total
        return True

    def scan(self, members: list[int]) -> Scan:
        """See `Split`."""
        for j in members:
            node = self.classes[j]
            if is_whole(node) and not self._is_place(j):
                raise refusal(node, "a loop would carry whole numbers in a circle", "compute with floats")
            if node.op in PICKS and not self._exists(j):
                raise refusal(node, "its index changes, and may lie outside", "pick before the loop")
        return super().scan(members)

    def _is_place(self, j: int) -> bool:
        """Is it a place along an axis, or some of them, whatever an iteration has computed?"""
        return self._axis_of(j) is not None

    def _axis_of(self, j: int) -> int | None:
        """How long the axis is that it is a place along; None of what is no place."""
        node = self.classes[j]
        if record(node).is_place:
            return node.shape[node.args[1]] if node.shape else 1
        source = self.operands[j][0] if record(node).is_view else None
        return self._axis_of(source.of) if isinstance(source, Own) else None

    def _exists(self, j: int) -> bool:
        """Does the index of a pick lie within its dimension in all iterations?"""
        _, dim, index = self.operands[j][:3]
        if isinstance(index, Own) and (size := self._axis_of(index.of)) is not None:
            return bool(size <= self.classes[j].args[0].shape[dim])
        if isinstance(index, (Own, Before)) and index.of not in self.stacked and index.of not in self.fixed:
            return False
        value = self.operand(index)
        low, high = bounds_of(value.node if isinstance(value, Rows) else value)
        shape = self.classes[j].args[0].shape
        return low >= 0 and high < (shape[dim] if shape else 1)

    def scanned(self, j: int, whole: Stacked, starts: Sequence[Node]) -> None:
        """See `Split`."""
        if starts:
            self._begun[j] = whole, starts

    def also(self, node: Node) -> bool:
        """Is it what comes of a loop within this one, which a gradient asks for afterwards? It is one more class."""
        j = self.index.get(node.args[0], -1) if node.op in OF_SCANS else -1
        if j < 0:
            return False
        k = self.index[node] = len(self.classes)
        self.classes.append(node)
        self._late[k] = j
        if j in self.stacked:
            scan, of = self.stacked[j].scan, self.stacked[j].of
            assert scan is not None
            assert scan.scan is not None
            body = scan.scan.body
            here = next((n for n in body if n.op == node.op and n.args == (of, node.args[1])), None)
            if here is None:
                here = Node(node.op, (of, node.args[1]), node.shape, node.dtype, node.where)
                body.append(here)
            self.stacked[k] = Stacked(self.count, scan=scan, of=here)
        return True

    # -- what comes of it

    def last(self, own: Node) -> Node:
        """What the last iteration has made of what it carries."""
        operand = self._given[own]
        if not isinstance(operand, Before):
            return self.first_row(self._after[own]) if self.count == 1 else operand
        of = operand.of
        if of in self.totals:
            return self.totals[of]
        found = last_of(self.stacked[of]) if of in self.stacked else None
        if found is not None:
            return self.write_down.new("scan_last", found, self.classes[of].shape, self.classes[of])
        return self._row(self.operand(Own(of)), 0 if self.backwards else self.count - 1)

    def first_row(self, node: Node) -> Node:
        """What an iteration made of which there is but one."""
        return self._row(self.operand(self.known(node)), 0)

    def _row(self, value: Rows | Node, place: int) -> Node:
        if isinstance(value, Rows):
            return self.write_down.new("select", (value.node, 0, place), value.node.shape[1:], value.node)
        return value

    def rows_of(self, node: Node) -> Node:
        """All rows of something that an iteration has made, or got."""
        return self._rows(self.operand(self.known(node)))

    def total(self, node: Node) -> Node:
        """Their sum."""
        found: Node = self._total(self.operand(self.known(node)))
        return found

    def _total(self, value: Any) -> Any:
        if isinstance(value, Rows):
            return self.write_down.summed(value.node)
        if isinstance(value, Node):
            times = self.count if is_whole(value) else float(self.count)
            return self.write_down.new("mul", (value, times), value.shape, value)
        return value * self.count


def _is_among(operand: Any, members: Sequence[int]) -> bool:
    return isinstance(operand, (Own, Before)) and operand.of in members
