"""A traced step as the text of a kernel, which depends on the graph and not on the values of its constants.

Of these it knows only which columns are ones throughout.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from fastpoly_kernels.forking import new_lock

from .._errors import UnsupportedOperationError
from . import pointwise, rules
from .expressions import Memory
from .graph import Graph, Node
from .layout import Layout
from .numbers import Place, Seen, make_arguments, places_of_numbers
from .recursion import room_for
from .schedule import Schedule
from .survey import constants
from .trace import trace
from .whole_numbers import refuse_inexact_integers

REMEMBERED = 256
"""Texts kept in memory; one is some kilobytes."""

Kept = TypeVar("Kept")

Writer = Callable[[Graph, str, "int | None"], tuple[Schedule, str, Layout]]
"""write(graph, dtype, stop_at): the schedule of a graph for some machine, the text of its kernel, and where things
lie."""


@dataclass(frozen=True)
class Written:
    """What depends on the graph, not on the values of its constants.

    Attributes:
        text: the kernel.
        dtype: "float32" or "float64": what it computes in.
        layout: where things lie in its arrays.
        data: for each constant in memory, its position among the graph's constants, and where it lies.
        inputs, results: the shapes of what a step takes and, beside the successors of that, gives.
        dtypes: of the results; in the kernel all are floats.
        cycles: about how many a step takes.
    """

    text: str
    dtype: str
    layout: Layout
    data: tuple[tuple[int, Memory], ...]
    inputs: tuple[tuple[int, ...], ...]
    results: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    cycles: float


_known: OrderedDict[Any, Written] = OrderedDict()
_seen: OrderedDict[Any, Seen] = OrderedDict()
_lock = new_lock()


def traced(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None,
    write: Writer,
) -> tuple[Written, list[torch.Tensor]]:
    """Trace a step and write its kernel, or find it written.

    Args:
        function: takes tensors like `inputs`, returns their successors and then whatever else a step gives.
        inputs: tensors of one float dtype.
        names: what to call constants in the text, by the id of the tensor.
        stop_at: the result (counted after the successors) that ends a run when it is not finite.
        write: for which machine; it is the same object for the same machine.

    Returns:
        What was written, and the constants that its `data` counts.

    Raises:
        UnsupportedOperationError: it cannot be fused.
    """
    graph = _graph(function, inputs, names)
    known = constants(graph)
    dtype = _one_dtype(graph)
    refuse_inexact_integers(graph, dtype)  # by the values of constants, too
    numbers = places_of_numbers(graph, known)
    alike = (_signature(graph, known, numbers), dtype, stop_at, write)
    values = tuple(numbers.values())
    with _lock:
        seen = _remembered(_seen, alike, lambda: Seen(values))
        seen.also(values)
        changing = seen.changing
        key = (alike, tuple(None if i in changing else value for i, value in enumerate(values)))
        written = _known.get(key)
        if written is not None:
            _known.move_to_end(key)
    if written is None:
        _refuse_unsteady(graph, known, _graph(function, inputs, names))
    if changing:
        make_arguments((place for i, place in enumerate(numbers) if i in changing), graph.inputs[0].dtype)
        known = constants(graph)
    if written is None:
        with room_for(len(graph.nodes)):
            made = _written(graph, known, dtype, stop_at, write)
        with _lock:
            written = _remembered(_known, key, lambda: made)
    return written, [node.tensor for node in known if node.tensor is not None]


def _remembered(known: OrderedDict[Any, Kept], key: Any, make: Callable[[], Kept]) -> Kept:
    """known[key], made if it is not there; what was asked for longest ago gives way."""
    if key not in known:
        known[key] = make()
    known.move_to_end(key)
    while len(known) > REMEMBERED:
        known.popitem(last=False)
    return known[key]


def _written(graph: Graph, known: list[Node], dtype: str, stop_at: int | None, write: Writer) -> Written:
    schedule, text, layout = write(graph, dtype, stop_at)
    position = {node: i for i, node in enumerate(known)}
    return Written(
        text,
        dtype,
        layout,
        tuple((position[node], memory) for node, memory in schedule.data()),
        tuple(node.shape for node in graph.inputs),
        tuple(node.shape for node in graph.outputs[len(graph.inputs) :]),
        tuple(node.dtype for node in graph.outputs[len(graph.inputs) :]),
        schedule.cycles,
    )


def _graph(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
) -> Graph:
    try:
        return trace(function, inputs, pointwise.TABLE, rules.TABLE, names)
    except UnsupportedOperationError:
        raise
    except Exception as error:
        function([tensor.clone() for tensor in inputs])  # a mistake of the caller's is told in torch's own words
        raise UnsupportedOperationError(
            f"the step cannot be traced: {type(error).__name__}: {error}. Way out: backend='eager'"
        ) from error


def _refuse_unsteady(graph: Graph, known: list[Node], again: Graph) -> None:
    """Raise if the same step has another graph the second time: what Python changed meanwhile would be baked in.

    Once is enough: what changes always is found the first time, and a graph that was seen before is not new.
    """
    others = constants(again)
    if _signature(graph, known, ()) != _signature(again, others, ()) or any(
        one.is_own and _bytes(one) != _bytes(other) for one, other in zip(known, others, strict=True)
    ):
        raise UnsupportedOperationError(
            "the loss does something else when it is called again: it depends on what Python changes meanwhile (random "
            "numbers, a counter). Way out: pass what changes as data or keep it in the params, or backend='eager'"
        )


def _signature(graph: Graph, known: list[Node], numbers: Container[Place]) -> tuple[Any, ...]:
    """Equal for graphs that differ in nothing but the values of their constants, and the numbers at these places."""
    number: dict[Node, int] = {}

    def described(value: Any) -> Any:
        if isinstance(value, Node):
            return ("node", number[value])
        if isinstance(value, (list, tuple)):
            return tuple(described(part) for part in value)
        return repr(value)

    parts: list[Any] = []
    for node in (*graph.inputs, *known, *graph.nodes):
        number[node] = len(number)
        baked: Any = None if node.baked is None else (node.baked.shape, node.baked.tobytes())
        if (node, -1) in numbers:
            baked = "number"
        args = tuple("number" if (node, i) in numbers else described(a) for i, a in enumerate(node.args))
        place = None if node.tensor is None else (node.tensor.stride(), described(node.view_of or ()))
        names = (node.label, node.where)
        parts.append((node.op, node.shape, str(node.dtype), args, baked, place, node.ones, *names))
    parts.append(described(graph.outputs))
    return tuple(parts)


def _one_dtype(graph: Graph) -> str:
    found = {node.dtype: node for node in (*graph.nodes[::-1], *graph.inputs) if node.dtype.is_floating_point}
    wrong = [node for dtype, node in found.items() if dtype not in (torch.float32, torch.float64)]
    wrong += [node for node in graph.nodes if node.dtype.is_complex]
    if len(found) > 1:
        wrong += [node for dtype, node in found.items() if dtype != graph.inputs[0].dtype]
    if wrong:
        node = wrong[0]
        place = f" in {node.where} ({node.where.text})" if node.where else ""
        raise UnsupportedOperationError(
            f"{node.op}{place} cannot be fused: it gives {node.dtype} in a step that computes in "
            f"{graph.inputs[0].dtype}. Way out: convert the data to that dtype beforehand, or backend='eager'"
        )
    return str(graph.inputs[0].dtype).removeprefix("torch.")


def _bytes(node: Node) -> bytes:
    assert node.tensor is not None
    return node.tensor.cpu().numpy().tobytes()
