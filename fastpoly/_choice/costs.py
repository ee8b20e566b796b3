"""What a backend costs for some work on some machine: functions of numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .machines import Machine
from .work import Kernel, Work

GRAIN = 32_768
"""Elements that ATen gives to a thread at least."""

BLOCK = 8
"""Steps that torch.compile's loop takes at a time; two blocks are run before it begins."""

CACHED = 2**20
"""Bytes that an operation finds in the caches of a processor, about."""

LAST_CACHE = 2**25
"""Bytes that the last cache of a processor holds, about."""

CROWDED = 0.5
"""A fused kernel's operations take so much longer for each time that what it reads and keeps fills the last cache, up
to MOST_CROWDED times: measured from 13 MB (1.5 times as long) to 220 MB (3 times)."""

MOST_CROWDED = 4

MERGED = 4
"""So many operations become one kernel where torch.compile merges them, about."""

PASSES = 0.35
"""And so much of what they move is left."""


@dataclass(frozen=True)
class Cost:
    """Seconds.

    Attributes:
        ready: until the loop begins.
        step: of each step.
    """

    ready: float
    step: float

    def of(self, steps: int) -> float:
        """Of a whole run."""
        return self.ready + steps * self.step


@dataclass(frozen=True)
class State:
    """What is there already.

    Attributes:
        kernel: "memory" or "disk", where the fused kernel is; None if it must be compiled.
        fuser: has this process loaded what compiles and links kernels?
        inductor: has it compiled anything by torch.compile?
        known: backends that have compiled this step before, in some process of this machine.
    """

    kernel: str | None = None
    fuser: bool = False
    inductor: bool = False
    known: frozenset[str] = frozenset()


def eager(work: Work, machine: Machine) -> Cost:
    """Step by step, as torch runs it."""
    launching = machine.step + sum(_launching(launch.kind, machine) * count for launch, count in work.launches)
    working = _working(work, machine)
    # a card works while the next operations are launched
    return Cost(0.0, max(launching, working) if machine.graph else launching + working)


def compiled(work: Work, machine: Machine, state: State) -> Cost:
    """By torch.compile, in blocks."""
    products = sum(count for launch, count in work.launches if launch.kind == "product")
    kernels = products + (work.computing - products) / MERGED
    step = machine.block_step + kernels * machine.kernel + _working(work, machine, PASSES)
    compiling = work.computing * machine.inductor_node + (0.0 if state.inductor else machine.inductor)
    left = machine.inductor_known if "compile" in state.known else 1.0
    return Cost(left * compiling + machine.graph + 2 * BLOCK * step, step)


def captured(work: Work, machine: Machine, state: State) -> Cost:
    """torch's operations in CUDA graphs."""
    first = 0.0 if state.inductor else machine.inductor  # recording imports as much
    step = work.computing * machine.replay + _working(work, machine)
    return Cost(first + machine.graph, step)


def fused(kernel: Kernel, work: Work, machine: Machine, state: State) -> Cost:
    """As one kernel, on a processor or a card."""
    step = kernel.registers * machine.register[work.dtype] + kernel.turns * machine.turn
    if not machine.graph:  # a card waits for its memory from the first byte on, and has no threads to share with
        step *= 1 + CROWDED * min(kernel.bytes / LAST_CACHE, MOST_CROWDED)
        step = max(step, kernel.bytes * machine.far_byte if kernel.bytes > CACHED else 0.0) / kernel.threads
    step += machine.fused_step
    return Cost(_ready(kernel.lines * machine.line, machine, state), step)


def fused_at_least(work: Work, machine: Machine, state: State) -> Cost:
    """The same before the kernel is written, which every process does anew: no run takes less."""
    writing = work.nodes * machine.node
    return Cost(writing + _ready(work.nodes * machine.line, machine, state), 0.0)


def _ready(compiling: float, machine: Machine, state: State) -> float:
    if state.kernel == "memory":
        return 0.0
    if state.kernel == "disk":
        return machine.load
    return compiling + (0.2 * machine.fuse if state.fuser else machine.fuse)


def _launching(kind: str, machine: Machine) -> float:
    return machine.view if kind == "view" else machine.launch


def _working(work: Work, machine: Machine, passes: float = 1.0) -> float:
    """What the operations compute and move, without their launches."""
    total = 0.0
    for launch, count in work.launches:
        threads = machine.threads if launch.elements > GRAIN or launch.flops > 2 * GRAIN * 64 else 1
        moving = launch.bytes * (machine.byte if launch.bytes < CACHED else machine.far_byte)
        if launch.kind == "product":
            seconds = max(launch.flops * machine.flop[work.dtype], moving)
        elif launch.kind == "function":
            seconds = max(launch.elements * machine.function[work.dtype], moving * passes)
        elif launch.kind == "power":
            seconds = max(launch.elements * machine.power[work.dtype], moving * passes)
        else:
            seconds = moving * passes
        total += count * seconds / threads
    return total
