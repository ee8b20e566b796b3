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

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .arguments import leaves, mapped
from .graph import Graph, Node
from .iterations import LEAST, Loop, Refused, loop_of, token
from .lift import Writer
from .rolling import Rolling
from .runs import Run, repeated
from .scan import Scan, every
from .splitting import Stacked

WORTH = 64
"""Operations that the largest loop must save: written out, short ones are fused with what stands around them."""

ALSO_WORTH = 8
"""Operations that others must save, where there is a loop in any case."""

MOST_PIECES = 6
"""Places that the rows of one operand may come from: more are copied about than a loop saves."""


def rerolled(graph: Graph, worth: int = WORTH) -> Graph:
    """The graph with loops where its nodes repeat themselves; the graph itself if they do not.

    Args:
        worth: how many operations the largest loop must save.
    """
    for node in graph.nodes:
        if node.scan is not None:  # written openly, as `written_loops` makes them
            _reroll_body(node.scan)
    refused: set[Run] = set()
    while len(graph.nodes) >= worth:
        try:
            new = Program(graph, refused, worth).rolled()
        except Refused as refusal:
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


# -- the new graph
# -------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Program:
    """A graph while it is written anew."""

    graph: Graph
    refused: set[Run]
    worth: int
    write: Writer = field(default_factory=Writer)
    made: dict[Node, Node] = field(default_factory=dict)  # of the old graph's nodes, those that are written alone
    places: dict[Node, list[tuple[Stacked, int]]] = field(default_factory=dict)  # and those that are rows
    last: dict[Node, tuple[Node, int]] = field(default_factory=dict)  # what a scan hands on last: its node, which

    def rolled(self) -> Graph | None:
        """The new graph, or None if nothing repeats itself."""
        nodes = self.graph.nodes
        at = {node: i for i, node in enumerate(nodes)}
        runs = [run for run in repeated(map(token, nodes), LEAST, ALSO_WORTH) if run not in self.refused]
        loops = [loop for run in runs if (loop := loop_of(nodes, at, run)) and loop.run.saved >= ALSO_WORTH]
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
                Rolling(self, loop, outside).write()
                place = loop.run.end
        outputs = [self.value(node) for node in self.graph.outputs]
        return Graph(
            self.graph.inputs, outputs, _needed(self.write.nodes, outputs), self.graph.launches, self.graph.outside
        )

    def _read_outside(self, loops: Sequence[Loop]) -> set[Node]:
        """The nodes of loops that somebody outside of their loop reads."""
        owner: dict[Node, Loop] = {}
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
                self.made[value] = self.write.new("select", (stacked.rows(self.write), 0, row), value.shape, value)
        return self.made[value]

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
                node = stacked.rows(self.write)
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

    def _stretch(self, values: Sequence[Node], at: int) -> tuple[Stacked | None, int, int, int]:
        """Where values from `at` on lie one after the other: the rows, the first of them, the direction, how many."""
        best: tuple[Stacked | None, int, int, int] = (None, 0, 1, 1)
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
