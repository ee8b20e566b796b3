"""What came of a descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._lazy import lazy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, repr=False)
class DescentResult:
    """What came of a descent.

    Attributes:
        params: after the last step, in the structure in which they were given; no tensor requires a gradient.
        loss: a tensor of the losses before steps 0, trace_every, 2 trace_every, ...; the returned params' own is not in
            it.
        steps: how many steps were taken.
        seconds: how long it took, with tracing and compiling.
        backend: what ran.
        source: the text of the kernel, each statement with the line of the loss that it comes from; None unless fused.
        diverged_at: None, or the step whose loss is not finite; `loss` and `params` end there.
        state: the optimizer's, from which `descend(..., state=)` goes on.
        ended_by: "steps" if all were taken, else "until", "patience", "callback", "divergence" or "Ctrl-C".
        averaged: the average of the params after each step, if one was asked for.
        best, held_out: the params that were best on the held-out data, and its losses as `loss` has them.
        aux: what the loss returned beside its number, of the steps that `loss` has, as the first axis of each tensor.
        last_aux: the same of the last step that was taken; None if none was.
        reason: why that backend ran: what it was expected to take, and the next best one.
    """

    params: Any
    loss: torch.Tensor
    steps: int
    seconds: float
    backend: str
    diverged_at: int | None
    state: Any
    reason: str
    ended_by: str = "steps"
    averaged: Any = None
    best: Any = None
    held_out: torch.Tensor | None = None
    aux: Any = None
    last_aux: Any = None
    _page: Callable[[], str] | None = None

    @lazy
    def source(self) -> str | None:
        """See above; the text is made when it is first asked for."""
        return self._page() if self._page else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": self.source, "_page": None}

    def __repr__(self) -> str:
        end = f"{self.steps:,} steps"
        if self.diverged_at is not None:
            end = f"diverged at step {self.diverged_at:,}"
        elif self.ended_by != "steps":
            end = f"ended by {self.ended_by} after {end}"
        losses = f"loss {float(self.loss[0]):.6g} to {float(self.loss[-1]):.6g}" if len(self.loss) else "no trace"
        return f"DescentResult({losses}; {end}, {self.backend}, {self.seconds:.3g} s)"
