"""The whole loop as one kernel, compiled from a trace of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from .._fuse.program import Program, bound, program
from .._pages import uninitialised

if TYPE_CHECKING:
    from .._fuse.traced import Written
    from . import Step


class FusedLoop:
    """See `fastpoly._loops.Loop`."""

    def __init__(self, of: Program, inputs: Sequence[torch.Tensor]) -> None:
        self.program = of
        self.run = of.start(inputs)
        self.source: Callable[[], str] | None = of.written.page
        self.step_seconds = 1e-9 * (20 + of.written.cycles / of.written.layout.threads)

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        rows = max(0, -(-(steps - wait) // every))
        out = uninitialised((rows, self.program.written.layout.row), self.program.data.dtype)
        taken = self.run.advance(steps, every, wait, out)
        if taken < steps:
            out = out[: max(0, -(-(taken - wait) // every))]
        return taken, self.run.results(out)

    def carried(self) -> list[torch.Tensor]:
        return self.run.carried()


def begin(function: Step, inputs: Sequence[torch.Tensor], names: dict[int, str], stop_at: int | None) -> FusedLoop:
    """See `fastpoly._loops.Begin`."""
    return FusedLoop(program(function, inputs, names, stop_at), inputs)


def begin_written(written: Written, constants: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> FusedLoop:
    """The same for a step that is traced and written already; see `fastpoly._fuse.traced`."""
    return FusedLoop(bound(written, constants), inputs)
