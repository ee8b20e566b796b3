"""Running sums and products along long axes as loops: each element is the one before it and one more.

The rule for `cumsum` adds up all elements before each one, which is the soonest for short axes that have no loops.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .arguments import leaves, mapped
from .graph import Graph, Node
from .lift import Writer
from .scan import Carry, Scan

LONG = 16
"""Shorter axes have no loops."""

STEP = {"cumsum": ("add", 0.0), "cumprod": ("mul", 1.0)}
"""What makes the next one, and where it begins."""


def with_loops(graph: Graph) -> Graph:
    """The graph with its long running sums as loops; the graph itself if it has none."""
    if not any(_is_long(node) for node in graph.nodes):
        return graph
    write, made = Writer(), dict[Node, Node]()

    def now(value: object) -> object:
        return made.get(value, value) if isinstance(value, Node) else value

    for node in graph.nodes:
        write.where = node.where
        args = tuple(mapped(now, argument) for argument in node.args)
        if _is_long(node):
            made[node] = _running(write, node, args[0])
        elif any(new is not old for new, old in zip(leaves(args), leaves(node.args), strict=True)):
            made[node] = replace(node, args=args)
            write.nodes.append(made[node])
        else:
            write.nodes.append(node)
    outputs = [made.get(node, node) for node in graph.outputs]
    return Graph(graph.inputs, outputs, write.nodes, graph.launches, graph.outside)


def _is_long(node: Node) -> bool:
    if node.op not in STEP or not node.shape or not node.dtype.is_floating_point:
        return False
    size: int = node.shape[node.args[1] % len(node.shape)]
    return size > LONG and node.args[0].dtype == node.dtype


def _running(write: Writer, node: Node, source: Node) -> Node:
    rank = len(node.shape)
    dim = node.args[1] % rank
    order = [dim, *(d for d in range(rank) if d != dim)]
    rows = write.permuted(source, order)
    op, start = STEP[node.op]
    count, shape = rows.shape[0], rows.shape[1:]
    before, row = (
        Node("input", (), shape, node.dtype, position=at, label=label) for at, label in enumerate(("before", "row"))
    )
    after = Node(op, (before, row, 1) if op == "add" else (before, row), shape, node.dtype, node.where)
    scan = Scan(count, False, [after], [Carry([before], after)], [row])
    first = torch.full(shape, start, dtype=node.dtype)
    baked = np.full(1, start, first.numpy().dtype)
    begin = Node("constant", (), shape, node.dtype, tensor=first, baked=baked, label=node.op, is_own=True)
    loop = Node("scan", ([begin], [rows], []), (), node.dtype, node.where, scan=scan)
    write.nodes.append(loop)
    found = write.new("scan_rows", (loop, scan.output(after)), (count + 1, *shape), node)
    back = sorted(range(rank), key=order.__getitem__)
    return write.permuted(write.sliced(found, 1, count + 1), back)
