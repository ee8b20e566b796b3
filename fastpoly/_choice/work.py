"""What a step asks of whoever runs it, as numbers that are known before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._fuse.launches import Launch

if TYPE_CHECKING:
    from .._fuse.graph import Graph
    from .._fuse.traced import Written


@dataclass(frozen=True)
class Work:
    """Of torch.

    Attributes:
        launches: the operations of a step, each with how often it comes.
        nodes: how many operations are left when they are taken apart and what is repeated is shared: of these a kernel
            is made.
        dtype: "float32" or "float64".
    """

    launches: tuple[tuple[Launch, int], ...]
    nodes: int
    dtype: str

    @property
    def computing(self) -> int:
        """How many launches compute something."""
        return sum(count for launch, count in self.launches if launch.kind != "view")


@dataclass(frozen=True)
class Kernel:
    """Of a fused kernel.

    Attributes:
        nests: its loop nests: how often the body runs for one element of the long axis, how long that is, and the
            operations of the body.
        lanes: elements that it takes at a time.
        threads: that share the samples.
        lines: of its page, about.
        bytes: of its data and of what it keeps within a step.
    """

    nests: tuple[tuple[int, int, int], ...]
    lanes: int
    threads: int
    lines: int
    bytes: int

    @property
    def registers(self) -> float:
        """Operations on whole registers, all of a step's."""
        return sum(turns * math.ceil(length / self.lanes) * operations for turns, length, operations in self.nests)

    @property
    def turns(self) -> float:
        """How often some body is run."""
        return sum(turns * math.ceil(length / self.lanes) for turns, length, _ in self.nests)


UNKNOWN = Work(((Launch("other", 1_000, 24_000, 0), 40), (Launch("view", 0, 0, 0), 15)), 40, "float32")
"""A small loss, where there is no trace to count in."""


def of_graph(graph: Graph) -> Work:
    """Counted in a trace."""
    dtype = str(graph.inputs[0].dtype).removeprefix("torch.")
    return Work(tuple(sorted(graph.launches.items())), len(graph.nodes), dtype)


def of_kernel(written: Written) -> Kernel:
    """Told by its length and its nests."""
    layout = written.layout
    size = 4 if written.dtype == "float32" else 8
    return Kernel(
        written.nests,
        layout.lanes,
        layout.threads,
        written.lines,
        size * (layout.data + layout.scratch + layout.carry),
    )
