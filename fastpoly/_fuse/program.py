"""A traced step as a program: the constants packed for its kernel, and the kernel to run on them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from .._arrays import Array
from .._errors import UnsupportedOperationError
from . import pointwise, rules
from .expressions import Memory
from .graph import Graph, Node
from .layout import Layout
from .machine import Kernel, compiled
from .recursion import room_for
from .schedule import Schedule
from .survey import constants
from .trace import trace
from .write import write

REGISTER_BYTES = 64
"""What arrays are aligned to: the widest register, and a cache line."""

CYCLES = 12_000
"""What a thread must have to do in a step: some microseconds, beside the tenth of one that a meeting takes."""

CYCLES_A_SUM = 100
"""And what it must have to do beside for each sum that they tell each other."""

MOST_THREADS = 16
"""All of them meet several times a step."""

REMEMBERED = 256
"""Programs kept in memory; a text is some kilobytes."""


@dataclass(frozen=True)
class Written:
    """What depends on the graph alone, not on the values of its constants.

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

    def bound(self, constants: Sequence[torch.Tensor]) -> Program:
        """The program with these constants, in the order of the graph's."""
        data = _aligned(self.layout.data, self.dtype)
        for position, memory in self.data:
            _put(data, memory.start, memory, constants[position].detach().numpy())
        return Program(self, compiled(self.text, self.dtype, self.layout.lanes, self.layout.threads), data)


@dataclass(frozen=True, eq=False)
class Program:
    """A step, ready to run: one kernel and its data."""

    written: Written
    kernel: Kernel
    data: Array

    def start(self, inputs: Sequence[torch.Tensor]) -> Run:
        """A run from these inputs."""
        layout, dtype = self.written.layout, self.written.dtype
        carry = _aligned(layout.carry, dtype)
        for tensor, (memory, start) in zip(inputs, layout.carried, strict=True):
            _put(carry, start, memory, tensor.detach().numpy())
        scratch = [_aligned(layout.scratch, dtype) for _ in range(layout.threads)]
        return Run(self, carry, scratch, _aligned(2 * layout.threads * layout.room, dtype))


@dataclass(eq=False)
class Run:
    """A program on its way: what it carries from step to step."""

    program: Program
    carry: Array
    scratch: list[Array]
    room: Array

    def advance(self, steps: int, every: int, wait: int, out: Array) -> int:
        """Take `steps` steps; see `machine.Kernel`. `out` has a row for every result that is due."""
        kernel, data = self.program.kernel, self.program.data
        if len(self.scratch) == 1:
            arrays = (self.carry, data, self.scratch[0], out)
            return kernel(*(array.ctypes.data for array in arrays), steps, every, wait)
        # Every thread takes every step on its own samples and carries everything; the first one's is kept.
        counter = _aligned(REGISTER_BYTES // 8, np.int64)

        def part(thread: int, carry: Array) -> int:
            arrays = (carry, data, self.scratch[thread], out)
            shared = (self.room.ctypes.data, counter.ctypes.data, thread)
            return kernel(*(array.ctypes.data for array in arrays), steps, every, wait, *shared)

        copies = [_copied(self.carry) for _ in self.scratch[1:]]
        with _together:
            others = [_pool().submit(part, thread, copy) for thread, copy in enumerate(copies, 1)]
            taken = part(0, self.carry)
            for other in others:
                other.result()
        return taken

    def carried(self) -> list[torch.Tensor]:
        """The inputs as they are now."""
        written = self.program.written
        places = zip(written.inputs, written.layout.carried, strict=True)
        parts = (_get(self.carry[None], start, memory, shape) for shape, (memory, start) in places)
        return [torch.from_numpy(part.copy())[0] for part in parts]

    def results(self, out: Array) -> list[torch.Tensor]:
        """The rows of `out` as one tensor for each result, (rows, *its shape)."""
        written = self.program.written
        places = zip(written.results, written.dtypes, written.layout.results, strict=True)
        return [torch.from_numpy(_get(out, start, at, shape)).to(dtype) for shape, dtype, (at, start) in places]


def program(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None = None,
) -> Program:
    """Trace a step and compile it, or find it compiled.

    Args:
        function: takes tensors like `inputs`, returns their successors and then whatever else a step gives.
        inputs: CPU tensors of one float dtype.
        names: what to call constants in the text, by the id of the tensor.
        stop_at: the result (counted after the successors) that ends a run when it is not finite.

    Raises:
        UnsupportedOperationError: it cannot be fused.
    """
    written, tensors = traced(function, inputs, names, stop_at)
    return written.bound(tensors)


def traced(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None = None,
) -> tuple[Written, list[torch.Tensor]]:
    """`program` before it has its data: the text, and the constants that it found."""
    graph = _graph(function, inputs, names)
    known = constants(graph)
    key = (_signature(graph, known), _one_dtype(graph), stop_at)
    with _lock:
        written = _programs.get(key)
        if written is not None:
            _programs.move_to_end(key)
    if written is None:
        _refuse_unsteady(graph, known, _graph(function, inputs, names))
        with room_for(len(graph.nodes)):
            written = _written(graph, known, key[1], stop_at)
        with _lock:
            _programs[key] = written
            while len(_programs) > REMEMBERED:
                _programs.popitem(last=False)
    return written, [node.tensor for node in known if node.tensor is not None]


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
    if _signature(graph, known) != _signature(again, others) or any(
        one.is_own and _bytes(one) != _bytes(other) for one, other in zip(known, others, strict=True)
    ):
        raise UnsupportedOperationError(
            "the loss does something else when it is called again: it depends on what Python changes meanwhile (random "
            "numbers, a counter). Way out: pass what changes as data or keep it in the params, or backend='eager'"
        )


# -- from graph to text, once
# -------------------------------------------------------------------------------------------

_programs: OrderedDict[Any, Written] = OrderedDict()
_lock = threading.Lock()


def _written(graph: Graph, known: list[Node], dtype: str, stop_at: int | None) -> Written:
    schedule = Schedule(graph, _lanes(dtype))
    if schedule.wants_two_registers:
        schedule = Schedule(graph, 2 * schedule.lanes)
    threads = 1
    if schedule.can_be_shared:
        shared = sum(map(len, schedule.shared_sums()))
        threads = min(processors(), int(schedule.cycles / (CYCLES + CYCLES_A_SUM * shared)), MOST_THREADS)
    text, layout = write(schedule, dtype, stop_at, max(threads, 1))
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


def _signature(graph: Graph, known: list[Node]) -> tuple[Any, ...]:
    """Equal for graphs that differ in nothing but the values of their constants."""
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
        baked = None if node.baked is None else (node.baked.shape, node.baked.tobytes())
        place = None if node.tensor is None else (node.tensor.stride(), described(node.view_of or ()))
        parts.append((node.op, node.shape, str(node.dtype), described(node.args), baked, place, node.label, node.where))
    parts.append(described(graph.outputs))
    return tuple(parts)


def _one_dtype(graph: Graph) -> str:
    found = {node.dtype: node for node in (*graph.nodes[::-1], *graph.inputs) if node.dtype.is_floating_point}
    wrong = [node for dtype, node in found.items() if dtype not in (torch.float32, torch.float64)]
    # whole numbers made of bools and of other whole numbers are computed with as floats
    wrong += [node for node in graph.nodes if node.dtype.is_complex or _is_cast_to_integer(node)]
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
    return node.tensor.numpy().tobytes()


def _is_cast_to_integer(node: Node) -> bool:
    if node.dtype.is_floating_point or node.dtype == torch.bool or node.op.endswith("_like"):
        return False
    return any(isinstance(argument, Node) and argument.dtype.is_floating_point for argument in node.args)


def _lanes(dtype: str) -> int:
    """How many elements a register holds, without asking numba, whose import takes a third of a second."""
    from .machine import register_bits

    return register_bits() // (32 if dtype == "float32" else 64)


_together = threading.Lock()
"""Held while threads wait for each other: parts of two runs must not take each other's places in the pool."""


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(processors(), "fastpoly")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- arrays
# ----------------------------------------------------------------------------------------------------------------


def _aligned(size: int, dtype: Any) -> Array:
    """Zeros that begin at the address of a register."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + REGISTER_BYTES, np.uint8)
    start = -raw.ctypes.data % REGISTER_BYTES
    return raw[start : start + size * dtype.itemsize].view(dtype)


def _copied(array: Array) -> Array:
    copy = _aligned(array.size, array.dtype)
    copy[:] = array
    return copy


def _rows(array: Array, start: int, memory: Memory) -> Array:
    """The part of `array` (rows, ...) that holds a tensor, as (rows, dimensions in the order of memory)."""
    lengths = [memory.shape[d] for d in memory.order]
    padded = array[:, start : start + memory.size].reshape(len(array), *lengths[:-1], memory.padded)
    return padded[..., : lengths[-1]] if lengths else padded


def _put(array: Array, start: int, memory: Memory | None, values: Array) -> None:
    if memory is None:
        array[start : start + values.size] = values.reshape(-1)
        return
    left_out = tuple(0 if d not in memory.order else slice(None) for d in range(values.ndim))
    room = _rows(array[None], start, memory)[0]
    room[...] = values[left_out].transpose(np.argsort(np.argsort(memory.order))).reshape(room.shape)


def _get(array: Array, start: int, memory: Memory | None, shape: Sequence[int]) -> Array:
    if memory is None:
        return array[:, start : start + int(np.prod(shape, dtype=int))].reshape(len(array), *shape)
    rows = _rows(array, start, memory)
    back = np.argsort(memory.order)
    return np.ascontiguousarray(rows.transpose(0, *(back + 1))).reshape(len(array), *shape)
