"""One step of one problem as a kernel for many problems, each of which goes on by itself.

Where a problem has few samples, several problems share registers, one in each lane (`widen.py`); where it has many,
they fill the registers themselves. Which of it is does not depend on how many problems there are or who computes them,
so that a problem has the same bits in every batch. Threads take blocks of problems in turn (`blocks_of_problems.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import wait
from dataclasses import dataclass

import numpy as np
import torch

from .._arrays import Array
from .._memory import refuse_beyond_memory
from .._monitor import Monitor
from . import ir
from .arguments import array_of
from .blocks_of_problems import FIELDS, FINISHED, STOP, loop_over_blocks
from .expressions import Memory
from .graph import Graph
from .layout import Layout
from .machine import Kernel, compiled, register_bits
from .pack import get, put
from .program import aligned, pool, processors, write_alone
from .schedule import Schedule
from .traced import Written, found, read, written_anew
from .whole_inputs import refuse_start
from .widen import NotWidenedError, widened
from .write import write

FEW_SAMPLES = 1024
"""Samples of a problem up to which problems share registers: their block then fits into the second cache."""

PORTION_SECONDS = 0.05
"""After which a thread asks whether it should stop."""

LOOK_SECONDS = 0.02
"""How often progress is told."""


def _write(graph: Graph, dtype: str, stop_at: int | None) -> tuple[Schedule, ir.Kernel, Layout]:
    """See `traced.Writer`: a kernel of several problems if it can be one, else of one."""
    bits = register_bits()
    schedule = Schedule(graph, 1, available=32 if bits == 512 else 16)
    if schedule.samples <= FEW_SAMPLES:
        code, layout = write(schedule, dtype, stop_at)
        try:
            return schedule, widened(code, bits // (32 if dtype == "float32" else 64)), layout
        except NotWidenedError:
            pass
    return write_alone(graph, dtype, stop_at)


@dataclass(frozen=True, eq=False)
class ManyProgram:
    """A step of one problem, ready to run on many.

    Attributes:
        kernel: takes `lanes` problems at a time.
        outside: the tensors that the step read beside its inputs.
    """

    written: Written
    kernel: Kernel
    lanes: int
    data: Array
    outside: Sequence[torch.Tensor]

    def run(
        self,
        inputs: Sequence[torch.Tensor],
        is_own: Sequence[bool],
        count: int,
        steps: int,
        every: int | None,
        monitor: Monitor,
        wanted: Collection[int] | None = None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Let so many problems take all their steps.

        Args:
            inputs: of a step, each with the problems as leading axis if it `is_own`.
            every: keep the results of steps 0, every, 2 every, ...; None keeps none.
            monitor: hears Ctrl-C, and is told how many problems are done.
            wanted: the inputs whose ends are asked for; None for all.

        Returns:
            What the (wanted) inputs have become and the kept results, each with the problems as leading axis; of the
            first problems only after Ctrl-C, those that had taken all steps. Results of steps that were not taken are
            NaN.
        """
        written = self.written
        refuse_start(written.starts, inputs)
        wanted = range(len(inputs)) if wanted is None else wanted
        run = _Run(self, inputs, is_own, count, 0 if every is None else -(-steps // every), wanted)
        with monitor.listening():
            run.begin(steps, every)
            while not run.is_over(LOOK_SECONDS):
                monitor.report(run.finished, count)
                if monitor.interrupted:
                    run.stop()
        done = run.finished
        monitor.report(done, count)
        ends = [run.input(at)[:done].to(written.input_dtypes[at]) for at in wanted]
        return ends, [run.result(at)[:done].to(dtype) for at, dtype in enumerate(written.dtypes)]


class _Run:
    """Problems on their way.

    Args:
        program: theirs.
        inputs, is_own, count: as for `ManyProgram.run`.
        rows: results that each of them keeps.
        wanted: the inputs that are read afterwards.
    """

    def __init__(
        self,
        program: ManyProgram,
        inputs: Sequence[torch.Tensor],
        is_own: Sequence[bool],
        count: int,
        rows: int,
        wanted: Collection[int],
    ) -> None:
        layout, dtype = program.written.layout, program.written.dtype
        self.program, self.count, self.rows = program, count, rows
        self.blocks = -(-count // program.lanes)
        self.shared = np.zeros(FINISHED + self.blocks, np.int64)
        carried = layout.carried
        sizes = {at: size_of(carried[at][0], program.written.inputs[at]) for at in range(len(inputs))}
        numbers = count * (sum(sizes[at] for at in wanted) + rows * layout.row)
        what = f"the results of {count:,} problems take"
        refuse_beyond_memory(numbers * np.dtype(dtype).itemsize, what, "fewer problems, or a shorter trace")
        self.ends = {at: np.empty((count, sizes[at]), dtype) for at in wanted}
        self.kept = np.empty((count, rows, layout.row), dtype)
        self.given = [
            self._laid_out(tensor if own else tensor[None], *carried[at], sizes[at])
            for at, (tensor, own) in enumerate(zip(inputs, is_own, strict=True))
        ]
        ins = [
            (array.ctypes.data, array.shape[1], array.shape[1] if own else 0, carried[at][1])
            for at, (array, own) in enumerate(zip(self.given, is_own, strict=True))
        ]
        outs = [(array.ctypes.data, array.shape[1], array.shape[1], carried[at][1]) for at, array in self.ends.items()]
        outs += [(self.kept.ctypes.data, rows * layout.row, rows * layout.row, -1)] * bool(rows)
        self.ins, self.outs = (np.array(table, np.int64).reshape(-1, FIELDS) for table in (ins, outs))

    def _laid_out(self, tensor: torch.Tensor, memory: Memory | None, _: int, size: int) -> Array:
        """(problems, size): each problem's elements in the order in which they lie in `carry`."""
        values = array_of(tensor)
        if memory is None or (size == values[0].size and memory.order == tuple(range(values.ndim - 1))):
            return np.ascontiguousarray(values.reshape(len(values), size), self.program.written.dtype)
        array = np.zeros((len(values), size), self.program.written.dtype)
        get(array, 0, memory, values.shape[1:])[...] = values
        return array

    def begin(self, steps: int, every: int | None) -> None:
        """Let threads take the steps."""
        program, layout, dtype = self.program, self.program.written.layout, self.program.written.dtype
        sizes = [size * program.lanes for size in (layout.carry, layout.scratch, self.rows * layout.row)]
        self.rooms = [[aligned(size, dtype) for size in sizes] for _ in range(min(processors(), self.blocks))]
        step_seconds = 1e-9 * (20 + program.written.cycles * program.lanes)
        portion = max(1, int(PORTION_SECONDS / step_seconds))
        code = program.kernel.code  # type: ignore[attr-defined]
        self.running = [
            pool().submit(
                loop_over_blocks(dtype),
                *(code.address, self.shared.ctypes.data, self.blocks, program.lanes, self.count),
                *(self.ins.ctypes.data, len(self.ins), self.outs.ctypes.data, len(self.outs)),
                *(carry.ctypes.data, program.data.ctypes.data, scratch.ctypes.data, out.ctypes.data),
                *(layout.row, self.rows, steps, every or 1, 0 if every else steps, portion),
            )
            for carry, scratch, out in self.rooms
        ]

    def is_over(self, seconds: float) -> bool:
        """Are they done, after waiting so long?"""
        return not wait(self.running, seconds).not_done

    def stop(self) -> None:
        """Let the threads come to an end soon."""
        self.shared[STOP] = 1

    @property
    def finished(self) -> int:
        """How many of the first problems have taken all their steps."""
        flags = self.shared[FINISHED:]
        blocks = self.blocks if flags.all() else int(flags.argmin())
        return min(blocks * self.program.lanes, self.count)

    def input(self, at: int) -> torch.Tensor:
        """What an input has become: (problems, *shape)."""
        written = self.program.written
        return torch.from_numpy(np.asarray(get(self.ends[at], 0, written.layout.carried[at][0], written.inputs[at])))

    def result(self, at: int) -> torch.Tensor:
        """The kept results at that position: (problems, rows, *shape)."""
        written = self.program.written
        memory, start = written.layout.results[at]
        shape = written.results[at]
        rows = self.kept.reshape(self.count * self.rows, written.layout.row)
        return torch.from_numpy(get(rows, start, memory, shape).reshape(self.count, self.rows, *shape))


def size_of(memory: Memory | None, shape: Sequence[int]) -> int:
    """How many elements a problem's input takes in `carry`."""
    return math.prod(shape) if memory is None else memory.size


def many_program(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    like: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None,
) -> ManyProgram:
    """Trace a step of one problem and compile it, or find it compiled. Arguments and errors as for `traced`."""
    reading = read(function, like, names, stop_at)
    written = found(reading, stop_at, _write) or written_anew(reading, stop_at, _write)
    data = aligned(written.layout.data, written.dtype)
    for position, memory in written.data:
        put(data, memory.start, memory, array_of(reading.constants[position]))
    kernel = compiled(written.code, 1)
    is_wide = written.layout.lanes == 1
    return ManyProgram(written, kernel, written.code.lanes if is_wide else 1, data, reading.graph.outside)
