"""Graphs and schedules in words, a line for each operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .graph import Graph, Node
from .in_turns import InTurns
from .plan import Accumulate, Nest, Plan
from .recurrences import Recurrence
from .scan import Scan

COMMENT_COLUMN = 64


def listing(graph: Graph) -> str:
    """What a step does: every operation with its arguments, its shape, and the caller's line."""
    names: dict[Node, str] = {}
    lines = [f"{_named(node, names, node.label)} = input {_shape(node)}" for node in graph.inputs]
    lines += _operations(graph.nodes, names)
    return "\n".join([*lines, f"return {', '.join(_text(node, names) for node in graph.outputs)}"]) + "\n"


def _operations(nodes: Sequence[Node], names: dict[Node, str]) -> Iterator[str]:
    for node in nodes:
        args = ", ".join(_text(arg, names) for arg in node.args)
        line = f"{_named(node, names, node.op.strip('_'))} = {node.op}({args}) {_shape(node) if not node.scan else ''}"
        yield f"{line:<{COMMENT_COLUMN}} # {node.where}" if node.where else line.rstrip()
        if node.scan is not None:
            yield from ("    " + line for line in _body(node.scan, names))


def _body(scan: Scan, names: dict[Node, str]) -> Iterator[str]:
    yield f"{scan.count} times{', from the last row to the first' if scan.backwards else ''}:"
    for carry in scan.carries:
        yield f"carried: {', '.join(_named(one, names, one.label) for one in carry.inputs)}"
    for what, inputs in (("a row each", scan.rows), ("the same", scan.same)):
        if inputs:
            yield f"{what}: {', '.join(_named(one, names, one.label) for one in inputs)}"
    yield from _operations(scan.body, names)
    for carry in scan.carries:
        yield f"next {names[carry.inputs[-1]]} = {_text(carry.next, names)}"
    if scan.outputs:
        yield f"rows of {', '.join(_text(node, names) for node in scan.outputs)}"


def _named(node: Node, names: dict[Node, str], stem: str) -> str:
    names[node] = f"%{len(names)}_{stem}"
    return names[node]


def _shape(node: Node) -> str:
    return f"{str(node.dtype).removeprefix('torch.')}{list(node.shape)}"


def _text(value: Any, names: dict[Node, str]) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(part, names) for part in value)}]"
    if not isinstance(value, Node):
        return str(value)
    if value.is_constant:
        known = value.baked is not None and value.baked.size == 1
        return f"{value.baked.flat[0]}" if known and value.baked is not None else f"{value.label}{list(value.shape)}"
    return names[value]


def planned(schedule: Plan) -> str:
    """The loop nests of a schedule: their axes, what each sums up or stores, and what lies in memory."""
    return "\n".join([*_nests(schedule), "", *_memories(schedule)]) + "\n"


def _nests(schedule: Plan) -> Iterator[str]:
    yield f"registers run along {schedule.samples} elements, {schedule.lanes} at a time"
    parts: list[Nest | Recurrence | InTurns] = [*schedule.nests, *schedule.recurrences, *schedule.in_turns]
    for part in sorted(parts, key=lambda part: part.level):
        if isinstance(part, Recurrence):
            scan = part.iteration.scan
            yield f"level {part.level}: {scan.count} iterations{' backwards' if scan.backwards else ''}"
            yield from ("    " + line for line in _nests(part.iteration))
            continue
        if not isinstance(part, Nest):
            yield f"level {part.level}: {part.node.op} {list(part.node.shape)}"
            continue
        axes = ", ".join(f"{axis}: {axis.size}" for axis in part.loops.order)
        yield f"level {part.level}: for {axes}" if axes else f"level {part.level}: no loop"
        for root in part.roots:
            if isinstance(root, Accumulate):
                yield f"    {root.kind} of {root.node.op}, {root.value.cost} operations"
            else:
                yield f"    {root.memory.name} is stored, {root.value.cost} operations"


def _memories(schedule: Plan) -> Iterator[str]:
    for memory in sorted(schedule.memories, key=lambda memory: (memory.region, memory.start)):
        where = f"{memory.region}[{memory.start}:{memory.start + memory.size}]"
        yield f"{where}: {memory.name} {list(memory.shape)}"
