"""Equal iterations of a Python loop, which a trace has unrolled, become a loop again; and that is taken apart.

1. *Runs*: stretches of the trace in which every operation is that of a period before (`runs`), forward and backward.
2. *Classes*: the equal operations of a run's iterations. Of each operand is found out what an iteration gets: its own
   value of another class, what a class had some iterations before (carried), the same value as all, or a row of what
   lies outside.
3. *Split*: only classes that need each other around a circle are truly serial. Each such circle becomes a loop of its
   own, a `Scan`; where it only adds up, a sum over rows. All other classes become one operation on rows, with a new
   first dimension: to everything that follows they are tensors like others, which registers can run along.

Rows lie in the order of the forward loop for backward ones, too, whose loops then run from the last row to the first:
so both read them in one direction. Nothing is computed that the trace did not compute, but for sums in another order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from . import pointwise
from .arguments import leaves, mapped
from .constants import BAKED
from .graph import Graph, Node
from .lift import Rows, Writer, lifted
from .runs import Run, components, repeated
from .scan import Carry, Scan, every

LEAST = 8
"""Iterations that make a loop."""

WORTH = 64
"""Operations that the largest loop must save: written out, short ones are fused with what stands around them."""

ALSO_WORTH = 8
"""Operations that others must save, where there is a loop in any case."""

MOST_PIECES = 6
"""Places that the rows of one operand may come from: more are copied about than a loop saves."""


MOST_SEARCHED = 100_000
"""Numbers that are looked at to find those that belong to a place: more are written out."""


def rerolled(graph: Graph, worth: int = WORTH) -> Graph:
    """The graph with loops where its nodes repeat themselves; the graph itself if they do not.

    Args:
        worth: how many operations the largest loop must save.
    """
    refused: set[Run] = set()
    while len(graph.nodes) >= worth:
        try:
            new = _Program(graph, refused, worth).rolled()
        except _Refused as refusal:
            refused.add(refusal.run)
            continue
        # what is read one by one again is no loop
        if new is None or len(list(every(new.nodes))) + ALSO_WORTH > len(list(every(graph.nodes))):
            return graph
        for node in new.nodes:
            if node.scan is not None:
                _reroll_body(node.scan)
        graph, worth, refused = new, ALSO_WORTH, set()
    return graph


def _reroll_body(scan: Scan) -> None:
    """Loops within a loop."""
    wanted = [*(carry.next for carry in scan.carries), *scan.outputs]
    new = rerolled(Graph(scan.inputs, wanted, scan.body))
    scan.body = new.nodes
    instead = dict(zip(wanted, new.outputs, strict=True))
    for carry in scan.carries:
        carry.next = instead[carry.next]
    scan.outputs = [instead[node] for node in scan.outputs]


class _Refused(Exception):  # noqa: N818 - a run that stays unrolled is no error
    def __init__(self, run: Run) -> None:
        super().__init__(str(run))
        self.run = run


# -- what an operand is, seen from one iteration
# ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Own:
    """What class `of` has made in the same iteration."""

    of: int


@dataclass(frozen=True, eq=False)
class _Before:
    """What class `of` has made len(starts) iterations before; `starts` for the first ones, the oldest first."""

    of: int
    starts: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class _Each:
    """A node or a number of its own for each iteration."""

    values: tuple[Any, ...]


@dataclass(eq=False)
class _Loop:
    """A run, as far as its iterations read alike.

    Attributes:
        run: of the graph's nodes.
        found: the run that it was found as.
        classes: for each the first iteration's node, in order.
        operands: for each class what its arguments are, in the order of `leaves`: one of the above, or what is the same
            for all.
        backwards: are its rows in the order of the last iteration first?
    """

    run: Run
    found: Run
    classes: list[Node]
    operands: list[list[Any]]
    backwards: bool = False

    @property
    def count(self) -> int:
        """How many iterations."""
        return self.run.times

    def row(self, iteration: int) -> int:
        """Where an iteration's row lies; rows of iterations before the first one lie beyond the end."""
        return self.count - 1 - iteration if self.backwards else iteration


def _token(node: Node) -> tuple[Any, ...]:
    """What operations must agree in to be the same one of two iterations. Numbers may differ."""
    return node.op, node.shape, node.dtype, *map(_form, node.args)


def _form(value: Any) -> Any:
    if isinstance(value, Node):
        return "node"
    if isinstance(value, (list, tuple)):
        return tuple(map(_form, value))
    return "number" if type(value) in (int, float) else repr(value)


def _loop(nodes: Sequence[Node], at: dict[Node, int], run: Run) -> _Loop | None:
    """The longest part of a run in which all iterations read alike."""
    start, period, count = run
    end = run.end
    reads = [list(leaves(node.args)) for node in nodes[start:end]]

    def read_by(iteration: int) -> tuple[Any, ...]:
        """For each operand that is a node: how many iterations back, and the class; None for one from outside."""
        found: list[Any] = []
        for own in reads[iteration * period : (iteration + 1) * period]:
            for leaf in own:
                if isinstance(leaf, Node):
                    place = at.get(leaf, -1)
                    inside = start <= place < end
                    found.append((iteration - (place - start) // period, (place - start) % period) if inside else None)
        return tuple(found)

    seen = [read_by(k) for k in range(count)]
    names: dict[Any, int] = {}
    alike = [names.setdefault(one, len(names)) for one in seen]
    first, most, begun = 0, 0, 0
    for k in range(1, count + 1):
        if k == count or alike[k] != alike[begun]:
            if k - begun > most:
                first, most = begun, k - begun
            begun = k
    last = first + most
    first = _with_starts(nodes, run, seen, reads, first)
    if last - first < LEAST:
        return None
    classes = list(nodes[start + first * period : start + (first + 1) * period])
    operands = []
    place = 0
    for j in range(period):
        over = [reads[k * period + j] for k in range(first, last)]
        own: list[Any] = []
        for values in zip(*over, strict=True):
            back = None
            if isinstance(values[0], Node):
                back = seen[last - 1][place]
                place += 1
            if isinstance(values[0], Node) and len({(value.shape, value.dtype) for value in values}) > 1:
                return None  # constants that broadcast differently
            own.append(_operand(values, back))
        operands.append(own)
    return _Loop(Run(start + first * period, period, last - first), run, classes, operands)


def _with_starts(
    nodes: Sequence[Node], run: Run, seen: list[tuple[Any, ...]], reads: list[list[Any]], first: int
) -> int:
    """The iterations before that read the same, but what loops begin with where later ones read what was carried."""
    start, period, _ = run
    wanted = seen[first]
    for more in sorted({back[0] for back in wanted if back} - {0} | {1}, reverse=True):

        def fits(iteration: int, begun: int) -> bool:
            own = (leaf for r in reads[iteration * period : (iteration + 1) * period] for leaf in r)
            operands = [leaf for leaf in own if isinstance(leaf, Node)]
            for back, want, operand in zip(seen[iteration], wanted, operands, strict=True):
                if back == want:
                    continue
                if not want or want[0] <= iteration - begun:  # it should have been made within the loop
                    return False
                if back is not None and back[0] <= iteration - begun:
                    return False
                like = nodes[start + want[1]]
                if (operand.shape, operand.dtype) != (like.shape, like.dtype):
                    return False
            return True

        if first >= more and all(
            len(seen[k]) == len(wanted) and fits(k, first - more) for k in range(first - more, first)
        ):
            return first - more
    return first


def _operand(values: Sequence[Any], back: tuple[int, int] | None) -> Any:
    if back is not None:
        return _Before(back[1], tuple(values[: back[0]])) if back[0] else _Own(back[1])
    first = values[0]
    if all(value is first for value in values):
        return first
    if isinstance(first, Node):
        return first if all(_same_constant(first, value) for value in values) else _Each(tuple(values))
    return first if len({repr(value) for value in values}) == 1 else _Each(tuple(values))


def _same_constant(one: Node, other: Node) -> bool:
    if one.baked is None or other.baked is None or (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return one.baked.shape == other.baked.shape and one.baked.tobytes() == other.baked.tobytes()


# -- the new graph
# -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Stacked:
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
    whole: _Stacked | None = None
    low: int = 0


@dataclass(eq=False)
class _Program:
    """A graph while it is written anew."""

    graph: Graph
    refused: set[Run]
    worth: int
    write: Writer = field(default_factory=Writer)
    made: dict[Node, Node] = field(default_factory=dict)  # of the old graph's nodes, those that are written alone
    places: dict[Node, list[tuple[_Stacked, int]]] = field(default_factory=dict)  # and those that are rows
    last: dict[Node, tuple[Node, int]] = field(default_factory=dict)  # what a scan hands on last: its node, which

    def rolled(self) -> Graph | None:
        """The new graph, or None if nothing repeats itself."""
        nodes = self.graph.nodes
        at = {node: i for i, node in enumerate(nodes)}
        runs = [run for run in repeated(map(_token, nodes), LEAST, ALSO_WORTH) if run not in self.refused]
        loops = [loop for run in runs if (loop := _loop(nodes, at, run)) and loop.run.saved >= ALSO_WORTH]
        loops = [
            loop for loop in loops if all(n.dtype.is_floating_point or n.dtype == torch.bool for n in loop.classes)
        ]
        if max((loop.run.saved for loop in loops), default=0) < self.worth:
            return None
        begins = {loop.run.start: loop for loop in loops}
        outside = self._read_outside(loops)
        for node in self.graph.inputs:
            self.made[node] = node
        place = 0
        while place < len(nodes):
            loop = begins.get(place)
            if loop is None:
                self._alone(nodes[place])
                place += 1
            else:
                _Rolling(self, loop, outside).write()
                place = loop.run.end
        outputs = [self.value(node) for node in self.graph.outputs]
        return Graph(self.graph.inputs, outputs, _needed(self.write.nodes, outputs), self.graph.launches)

    def _read_outside(self, loops: Sequence[_Loop]) -> set[Node]:
        """The nodes of loops that somebody outside of their loop reads."""
        owner: dict[Node, _Loop] = {}
        for loop in loops:
            owner.update(dict.fromkeys(self.graph.nodes[loop.run.start : loop.run.end], loop))
        found = {leaf for leaf in self.graph.outputs if leaf in owner}
        for node in self.graph.nodes:
            own = owner.get(node)
            for leaf in leaves(node.args):
                if isinstance(leaf, Node) and leaf in owner and owner[leaf] is not own:
                    found.add(leaf)
        return found

    def _alone(self, node: Node) -> None:
        """A node that is in no loop."""
        self.write.where = node.where
        if node.op in ("stack", "cat") and len(node.args[0]) >= LEAST and self._joined(node):
            return
        args = tuple(mapped(self.value, arg) for arg in node.args)
        if all(new is old for new, old in zip(leaves(args), leaves(node.args), strict=True)):
            self.made[node] = node
            self.write.nodes.append(node)
            return
        new = Node(node.op, args, node.shape, node.dtype, node.where, scan=node.scan)
        self.made[node] = new
        self.write.nodes.append(new)

    def _joined(self, node: Node) -> bool:
        """Take what a loop has made from where it lies in rows already."""
        parts = node.args[0]
        if len({part.shape for part in parts}) > 1 or not any(part in self.places for part in parts):
            return False
        rows = self.rows(parts)
        if rows is None:
            return False
        dim = (node.args[1] or 0) % len(node.shape)
        moved = self.write.permuted(rows, [*range(1, dim + 1), 0, *range(dim + 1, len(rows.shape))])
        self.made[node] = self.write.reshaped(moved, node.shape)
        return True

    def value(self, value: Any) -> Any:
        """What an old node is now, by itself; anything else as it is."""
        if not isinstance(value, Node) or value.is_constant:
            return value
        if value not in self.made:
            if value in self.last:
                self.made[value] = self.write.new("scan_last", self.last[value], value.shape, value)
            else:
                stacked, row = self.places[value][0]
                self.made[value] = self.write.new("select", (self.stack(stacked), 0, row), value.shape, value)
        return self.made[value]

    def stack(self, stacked: _Stacked) -> Node:
        """The rows."""
        if stacked.node is None and stacked.whole is not None:
            stacked.node = self.write.sliced(self.stack(stacked.whole), stacked.low, stacked.low + stacked.count)
        elif stacked.node is None:
            scan, of = stacked.scan, stacked.of
            assert scan is not None
            assert scan.scan is not None
            assert of is not None
            shape = (stacked.count, *of.shape)
            stacked.node = self.write.new("scan_rows", (scan, scan.scan.output(of)), shape, of)
        return stacked.node

    # -- rows of old nodes

    def rows(self, values: Sequence[Node]) -> Node | None:
        """One node with these as its rows, or None if they lie in too many places."""
        pieces: list[Node] = []
        alone: list[Node] = []

        def finish() -> None:
            if alone:
                pieces.append(self._stacked(alone))
                alone.clear()

        at = 0
        while at < len(values):
            stacked, row, step, length = self._stretch(values, at)
            if stacked is not None and length > 1:
                finish()
                node = self.stack(stacked)
                low, high = (row, row + length) if step > 0 else (row - length + 1, row + 1)
                part = self.write.sliced(node, low, high)
                pieces.append(part if step > 0 else self.write.flipped(part))
                at += length
                continue
            same = at + 1
            while same < len(values) and values[same] is values[at]:
                same += 1
            if same - at >= LEAST:
                finish()
                pieces.append(self.write.expanded(self.value(values[at]), same - at))
                at = same
                continue
            alone.append(values[at])
            at += 1
        finish()
        if len(pieces) > MOST_PIECES:
            return None
        if len(pieces) == 1:
            return pieces[0]
        return self.write.new("cat", (pieces, 0), (len(values), *values[0].shape), values[0])

    def _stretch(self, values: Sequence[Node], at: int) -> tuple[_Stacked | None, int, int, int]:
        """Where values from `at` on lie one after the other: the rows, the first of them, the direction, how many."""
        best: tuple[_Stacked | None, int, int, int] = (None, 0, 1, 1)
        for stacked, row in self.places.get(values[at], ()):
            for step in (1, -1):
                length = 1
                while at + length < len(values) and any(
                    other is stacked and place == row + step * length
                    for other, place in self.places.get(values[at + length], ())
                ):
                    length += 1
                if length > best[3]:
                    best = (stacked, row, step, length)
        return best

    def _stacked(self, values: Sequence[Node]) -> Node:
        """Rows that lie nowhere yet."""
        first = values[0]
        if all(value.is_constant for value in values):
            tensors = [_tensor(value) for value in values]
            shape = (len(values), *first.shape)
            label, own = first.label, all(value.is_own for value in values)
            return Node("constant", (), shape, first.dtype, tensor=torch.stack(tensors), label=label, is_own=own)
        return self.write.new("stack", ([self.value(v) for v in values], 0), (len(values), *first.shape), first)


def _tensor(constant: Node) -> torch.Tensor:
    assert constant.tensor is not None
    return constant.tensor


def _needed(nodes: Sequence[Node], outputs: Sequence[Node]) -> list[Node]:
    """Those of `nodes` that the outputs are computed from."""
    wanted: set[Node] = set(outputs)
    kept = []
    for node in reversed(nodes):
        if node in wanted:
            kept.append(node)
            wanted.update(leaf for leaf in leaves(node.args) if isinstance(leaf, Node))
    return kept[::-1]


class _Rolling:
    """One loop while it is written."""

    def __init__(self, program: _Program, loop: _Loop, outside: set[Node]) -> None:
        self.program = program
        self.write_down = program.write
        self.loop = loop
        self.outside = outside
        self.nodes = program.graph.nodes
        self.stacked: dict[int, _Stacked] = {}  # of the classes that are written
        loop.backwards = self._reads_backwards()

    def write(self) -> None:
        """All classes, each circle of them after what it needs."""
        edges = [[operand.of for operand in own if isinstance(operand, (_Own, _Before))] for own in self.loop.operands]
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
        for operand in (operand for own in self.loop.operands for operand in own if isinstance(operand, _Each)):
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
        if isinstance(operand, _Own):
            if operand.of not in self.stacked:
                raise _Refused(self.loop.found)
            return Rows(self.program.stack(self.stacked[operand.of]))
        if isinstance(operand, _Before):
            values = [*operand.starts, *self.over(operand.of)][: self.loop.count]
            return Rows(self._rows_of(values))
        if isinstance(operand, _Each):
            if isinstance(operand.values[0], Node):
                return Rows(self._rows_of(operand.values))
            return Rows(self._numbers(operand.values))
        return self.program.value(operand)

    def _rows_of(self, values: Sequence[Node]) -> Node:
        rows = self.program.rows(self._in_rows(values))
        if rows is None:
            raise _Refused(self.loop.found)
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
        return [i for i, o in own if isinstance(o, _Each) and not isinstance(o.values[0], Node)]

    # -- one operation on rows

    def _lift(self, j: int) -> bool:
        """Write a class as one operation on rows, if there is a rule for it."""
        node = self.loop.classes[j]
        numbers = self._differ_by_number(j)
        if numbers and not _takes_numbers_of_rows(node):
            if (node.op == "select" and numbers == [2]) or (node.op == "slice" and numbers == [2, 3]):
                return self._lift_parts(j)
            if any(one in self.outside for one in self.over(j)):
                raise _Refused(self.loop.found)
            return node.op == "select_backward"  # see `_add_up`
        args = self._arguments(j, self.operand)
        if not any(isinstance(leaf, Rows) for leaf in leaves(args)):  # numbers alone, or nothing
            self.stacked[j] = _Stacked(self.loop.count, self.write_down.expanded(self._once(j, args), self.loop.count))
        else:
            new = lifted(self.write_down, node, args, self.loop.count)
            if new is None:
                return False
            self.stacked[j] = _Stacked(self.loop.count, new)
        self._register(j)
        return True

    def _once(self, j: int, args: Sequence[Any]) -> Node:
        node = self.loop.classes[j]
        self.write_down.where = node.where
        return self.write_down.new(node.op, args, node.shape, node)

    def _lift_parts(self, j: int) -> bool:
        """Elements 0, 1, 2, ... of something along a dimension are its rows, and so are slices one after the other."""
        source, dim, index = self.loop.operands[j][:3]
        if isinstance(source, (_Own, _Before, _Each)):
            raise _Refused(self.loop.found)
        of = self.program.value(source)
        dim %= len(of.shape)
        size, shape = of.shape[dim], self.loop.classes[j].shape
        length = shape[dim] if self.loop.classes[j].op == "slice" else 1
        at = [i % size if i < 0 else i for i in self._in_rows(index.values)]
        low, step = _evenly(at)
        if length > 1 and (abs(step) != length or self.loop.operands[j][4:] != [1]):
            raise _Refused(self.loop.found)
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
        self.stacked[j] = _Stacked(count, rows if step >= 0 else self.write_down.flipped(rows))
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
        carried = [o.of for j in members for o in operands[j] if isinstance(o, _Before) and o.of in members]
        if len(carried) != 1 or any(classes[j].op != "add" or operands[j][2:] != [1] for j in members):
            return False
        last = carried[0]
        terms: list[Any] = []
        for j in members:
            inside = [isinstance(o, (_Own, _Before)) and o.of in members for o in operands[j][:2]]
            if inside.count(True) != 1:
                return False
            terms.append(operands[j][inside.index(False)])
        if any(self._is_read(j, members) for j in members) or any(
            node in self.outside for j in members for node in self.over(j) if j != last
        ):
            return False
        if any(node in self.outside for node in self.over(last)[:-1]):
            return False
        (before,) = (o for j in members for o in operands[j] if isinstance(o, _Before) and o.of == last)
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
            isinstance(operand, (_Own, _Before)) and operand.of == j
            for other, own in enumerate(self.loop.operands)
            if other not in members
            for operand in own
        )

    def _sum(self, term: Any, total: Node) -> Any:
        """The sum of an operand over all iterations."""
        count = self.loop.count
        if isinstance(term, _Own) and self._differ_by_number(term.of) and term.of not in self.stacked:
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
        if not isinstance(index, _Each) or not isinstance(dim, int):
            raise _Refused(self.loop.found)
        dim %= len(node.shape)
        size, count = node.shape[dim], self.loop.count
        at = [i % size for i in self._in_rows(index.values)]
        low, step = _evenly(at)
        operand = self.operand(gradient)
        rows = operand.node if isinstance(operand, Rows) else self.write_down.expanded(operand, count)
        order = [*range(1, dim + 1), 0, *range(dim + 1, len(node.shape))]
        if abs(step) != 1:  # any places: each row of the result is the sum of those that belong there
            if count * math.prod(node.shape) > MOST_SEARCHED:
                raise _Refused(self.loop.found)
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
            raise _Refused(loop.found)
        scan = Scan(loop.count, loop.backwards)
        starts: list[Node] = []
        outer_rows: list[Node] = []
        outer_same: list[Node] = []
        body: dict[int, Node] = {}
        inputs: dict[Any, Node] = {}
        carried: list[tuple[_Before, list[Node]]] = []

        def given(key: Any, like: Node, shape: Sequence[int], into: list[Node]) -> Node:
            label = like.label or like.op
            inputs[key] = Node("input", (), tuple(shape), like.dtype, position=len(inputs), label=label)
            into.append(inputs[key])
            return inputs[key]

        def carry(operand: _Before) -> Node:
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
            if isinstance(operand, _Own) and operand.of in members:
                return body[operand.of]
            if isinstance(operand, _Before) and operand.of in members:
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
        whole = _Stacked(count + len(starts), scan=scan_node, of=of)
        for row, node in enumerate(self._in_rows([*starts, *self.over(j)])):
            if not node.is_constant:
                places.setdefault(node, []).append((whole, row))
        self.stacked[j] = whole
        if starts:
            self.stacked[j] = _Stacked(count, whole=whole, low=0 if self.loop.backwards else len(starts))
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
    return node.op in pointwise.TABLE
