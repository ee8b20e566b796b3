"""A traced graph, run by torch operation by operation: what a kernel of it should give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fastpoly._fuse.arguments import mapped
from fastpoly._fuse.graph import Graph, Node
from fastpoly._fuse.scan import Scan


def interpreted(graph: Graph, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What the graph's outputs are."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    _run(graph.nodes, values)
    return [_value(node, values) for node in graph.outputs]


def _value(value: Any, values: dict[Node, Any]) -> Any:
    if not isinstance(value, Node):
        return value
    if value.is_constant:
        return value.tensor
    return values[value]


def _run(nodes: Sequence[Node], values: dict[Node, Any]) -> None:
    for node in nodes:
        args = [mapped(lambda a: _value(a, values), arg) for arg in node.args]
        if node.op == "scan":
            assert node.scan is not None
            values[node] = _scanned(node.scan, *args)
        elif node.op in ("scan_rows", "scan_last"):
            values[node] = args[0][node.op == "scan_last"][args[1]]
        else:
            values[node] = _called(node.op, args)
            assert tuple(values[node].shape) == node.shape, node
            assert values[node].dtype == node.dtype, node


def _scanned(scan: Scan, starts: list[Any], rows: list[Any], same: list[Any]) -> tuple[list[Any], list[Any]]:
    """The rows of the outputs, and their last values."""
    states, rest = [], list(starts)
    states.extend([rest.pop(0) for _ in carry.inputs] for carry in scan.carries)
    kept: list[list[Any]] = [[] for _ in scan.outputs]
    begun = [list(states[i]) for i in range(len(states))]
    for k in range(scan.count):
        at = scan.count - 1 - k if scan.backwards else k
        values: dict[Node, Any] = dict(zip(scan.rows, (row[at] for row in rows), strict=True))
        values.update(zip(scan.same, same, strict=True))
        for carry, state in zip(scan.carries, states, strict=True):
            values.update(zip(carry.inputs, state, strict=True))
        _run(scan.body, values)
        for carry, state in zip(scan.carries, states, strict=True):
            state.append(values[carry.next])
            state.pop(0)
        for one, node in zip(kept, scan.outputs, strict=True):
            one.append(values[node])
    stacked = []
    for one, node in zip(kept, scan.outputs, strict=True):
        own = next((b for b, c in zip(begun, scan.carries, strict=True) if c.next is node), [])
        every = [*own, *one]
        stacked.append(torch.stack(every[::-1] if scan.backwards else every))
    return stacked, [state[-1] for state in states]


def _called(op: str, args: list[Any]) -> Any:
    """The operation with arguments in the order of its schema, of whichever overload takes so many of these kinds."""
    of, name = op.split("::") if "::" in op else ("aten", op)
    packet = getattr(getattr(torch.ops, of), name)
    errors = []
    for name in packet.overloads():
        overload = getattr(packet, name)
        arguments = overload._schema.arguments
        if len(arguments) != len(args) or any(a.is_out for a in arguments):
            continue
        positional = [v for a, v in zip(arguments, args, strict=True) if not a.kwarg_only]
        keywords = {a.name: v for a, v in zip(arguments, args, strict=True) if a.kwarg_only}
        try:
            return overload(*positional, **keywords)
        except (RuntimeError, TypeError) as error:
            errors.append(error)
    try:
        return packet(*args)
    except Exception as error:
        raise AssertionError(f"{op}{args}: {error} {errors}") from error
