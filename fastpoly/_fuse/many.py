"""One step of one problem as a kernel for many problems, each of which goes on by itself.

Where a problem has few samples, several problems share registers, one in each lane (`widen.py`); where it has many,
they fill the registers themselves. Which of it is does not depend on how many problems there are or who computes them,
so that a problem has the same bits in every batch. Threads take blocks of problems in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass

import numpy as np
import torch

from .._arrays import Array
from .._memory import refuse_beyond_memory
from .._monitor import Monitor
from . import ir
from .arguments import array_of
from .blocks_of_problems import FINISHED, STOP, loop_over_blocks
from .graph import Graph
from .layout import Layout
from .machine import Kernel, compiled, register_bits
from .pack import get, put
from .program import aligned, pool, processors, write_alone
from .schedule import Schedule
from .traced import Written, traced
from .whole_inputs import refuse_start
from .widen import NotWidened, widened
from .write import write

FEW_SAMPLES = 1024
"""Samples of a problem up to which problems share registers: their block then fits into the second cache."""

CHUNK_BYTES = 2**25
"""Of problems that are laid out at a time."""

CHUNK_BLOCKS = 64
"""And at least so many blocks, for the threads to share."""

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
        except NotWidened:
            pass
    return write_alone(graph, dtype, stop_at)


@dataclass(frozen=True, eq=False)
class ManyProgram:
    """A step of one problem, ready to run on many.

    Attributes:
        kernel: takes `lanes` problems at a time.
    """

    written: Written
    kernel: Kernel
    lanes: int
    data: Array

    def run(
        self,
        inputs: Sequence[torch.Tensor],
        is_own: Sequence[bool],
        count: int,
        steps: int,
        every: int | None,
        monitor: Monitor,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Let so many problems take all their steps.

        Args:
            inputs: of a step, each with the problems as leading axis if it `is_own`.
            every: keep the results of steps 0, every, 2 every, ...; None keeps none.
            monitor: hears Ctrl-C, and is told how many problems are done.

        Returns:
            What the inputs have become and the kept results, each with the problems as leading axis; of the first
            problems only after Ctrl-C, those that had taken all steps.
        """
        written, dtype = self.written, np.dtype(self.written.dtype)
        refuse_start(written.starts, inputs)
        rows = 0 if every is None else -(-steps // every)
        shapes = [*((count, *shape) for shape in written.inputs), *((count, rows, *s) for s in written.results)]
        needed = sum(map(math.prod, shapes)) * dtype.itemsize
        refuse_beyond_memory(needed, f"the results of {count:,} problems take", "fewer problems, or a shorter trace")
        found = [np.empty(shape, dtype) for shape in shapes]
        block = (written.layout.carry + rows * written.layout.row) * self.lanes * dtype.itemsize
        most = max(CHUNK_BYTES // block, CHUNK_BLOCKS) * self.lanes
        done = 0
        with monitor.listening():
            while done < count and not monitor.interrupted:
                here = slice(done, min(done + most, count))
                part = [one[here] if own else one for one, own in zip(inputs, is_own, strict=True)]
                chunk = _Chunk(self, part, is_own, here.stop - done, rows)
                chunk.begin(steps, every)
                while not chunk.is_over(LOOK_SECONDS):
                    monitor.report(done + chunk.finished, count)
                    if monitor.interrupted:
                        chunk.stop()
                for at, whole in enumerate(found):
                    chunk.read(at, whole[done : done + chunk.finished])
                done += chunk.finished
                monitor.report(done, count)
        dtypes = (*written.input_dtypes, *written.dtypes)
        tensors = [torch.from_numpy(one[:done]).to(of) for one, of in zip(found, dtypes, strict=True)]
        return tensors[: len(written.inputs)], tensors[len(written.inputs) :]


class _Chunk:
    """Some problems, laid out as the kernel wants them.

    Args:
        program: theirs.
        inputs, is_own: as for `ManyProgram.run`.
        count: how many they are.
    """

    def __init__(
        self, program: ManyProgram, inputs: Sequence[torch.Tensor], is_own: Sequence[bool], count: int, rows: int
    ) -> None:
        layout, dtype, lanes = program.written.layout, program.written.dtype, program.lanes
        self.program, self.count, self.rows = program, count, rows
        self.blocks = -(-count // lanes)
        self.carry = aligned(self.blocks * layout.carry * lanes, dtype).reshape(self.blocks, layout.carry, lanes)
        self.out = aligned(self.blocks * rows * layout.row * lanes, dtype).reshape(self.blocks, rows, layout.row, lanes)
        self.shared = np.zeros(FINISHED + self.blocks, np.int64)
        for at, (tensor, own) in enumerate(zip(inputs, is_own, strict=True)):
            values = tensor.detach().numpy()
            for lane in range(lanes):
                place = self._input(at, lane)
                if not own:
                    place[...] = values
                    continue
                part = values[lane::lanes]
                place[: len(part)] = part
                place[len(part) :] = values[-1]  # lanes of no problem

    def _input(self, at: int, lane: int) -> Array:
        """Where the input at that position lies, of each block's problem in that lane: (blocks, *shape)."""
        written = self.program.written
        memory, start = written.layout.carried[at]
        return get(self.carry[:, :, lane], start, memory, written.inputs[at])  # type: ignore[no-any-return]

    def _result(self, at: int, lane: int) -> Array:
        """The same of a result: (blocks, rows, *shape)."""
        written = self.program.written
        memory, start = written.layout.results[at]
        rows = self.out[..., lane].reshape(self.blocks * self.rows, written.layout.row)
        found = get(rows, start, memory, written.results[at])
        return found.reshape(self.blocks, self.rows, *written.results[at])  # type: ignore[no-any-return]

    def begin(self, steps: int, every: int | None) -> None:
        """Let threads take the steps."""
        program, layout = self.program, self.program.written.layout
        threads = min(processors(), self.blocks)
        self.scratch = [aligned(layout.scratch * program.lanes, program.written.dtype) for _ in range(threads)]
        wide = program.lanes * self.carry.itemsize
        step_seconds = 1e-9 * (20 + program.written.cycles * (max(1, program.lanes)))
        portion = max(1, int(PORTION_SECONDS / step_seconds))
        self.running = [
            pool().submit(
                loop_over_blocks(),
                *(program.kernel.code.address, self.shared.ctypes.data, self.blocks),
                *(self.carry.ctypes.data, layout.carry * wide, program.data.ctypes.data, scratch.ctypes.data),
                *(self.out.ctypes.data, layout.row * wide, self.rows),
                *(steps, every or 1, 0 if every else steps, portion),
            )
            for scratch in self.scratch
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

    def read(self, at: int, into: Array) -> None:
        """Write what the input, or after these the result, at that position has become into (problems, ...)."""
        inputs, lanes = len(self.program.written.inputs), self.program.lanes
        for lane in range(lanes):
            part = into[lane::lanes]
            found = self._input(at, lane) if at < inputs else self._result(at - inputs, lane)
            part[...] = found[: len(part)]


def many_program(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    like: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None,
) -> ManyProgram:
    """Trace a step of one problem and compile it, or find it compiled. Arguments and errors as for `traced`."""
    written, constants = traced(function, like, names, stop_at, _write)
    data = aligned(written.layout.data, written.dtype)
    for position, memory in written.data:
        put(data, memory.start, memory, array_of(constants[position]))
    kernel = compiled(written.code, 1)
    is_wide = written.layout.lanes == 1
    return ManyProgram(written, kernel, written.code.lanes if is_wide else 1, data)
