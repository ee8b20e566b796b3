"""Step after step, as torch runs them: for what nothing else can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from . import Step


class EagerLoop:
    """See `fastpoly._loops.Loop`."""

    source = None
    step_seconds = 1e-4

    def __init__(self, function: Step, inputs: Sequence[torch.Tensor], stop_at: int | None) -> None:
        self.function = function
        self.state = [tensor.detach().clone() for tensor in inputs]
        self.stop_at = stop_at
        self.kinds: list[torch.Tensor] | None = None  # no rows of every result, once somebody wanted to know

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        kept: list[list[torch.Tensor]] = []
        taken = 0
        while taken < steps:
            after = [tensor.detach() for tensor in self.function(list(self.state))]
            results = after[len(self.state) :]
            if self.stop_at is not None and not bool(torch.isfinite(results[self.stop_at]).all()):
                break
            if wait == 0:
                kept.append([result.clone() for result in results])
                wait = every
            wait -= 1
            self.state = after[: len(self.state)]
            taken += 1
        if kept:
            return taken, [torch.stack(column) for column in zip(*kept, strict=True)]
        return taken, self._none_kept()

    def _none_kept(self) -> list[torch.Tensor]:
        """No rows of every result."""
        if self.kinds is None:
            results = self.function([tensor.clone() for tensor in self.state])[len(self.state) :]
            self.kinds = [result.new_empty((0, *result.shape)) for result in results]
        return self.kinds

    def carried(self) -> list[torch.Tensor]:
        return [tensor.clone() for tensor in self.state]


def begin(
    function: Step,
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],  # noqa: ARG001  (of Begin)
    stop_at: int | None,
) -> EagerLoop:
    """See `fastpoly._loops.Begin`."""
    return EagerLoop(function, inputs, stop_at)
