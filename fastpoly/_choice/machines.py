"""What operations take on a processor or a card: of the machines that were measured, and for others scaled from them.

Seconds throughout. A model needs to be right within a factor of two: nearer than that, steps are timed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Machine:
    """Of a processor, or of a card and the processor that launches for it.

    Attributes:
        name: what it calls itself.
        threads: that torch's operations may take.
        step: of torch's own loop, beside its operations: Python, autograd's set-up, the look for divergence.
        launch, view: of an operation that computes, and of one that does not, called from Python.
        byte: of memory that an operation moves, by one thread.
        far_byte: the same, where it comes from beyond the caches.
        function, power: of an elementary function, and of a power of any exponent, by dtype.
        flop: of a product of matrices, by dtype.
        fused_step, register, turn: of a step of the fused kernel, of an operation on a register in it (on a card: on a
            block), by dtype, and of a turn of one of its loops.
        fuse, node, line: to compile a fused kernel: at least, to write it for each node of the graph, and for each
            line of its text, of which there are more than nodes.
        load: to load one that lies on the disk, in a process that has none yet.
        graph, replay: to capture CUDA graphs, and of each operation in one.
        inductor, inductor_node: torch.compile's first compilation of a process, and each operation in any.
        inductor_known: the part of that which is left where its own cache has the code.
        block_step, kernel: of a step in a compiled block, and of each of its kernels.
    """

    name: str
    threads: int
    step: float
    launch: float
    view: float
    byte: float
    far_byte: float
    function: dict[str, float]
    power: dict[str, float]
    flop: dict[str, float]
    fused_step: float
    register: dict[str, float]
    turn: float
    fuse: float
    node: float
    line: float
    load: float
    graph: float
    replay: float
    inductor: float
    inductor_node: float
    inductor_known: float
    block_step: float
    kernel: float


AVX2 = Machine(
    name="AMD EPYC with AVX2, 2 threads",
    threads=2,
    step=1.8e-4,
    launch=4.5e-6,
    view=2.5e-6,
    byte=6e-11,
    far_byte=5.5e-11,
    function={"float32": 3e-9, "float64": 4e-9},
    power={"float32": 8e-9, "float64": 2.2e-8},
    flop={"float32": 2e-11, "float64": 4e-11},
    fused_step=2e-8,
    register={"float32": 2e-10, "float64": 1.7e-10},
    turn=0.0,
    fuse=0.08,
    node=3e-4,
    line=7e-4,
    load=0.05,
    graph=0.0,
    replay=0.0,
    inductor=12.0,
    inductor_node=0.15,
    inductor_known=0.5,
    block_step=1.2e-5,
    kernel=5e-7,
)

H200 = Machine(
    name="NVIDIA H200",
    threads=1,
    step=8e-5,
    launch=2.0e-5,
    view=4e-6,
    byte=3e-13,
    far_byte=3e-13,
    function={"float32": 1e-12, "float64": 1e-11},
    power={"float32": 4e-12, "float64": 4e-11},
    flop={"float32": 4e-14, "float64": 6e-14},
    fused_step=5e-8,
    register={"float32": 8e-9, "float64": 1.4e-8},
    turn=0.0,
    fuse=1.2,
    node=3e-4,
    line=7e-3,
    load=0.3,
    graph=0.5,
    replay=1.0e-6,
    inductor=6.0,
    inductor_node=0.05,
    inductor_known=0.5,
    block_step=3e-6,
    kernel=1.0e-6,
)
"""See docs/auto.md for what was measured."""

MEASURED_CLOCK = 1.98e9
"""Of the H200's multiprocessors."""

MEASURED_FLOPS, MEASURED_BYTES = 132 * 128, 4.8e12
"""Its lanes for float32, and what its memory gives in a second at best."""


def processor() -> Machine:
    """This machine's, with the threads that torch has."""
    import torch

    return replace(AVX2, name=processor_name(), threads=torch.get_num_threads())


@cache
def processor_name() -> str:
    """What the processor calls itself."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 - as in _memory
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def card(properties: Any) -> Machine:
    """One with these properties (torch.cuda.get_device_properties), scaled from the H200 by clock, lanes and memory."""
    clock = 1e3 * (getattr(properties, "clock_rate", 0) or MEASURED_CLOCK / 1e3)
    lanes = 128 * properties.multi_processor_count
    slower = MEASURED_CLOCK / clock
    wider = MEASURED_FLOPS / lanes * slower
    # twice the rate of the memory clock, by the width of the bus in bytes
    rate = 2e3 * getattr(properties, "memory_clock_rate", 0) * getattr(properties, "memory_bus_width", 0) / 8
    farther = MEASURED_BYTES / rate if rate else wider
    return replace(
        H200,
        name=properties.name,
        byte=H200.byte * farther,
        far_byte=H200.far_byte * farther,
        function={dtype: seconds * wider for dtype, seconds in H200.function.items()},
        power={dtype: seconds * wider for dtype, seconds in H200.power.items()},
        flop={dtype: seconds * wider for dtype, seconds in H200.flop.items()},
        register={dtype: seconds * slower for dtype, seconds in H200.register.items()},
    )
