"""A traced step as a kernel of a GPU: the constants packed on the device, and one launch for many steps."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastpoly_kernels.forking import new_lock
from fastpoly_kernels.log import stage

from .counters import Counted
from .gpu_builder import block_of
from .gpu_grid import CLOCK, LANES, MEETING, programs_for
from .gpu_warps import fitting
from .gpu_write import write
from .graph import Graph
from .ir import Kernel
from .layout import Layout
from .pack import Strides, get, in_strides, put, strides_of
from .recursion import room_for
from .schedule import Schedule
from .sums import chain
from .traced import Written, traced
from .whole_inputs import refuse_start

MOST_SUMS = (96, 48)
"""In variables: a thread has 255 registers, and needs one or two for each sum and for each parameter. So it need not
load them, nor wait for what others store. Where the first number needs too many, it is the second."""

OPTIONS = {"maxnreg": 255, "num_stages": 1}
"""Of Triton's compiler. A thread may have all registers that there are: left to itself ptxas gives each of 8 warps'
threads 128, and spills. No loop has copies to memory to be done ahead of their use, in stages."""

_kernels: dict[str, Any] = {}
_launched: set[tuple[int, torch.device]] = set()
"""Kernels that are there: their ids, as `_kernels` keeps them for ever, and the devices."""

_lock = new_lock()


@dataclass(frozen=True, eq=False)
class GpuProgram:
    """A step, ready to run: one kernel and its data."""

    written: Written
    kernel: Any
    data: torch.Tensor

    def start(self, inputs: Sequence[torch.Tensor]) -> GpuRun:
        """A run from these inputs."""
        layout, data = self.written.layout, self.data
        refuse_start(self.written.starts, inputs)
        carry = data.new_zeros(layout.carry)
        for tensor, (memory, start) in zip(inputs, layout.carried, strict=True):
            put(carry, start, memory, tensor.detach())
        carry = carry.repeat(layout.programs)  # each has all of it, and all the same
        scratch = data.new_empty(layout.scratch + (layout.own * layout.programs if layout.programs > 1 else 0))
        shared = []
        if layout.programs > 1:
            shared = [data.new_empty(2 * layout.programs * layout.room), data.new_zeros(1, dtype=torch.int64)]
        counted = Counted(self.written.counts, inputs)
        return GpuRun(
            self,
            carry,
            counted,
            torch.empty_like(carry),
            scratch,
            data.new_zeros(1, dtype=torch.int32),
            shared,
            strides_of(inputs),
        )

    @property
    def step_seconds(self) -> float:
        """About how long a step takes: the work of its threads on up to four schedulers, and 150 cycles for sums."""
        layout, words = self.written.layout, 2 if self.written.dtype == "float64" else 1
        work = self.written.cycles * words / min(layout.threads, LANES) / layout.programs
        return (150 + work) / CLOCK + MEETING * (layout.programs > 1)

    @property
    def stops(self) -> bool:
        """Does it look for a result that is not finite?"""
        return "tl.store(stopped" in self.written.text


@dataclass(eq=False)
class GpuRun:
    """A program on its way: what it carries from step to step, and what it carried before the steps at hand.

    What several programs of a grid share beside is `shared`: their room, and the counter of their meetings.
    """

    program: GpuProgram
    carry: torch.Tensor
    counted: Counted
    before: torch.Tensor
    scratch: torch.Tensor
    stopped: torch.Tensor
    shared: list[torch.Tensor]
    strides: Sequence[Strides | None]

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        """Take `steps` steps, of which those count that come before a result that is not finite.

        Returns how many those are and, for each result, what comes after `wait` steps and then every `every` steps.
        """
        written = self.program.written
        if written.dtype == "float32" and any(written.starts):
            refuse_start(written.starts, self.carried())
        if self.program.stops:
            self.before.copy_(self.carry)
        out = self._launch(steps, every, wait)
        first = int(self.stopped)  # this waits for the kernel, whose time is taken
        self.counted.steps += first if self.program.stops else steps
        if not self.program.stops or first == steps:
            return steps, self._results(out)
        # the kernel looks for it beside the work, where it costs nothing, and does not stop
        self.carry.copy_(self.before)
        return first, self._results(self._launch(first, every, wait))

    def compile(self) -> None:
        """Have Triton compile the kernel, or load it, unless it is there."""
        key = id(self.program.kernel), self.carry.device
        if key not in _launched:
            stage("Triton")(self._launch)(0, 1, 0)
            _launched.add(key)

    def _launch(self, steps: int, every: int, wait: int) -> torch.Tensor:
        layout, data = self.program.written.layout, self.program.data
        wait = min(wait, steps)
        every = min(every, max(steps, 1))  # beyond the last step, one is as good as another
        rows = -(-(steps - wait) // every)
        out = data.new_empty((rows, layout.row))
        arguments = (self.carry, data, self.scratch, out, self.stopped, *self.shared, steps, every, wait)
        options = OPTIONS
        if self.shared:
            self.shared[-1].zero_()
            options = {**OPTIONS, "launch_cooperative_grid": True}  # all programs at a time, or an error
        with torch.cuda.device_of(self.carry):  # Triton launches on the device that is current
            self.program.kernel[(layout.programs,)](*arguments, num_warps=layout.threads // 32, **options)
        return out

    def carried(self) -> list[torch.Tensor]:
        """The inputs as they are now."""
        written = self.program.written
        places = zip(written.inputs, written.input_dtypes, written.layout.carried, strict=True)
        parts = ((get(self.carry[None], start, memory, shape)[0], dtype) for shape, dtype, (memory, start) in places)
        carried = [part.to(dtype, copy=True) for part, dtype in parts]
        return self.counted.put(in_strides(carried, self.strides))

    def _results(self, out: torch.Tensor) -> list[torch.Tensor]:
        written = self.program.written
        places = zip(written.results, written.dtypes, written.layout.results, strict=True)
        return [get(out, start, memory, shape).to(dtype) for shape, dtype, (memory, start) in places]


def program(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],
    stop_at: int | None = None,
) -> GpuProgram:
    """As `fastpoly._fuse.program.program`, for inputs on a GPU. Triton compiles at the first launch."""
    return bound(*traced(function, inputs, names, stop_at, write_for_gpu), device=inputs[0].device)


def bound(written: Written, constants: Sequence[torch.Tensor], device: torch.device) -> GpuProgram:
    """The program with these constants, in the order in which `traced` returned them."""
    data = torch.zeros(written.layout.data, dtype=getattr(torch, written.dtype), device=device)
    for position, memory in written.data:
        put(data, memory.start, memory, constants[position].detach().to(data))
    return GpuProgram(written, kernel_of(written.text), data)


def write_for_gpu(graph: Graph, dtype: str, stop_at: int | None) -> tuple[Schedule, Kernel, Layout]:
    """See `traced.Writer`."""
    # its "register" is a block of any size: nothing is padded
    for most in MOST_SUMS:
        schedule = Schedule(graph, 1, most_sums=most)
        if fitting(schedule, dtype, block_of(schedule.samples)):
            break
    chain(schedule)
    return schedule, *write(schedule, dtype, stop_at, programs_for(schedule, dtype, multiprocessors()))


def multiprocessors() -> int:
    """How many each GPU has, at least; 1 where there is none."""
    cards = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return min((card.multi_processor_count for card in cards), default=1)


def moves_blocks(text: str) -> bool:
    """Does a kernel read memory in its steps? One in registers has read all before."""
    return "tl.load(" in text.partition("for step in")[2]


def kernel_of(text: str) -> Any:
    """The kernel that a text defines, as a function that Triton compiles when it is launched."""
    from fastpoly_kernels.triton_passes import with_few_passes  # Triton may not be there

    with _lock:
        if text not in _kernels:
            name = f"<fastpoly kernel {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
            # Triton compiles what `inspect` says that the source is
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            namespace: dict[str, Any] = {"__name__": name}
            with room_for(text.count("\n")):
                exec(compile(text, name, "exec"), namespace)
            _kernels[text] = with_few_passes(namespace["kernel"], moves_blocks(text))
        return _kernels[text]
