"""A traced step as a program: the constants packed for its kernel, and the kernel to run on them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from fastpoly_kernels.forking import in_child, new_lock

from .._arrays import Array
from .._memory import refuse_beyond_memory
from .._pages import HUGE_BYTES, zeros_in_huge_pages
from . import ir
from .arguments import array_of
from .counters import Counted
from .graph import Graph
from .layout import Layout
from .machine import Kernel, compiled, register_bits
from .pack import Strides, get, in_strides, put, strides_of
from .register_axis import quickest
from .registers import registers_at_a_time
from .schedule import Schedule
from .sums import chain
from .traced import Written, traced
from .whole_inputs import refuse_start
from .write import write

REGISTER_BYTES = 64
"""What arrays are aligned to: the widest register, and a cache line."""

CYCLES = 12_000
"""What a thread must have to do in a step: some microseconds, beside the tenth of one that a meeting takes."""

CYCLES_OF_A_CALL = 1_000_000
"""The same in a call of one step: it ends before another thread is awake, unless it is a long one."""

CYCLES_A_SUM = 100
"""And what it must have to do beside for each sum that they tell each other."""

MOST_THREADS = 16
"""All of them meet several times a step."""


@dataclass(frozen=True, eq=False)
class Program:
    """A step, ready to run: one kernel and its data."""

    written: Written
    kernel: Kernel
    data: Array

    def start(self, inputs: Sequence[torch.Tensor]) -> Run:
        """A run from these inputs."""
        layout, dtype = self.written.layout, self.written.dtype
        refuse_start(self.written.starts, inputs)
        carry = aligned(layout.carry, dtype)
        for tensor, (memory, start) in zip(inputs, layout.carried, strict=True):
            put(carry, start, memory, array_of(tensor))
        scratch = [aligned(layout.scratch, dtype) for _ in range(layout.threads)]
        counted = Counted(self.written.counts, inputs)
        room = aligned(2 * layout.threads * layout.room, dtype)
        return Run(self, carry, counted, scratch, room, strides_of(inputs))


@dataclass(eq=False)
class Run:
    """A program on its way: what it carries from step to step."""

    program: Program
    carry: Array
    counted: Counted
    scratch: list[Array]
    room: Array
    strides: Sequence[Strides | None]

    def advance(self, steps: int, every: int, wait: int, out: Array) -> int:
        """Take `steps` steps; see `machine.Kernel`. `out` has a row for every result that is due."""
        written = self.program.written
        if written.dtype == "float32" and any(written.starts):
            refuse_start(written.starts, self.carried())
        taken = self._advance(steps, every, wait, out)
        self.counted.steps += taken
        return taken

    def _advance(self, steps: int, every: int, wait: int, out: Array) -> int:
        kernel, data = self.program.kernel, self.program.data
        if len(self.scratch) == 1:
            arrays = (self.carry, data, self.scratch[0], out)
            return kernel(*(array.ctypes.data for array in arrays), steps, every, wait)
        # Every thread takes every step on its own samples and carries everything; the first one's is kept.
        counter = aligned(REGISTER_BYTES // 8, np.int64)

        def part(thread: int, carry: Array) -> int:
            arrays = (carry, data, self.scratch[thread], out)
            shared = (self.room.ctypes.data, counter.ctypes.data, thread)
            return kernel(*(array.ctypes.data for array in arrays), steps, every, wait, *shared)

        copies = [_copied(self.carry) for _ in self.scratch[1:]]
        with _together:
            try:
                others = [pool().submit(part, thread, copy) for thread, copy in enumerate(copies, 1)]
                taken = part(0, self.carry)
            except BaseException:
                # Ctrl-C, or no further thread to be had: those that have begun would wait for the others for ever
                counter[0] = EVERYBODY_CAME
                raise
            for other in others:
                other.result()
        return taken

    def carried(self) -> list[torch.Tensor]:
        """The inputs as they are now."""
        written = self.program.written
        places = zip(written.inputs, written.input_dtypes, written.layout.carried, strict=True)
        parts = ((get(self.carry[None], start, memory, shape), dtype) for shape, dtype, (memory, start) in places)
        carried = [torch.from_numpy(part.copy())[0].to(dtype) for part, dtype in parts]
        return self.counted.put(in_strides(carried, self.strides))

    def results(self, out: Array) -> list[torch.Tensor]:
        """The rows of `out` as one tensor for each result, (rows, *its shape)."""
        written = self.program.written
        places = zip(written.results, written.dtypes, written.layout.results, strict=True)
        return [torch.from_numpy(get(out, start, at, shape)).to(dtype) for shape, dtype, (at, start) in places]


def program(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None = None,
) -> Program:
    """Trace a step and compile it, or find it compiled.

    Args:
        function: takes tensors like `inputs`, returns their successors and then whatever else a step gives.
        inputs: CPU tensors: the first of a float dtype, the others of that, of whole numbers or truths.
        names: what to call constants in the text, by the id of the tensor.
        stop_at: the result (counted after the successors) that ends a run when it is not finite.

    Raises:
        UnsupportedOperationError: it cannot be fused.
    """
    return bound(*traced(function, inputs, names, stop_at, write_for_cpu))


def bound(written: Written, constants: Sequence[torch.Tensor]) -> Program:
    """The program with these constants, in the order in which `traced` returned them."""
    _refuse_beyond_memory(written)
    data = aligned(written.layout.data, written.dtype)
    for position, memory in written.data:
        put(data, memory.start, memory, array_of(constants[position]))
    return Program(written, compiled(written.code, written.layout.threads), data)


def _refuse_beyond_memory(written: Written) -> None:
    """Raise MemoryError if what the kernel reads and writes does not fit beside what the caller holds."""
    layout = written.layout
    numbers = layout.data + layout.threads * (layout.carry + layout.scratch + 2 * layout.room)
    what = f"the kernel's arrays of {numbers:,} numbers take"
    refuse_beyond_memory(numbers * np.dtype(written.dtype).itemsize, what, "fewer samples or smaller params")


def write_for_cpu(graph: Graph, dtype: str, stop_at: int | None) -> tuple[Schedule, ir.Kernel, Layout]:
    """See `traced.Writer`."""
    return _write_for(CYCLES, graph, dtype, stop_at)


def write_for_a_call(graph: Graph, dtype: str, stop_at: int | None) -> tuple[Schedule, ir.Kernel, Layout]:
    """The same of what is called for one step at a time, and leaves its results where they are if it can."""
    return _write_for(CYCLES_OF_A_CALL, graph, dtype, stop_at, left=True)


def write_alone(graph: Graph, dtype: str, stop_at: int | None) -> tuple[Schedule, ir.Kernel, Layout]:
    """The same of what no threads share."""
    return _write_for(math.inf, graph, dtype, stop_at)


def _write_for(
    least: float, graph: Graph, dtype: str, stop_at: int | None, left: bool = False
) -> tuple[Schedule, ir.Kernel, Layout]:
    bits = register_bits()
    lanes, available = bits // (32 if dtype == "float32" else 64), 32 if bits == 512 else 16
    threads_of = partial(_threads, least)
    schedule = quickest(graph, lanes, partial(Schedule, graph, lanes, 1, available), threads_of)
    registers = registers_at_a_time(schedule)
    if registers > 1:
        schedule = Schedule(graph, lanes, registers, available, samples=schedule.samples)
    chain(schedule)
    threads = threads_of(schedule)
    return schedule, *write(schedule, dtype, stop_at, threads, left and threads == 1)


def _threads(least: float, schedule: Schedule) -> int:
    """How many threads share the samples, if each must have so many cycles at least."""
    if not schedule.can_be_shared:
        return 1
    shared = sum(map(len, schedule.shared_sums()))
    worth = int(schedule.cycles / (least + CYCLES_A_SUM * shared))
    return max(1, min(processors(), worth, MOST_THREADS, -(-schedule.samples // schedule.lanes)))


_together = new_lock()
"""Held while threads wait for each other: parts of two runs must not take each other's places in the pool."""


EVERYBODY_CAME = 2**62
"""In the counter of those that have come to a meeting: more than anybody waits for."""


@cache
def pool() -> ThreadPoolExecutor:
    """The threads that run kernels beside the caller's."""
    return ThreadPoolExecutor(MOST_THREADS, "fastpoly")  # it starts no more than are wanted at a time


in_child(pool.cache_clear)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- arrays
# ----------------------------------------------------------------------------------------------------------------


def aligned(size: int, dtype: Any) -> Array:
    """Zeros that begin at the address of a register."""
    dtype = np.dtype(dtype)
    length = size * dtype.itemsize
    raw = zeros_in_huge_pages(length + REGISTER_BYTES) if length >= HUGE_BYTES else None
    if raw is None:
        raw = np.zeros(length + REGISTER_BYTES, np.uint8)
    start = -raw.ctypes.data % REGISTER_BYTES
    return raw[start : start + length].view(dtype)


def _copied(array: Array) -> Array:
    copy = aligned(array.size, array.dtype)
    copy[:] = array
    return copy
