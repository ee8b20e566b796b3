"""A traced step as a kernel, which depends on the graph and not on the values of its constants.

Of these it knows only which columns are ones throughout.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from fastpoly_kernels.forking import new_lock
from fastpoly_kernels.log import stage

from .._errors import UnsupportedOperationError
from .._lazy import lazy
from .counters import Counts, take_counters
from .expressions import Memory
from .graph import Graph, Node
from .ir import Kernel
from .layout import Layout
from .listing import listing, planned
from .numbers import Place, Seen, make_arguments, places_of_numbers
from .recursion import room_for
from .reroll import rerolled
from .running import with_loops
from .scan import Scan, every
from .schedule import Schedule
from .stages import show
from .survey import constants, kernel_dtype
from .to_python import to_python
from .to_triton import to_triton
from .trace import trace
from .whole_inputs import Ranges, ranges

MOST_LINES = 20_000
"""Of a kernel, at up to 15 ms a line: five minutes of compiling."""

HEAD = 13
"""Lines of a page before its statements: what it imports, and what its arguments are."""

REMEMBERED = 256
"""Kernels kept in memory: 0.1 to 1 MB each."""

Kept = TypeVar("Kept")

Writer = Callable[[Graph, str, "int | None"], tuple[Schedule, Kernel, Layout]]
"""write(graph, dtype, stop_at): the schedule of a graph for some machine, its kernel, and where things lie."""


@dataclass(frozen=True)
class Written:
    """What depends on the graph, not on the values of its constants.

    Attributes:
        code: the kernel.
        dtype: "float32" or "float64": what it computes in.
        layout: where things lie in its arrays.
        data: for each constant in memory, its position among the graph's constants, and where it lies.
        inputs, results: the shapes of what a step takes and, beside the successors of that, gives.
        input_dtypes, dtypes: of the inputs and of the results; in the kernel all are floats.
        starts: where inputs may start that are whole numbers.
        counts: by how much others of them grow in each step, which the kernel leaves as they are.
        cycles: about how many a step takes.
        nests: for each loop nest how often its body is run for one element of the axis that registers run along, how
            long that axis is (1 if the nest has none), and how many operations the body is.
    """

    code: Kernel
    dtype: str
    layout: Layout
    data: tuple[tuple[int, Memory], ...]
    inputs: tuple[tuple[int, ...], ...]
    results: tuple[tuple[int, ...], ...]
    input_dtypes: tuple[torch.dtype, ...]
    dtypes: tuple[torch.dtype, ...]
    starts: Ranges
    counts: Counts
    cycles: float
    nests: tuple[tuple[int, int, int], ...]

    @lazy
    def text(self) -> str:
        """The kernel as a page to be read; printed when it is asked for."""
        return to_triton(self.code) if self.code.warps else to_python(self.code)

    def page(self) -> str:
        """That text."""
        return self.text

    @property
    def lines(self) -> int:
        """How long that page is, about."""
        return self.code.statements + HEAD


_known: OrderedDict[Any, Written] = OrderedDict()
_seen: OrderedDict[Any, Seen] = OrderedDict()
_lock = new_lock()


@dataclass(frozen=True, eq=False)
class Reading:
    """A step as it was read once.

    Attributes:
        graph: what it does.
        known: the constants of the graph, in the order of their use.
        signature: equal for graphs that differ in nothing but the values of their constants, and their numbers.
        numbers: those that are part of the kernel, in words; None for those that are among the constants.
    """

    graph: Graph
    known: list[Node]
    signature: tuple[Any, ...]
    numbers: tuple[str | None, ...]

    @property
    def constants(self) -> list[torch.Tensor]:
        """Those of `known` that have values, which `Written.data` counts."""
        return [node.tensor for node in self.known if node.tensor is not None]


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
    reading = read(function, inputs, names, stop_at)
    written = found(reading, stop_at, write)
    if written is None:
        written = written_anew(reading, stop_at, write)
    return written, reading.constants


def read(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None = None,
) -> Reading:
    """Trace a step. Arguments and errors as for `traced`."""
    graph = _graph(function, inputs, names, stop_at)
    known = constants(graph)
    numbers = places_of_numbers(graph, known)
    signature, values = _signature(graph, known, numbers), tuple(numbers.values())
    with _lock:
        seen = _remembered(_seen, signature, lambda: Seen(values))
        seen.also(values)
        changing = seen.changing
    make_arguments((place for i, place in enumerate(numbers) if i in changing), kernel_dtype(graph))
    baked = tuple(None if i in changing else value for i, value in enumerate(values))
    return Reading(graph, constants(graph), signature, baked)


def found(reading: Reading, stop_at: int | None, write: Writer) -> Written | None:
    """The kernel of a step, if this process has written it before."""
    key = (reading.signature, reading.numbers, _one_dtype(reading.graph), stop_at, write)
    ranges(reading.graph, key[2])  # by the values of constants, too
    with _lock:
        written = _known.get(key)
        if written is not None:
            _known.move_to_end(key)
    return written


def written_anew(reading: Reading, stop_at: int | None, write: Writer) -> Written:
    """Write the kernel of a step, and remember it."""
    key = (reading.signature, reading.numbers, _one_dtype(reading.graph), stop_at, write)
    with room_for(len(reading.graph.nodes)):
        written = _written(reading.graph, reading.known, key[2], stop_at, write)
    with _lock:
        return _remembered(_known, key, lambda: written)


def _remembered(known: OrderedDict[Any, Kept], key: Any, make: Callable[[], Kept]) -> Kept:
    """known[key], made if it is not there; what was asked for longest ago gives way."""
    if key not in known:
        known[key] = make()
    known.move_to_end(key)
    while len(known) > REMEMBERED:
        known.popitem(last=False)
    return known[key]


def _written(graph: Graph, known: list[Node], dtype: str, stop_at: int | None, write: Writer) -> Written:
    schedule, code, layout = write(graph, dtype, stop_at)
    show("scheduled", lambda: planned(schedule))
    show("kernel", lambda: str(code))
    position = {node: i for i, node in enumerate(known)}
    written = Written(
        code,
        dtype,
        layout,
        tuple((position[node], memory) for node, memory in schedule.data()),
        tuple(node.shape for node in graph.inputs),
        tuple(node.shape for node in graph.outputs[len(graph.inputs) :]),
        tuple(node.dtype for node in graph.inputs),
        tuple(node.dtype for node in graph.outputs[len(graph.inputs) :]),
        ranges(graph, dtype),
        graph.counts,
        schedule.cycles,
        tuple(schedule.all_measured()),
    )
    if written.lines > MOST_LINES:
        raise UnsupportedOperationError(
            f"the step cannot be fused: its kernel would have {written.lines:,} lines, and take minutes to compile. "
            "Way out: write it with operations of whole tensors instead of their elements, or backend='eager'"
        )
    show("triton" if code.warps else "python", written.page)
    return written


MOST_NODES = 80_000
"""Of a graph: its kernel has some four times fewer lines, and compiles for minutes."""


def _refuse_many(graph: Graph) -> None:
    count = sum(1 for _ in every(graph.nodes))
    if count > MOST_NODES:
        raise UnsupportedOperationError(
            f"the step cannot be fused: it has {count:,} operations, and would take minutes to compile. Way out: write "
            "it with operations of whole tensors instead of their elements, or backend='eager'"
        )


@stage("trace")
def _graph(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None,
) -> Graph:
    try:
        graph = trace(function, inputs, names, stop_at)
        show("traced", lambda: listing(graph))
        # what a GPU gains by loops has not been measured: it has them where it could not have the step otherwise
        if inputs[0].device.type == "cpu" or len(graph.nodes) > MOST_NODES:
            with stage("reroll"):
                graph = with_loops(rerolled(graph))
            show("rerolled", lambda: listing(graph))
        _refuse_many(graph)
        take_counters(graph)
        return graph
    except UnsupportedOperationError:
        raise
    except Exception as error:
        function([tensor.clone() for tensor in inputs])  # a mistake of the caller's is told in torch's own words
        raise UnsupportedOperationError(
            f"the step cannot be traced: {type(error).__name__}: {error}. Way out: backend='eager'"
        ) from error


def _signature(graph: Graph, known: list[Node], numbers: Container[Place]) -> tuple[Any, ...]:
    """Equal for graphs that differ in nothing but the values of their constants, and the numbers at these places."""
    number: dict[Node, int] = {}

    def described(value: Any) -> Any:
        if isinstance(value, Node):
            return ("node", number[value])
        if isinstance(value, (list, tuple)):
            return tuple(described(part) for part in value)
        return repr(value)

    def of(node: Node) -> tuple[Any, ...]:
        number[node] = len(number)
        baked: Any = None if node.baked is None else (node.baked.shape, node.baked.tobytes())
        if (node, -1) in numbers:
            baked = "number"
        args = tuple("number" if (node, i) in numbers else described(a) for i, a in enumerate(node.args))
        place = None if node.tensor is None else (node.tensor.stride(), described(node.view_of or ()))
        names = (node.label, node.where)
        own = (node.op, node.shape, str(node.dtype), args, baked, place, node.ones, *names)
        return own if node.scan is None else (*own, *body(node.scan))

    def body(scan: Scan) -> Iterator[Any]:
        yield scan.count, scan.backwards
        inputs = [one for carry in scan.carries for one in carry.inputs]
        yield from map(of, (*inputs, *scan.rows, *scan.same, *scan.body))
        yield described([(carry.inputs, carry.next) for carry in scan.carries]), described(scan.outputs)

    parts = [of(node) for node in (*graph.inputs, *known, *graph.nodes)]
    parts.append(described(graph.outputs))
    parts.append(tuple(graph.counts.items()))
    return tuple(parts)


def _one_dtype(graph: Graph) -> str:
    dtype = kernel_dtype(graph)
    for node in (*graph.inputs, *graph.nodes):
        of = node.dtype
        if of.is_complex or (of.is_floating_point and of not in (torch.float32, torch.float64)):
            place = f" in {node.where} ({node.where.text})" if node.where else ""
            raise UnsupportedOperationError(
                f"{node.op}{place} cannot be fused: it gives {of}, and kernels compute in float32 or float64. Way out: "
                "convert the data to one of these beforehand, or backend='eager'"
            )
    return str(dtype).removeprefix("torch.")
