"""One step of one problem as a kernel of a GPU for many problems: see `many.py`, whose `ManyProgram` this is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .._errors import UnsupportedOperationError
from .._monitor import Monitor
from . import ir
from .gpu_program import OPTIONS, kernel_of
from .gpu_widen import THREADS, widened_for_gpu
from .graph import Graph
from .layout import Layout
from .many import size_of
from .pack import get, put
from .schedule import Schedule
from .traced import Written, found, read, written_anew
from .whole_inputs import refuse_start
from .widen import NotWidenedError
from .write import write

PORTION = 200_000_000
"""Cycles of all problems between two looks for Ctrl-C: some tenths of a second."""


def _write(graph: Graph, dtype: str, stop_at: int | None) -> tuple[Schedule, ir.Kernel, Layout]:
    """See `traced.Writer`."""
    schedule = Schedule(graph, 1)
    code, layout = write(schedule, dtype, stop_at)
    try:
        return schedule, widened_for_gpu(code, layout), layout
    except NotWidenedError:
        raise UnsupportedOperationError(
            "the problems cannot be fused into one kernel: each would read from another place. Way out: "
            "torch.where instead of what is looked up, or the CPU"
        ) from None


@dataclass(frozen=True, eq=False)
class GpuManyProgram:
    """See `ManyProgram`."""

    written: Written
    kernel: Any
    data: torch.Tensor
    outside: Sequence[torch.Tensor]
    lanes = THREADS

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
        """See `ManyProgram.run`. All problems go on together: after Ctrl-C each has taken as many steps."""
        written, layout, data = self.written, self.written.layout, self.data
        refuse_start(written.starts, inputs)
        blocks, rows = -(-count // THREADS), 0 if every is None else -(-steps // every)
        carry = data.new_zeros((blocks, layout.carry, THREADS))
        for at, (tensor, own) in enumerate(zip(inputs, is_own, strict=True)):
            self._put(carry, at, tensor.detach() if own else tensor.detach()[None])
        scratch = data.new_empty(blocks * layout.scratch * THREADS)
        out = data.new_full((blocks, rows, layout.row, THREADS), torch.nan)
        portion, taken = max(1, int(PORTION / (1 + written.cycles) / count)), 0
        with monitor.listening(), torch.cuda.device_of(carry):  # type: ignore[no-untyped-call]
            while taken < steps and not monitor.interrupted:
                here = min(portion, steps - taken)
                wait = here if every is None else min(-taken % every, here)
                first = 0 if every is None else -(-taken // every)
                numbers = here, min(every or here, here), wait, rows, first
                self.kernel[(blocks,)](carry, data, scratch, out, *numbers, num_warps=1, **OPTIONS)
                taken += here
                if taken < steps and carry.is_cuda:
                    torch.cuda.synchronize(carry.device)
                monitor.report(count * taken // steps, count)
        ends = [self._get(carry, at, count) for at in (range(len(inputs)) if wanted is None else wanted)]
        kept = out.permute(0, 3, 1, 2).reshape(blocks * THREADS, rows, layout.row)[:count]
        return ends, [self._result(kept, at) for at in range(len(written.results))]

    def _put(self, carry: torch.Tensor, at: int, values: torch.Tensor) -> None:
        """Lay out an input of (problems or one, *shape)."""
        memory, start = self.written.layout.carried[at]
        size = size_of(memory, self.written.inputs[at])
        rows = carry.new_zeros((len(values), size))
        get(rows, 0, memory, self.written.inputs[at])[...] = values
        blocks, last = len(carry), len(values) - 1
        which = torch.arange(blocks * THREADS, device=carry.device).clamp(max=last)  # threads of no problem do the last
        carry[:, start : start + size] = rows[which].reshape(blocks, THREADS, size).transpose(1, 2)

    def _get(self, carry: torch.Tensor, at: int, count: int) -> torch.Tensor:
        """What an input has become: (problems, *shape)."""
        memory, start = self.written.layout.carried[at]
        size = size_of(memory, self.written.inputs[at])
        rows = carry[:, start : start + size].transpose(1, 2).reshape(-1, size)[:count]
        found: torch.Tensor = get(rows, 0, memory, self.written.inputs[at])
        return found.to(self.written.input_dtypes[at], copy=True)

    def _result(self, kept: torch.Tensor, at: int) -> torch.Tensor:
        """A result: (problems, rows, *shape)."""
        memory, start = self.written.layout.results[at]
        shape, (count, rows, _) = self.written.results[at], kept.shape
        found: torch.Tensor = get(kept.reshape(count * rows, kept.shape[2]), start, memory, shape)
        return found.reshape(count, rows, *shape).to(self.written.dtypes[at], copy=True)


def gpu_many_program(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    like: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None,
) -> GpuManyProgram:
    """See `many_program`. Triton compiles at the first launch."""
    reading = read(function, like, names, stop_at)
    written = found(reading, stop_at, _write) or written_anew(reading, stop_at, _write)
    data = torch.zeros(written.layout.data, dtype=getattr(torch, written.dtype), device=like[0].device)
    for position, memory in written.data:
        put(data, memory.start, memory, reading.constants[position].detach().to(data))
    return GpuManyProgram(written, kernel_of(written.text), data, reading.graph.outside)
