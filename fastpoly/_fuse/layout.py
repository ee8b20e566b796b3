"""Where everything lies in the arrays that a kernel is called with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .expressions import Memory
from .schedule import Schedule


@dataclass(frozen=True)
class Layout:
    """What the caller of a kernel must know.

    Attributes:
        lanes: how many elements it reads at a time.
        threads: how many share the samples.
        carry, data, scratch, room: how many elements these arrays have; `room` for each thread and each second step.
        row: how many elements of `out` one step's results take.
        programs: how many of a GPU's share the samples.
        own: how many elements each of them has behind scratch, for itself.
        carried: for each input, where it lies in `carry`: in a Memory, or its elements one after the other.
        results: the same for each result in a row of `out`.
    """

    lanes: int
    threads: int
    carry: int
    data: int
    scratch: int
    room: int
    row: int
    carried: tuple[tuple[Memory | None, int], ...]
    results: tuple[tuple[Memory | None, int], ...]
    programs: int = 1
    own: int = 0
    left: bool = False

    def is_left(self, result: Memory | None) -> bool:
        """Is a result that lies there left in scratch?"""
        return self.left and _is_in_scratch(result)


def _is_in_scratch(result: Memory | None) -> bool:
    return result is not None and result.region == "scratch"


def lay_out(schedule: Schedule, threads: int, left: bool = False) -> Layout:
    """Give every Memory of a schedule its place."""
    ends = {"carry": 0, "data": 0, "scratch": 0, "own": 0}
    # what registers read comes first, so that it begins where a register does
    register = schedule.lanes // schedule.registers

    def how_odd(memory: Memory) -> tuple[bool, bool]:
        return memory.padded % register > 0, memory.padded % schedule.lanes > 0

    for memory in sorted(schedule.memories, key=how_odd):
        memory.start = ends[memory.region]
        ends[memory.region] += memory.size
    carried: list[tuple[Memory | None, int]] = []
    for node in schedule.graph.inputs:
        own = schedule.carried(node)
        carried.append((own, own.start if own else ends["carry"]))
        if own is None:
            ends["carry"] += math.prod(node.shape)
    results: list[tuple[Memory | None, int]] = []
    row = 0
    for node, value in zip(schedule.graph.outputs[len(schedule.graph.inputs) :], schedule.results, strict=True):
        kept = value if isinstance(value, Memory) else None
        if left and kept is not None and _is_in_scratch(kept):
            results.append((kept, kept.start))
        else:
            results.append((kept, row))
            row += kept.size if kept else math.prod(node.shape)
    sizes = {region: end + schedule.lanes for region, end in ends.items()}  # a register may reach beyond the end
    room = 0
    if threads > 1:
        for roots in schedule.shared_sums():
            for memory_or_none in dict.fromkeys(root.memory for root in roots):
                alone = sum(root.memory is None for root in roots)
                room += memory_or_none.size if memory_or_none is not None else alone
    return Layout(
        schedule.lanes, threads, **sizes, room=room, row=row, carried=tuple(carried), results=tuple(results), left=left
    )
