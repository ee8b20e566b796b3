"""Ways to run a step many times, by name; each in a file of its own, imported when it is asked for.

A loop is begun with a function from a list of tensors to their successors and, after those, what the step gives:

    begin(function, inputs, names, stop_at) -> Loop

What a step gives is a list of tensors, the same in number, shape and dtype every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from fastpoly_kernels.aside import imported

if TYPE_CHECKING:
    import torch

    Step = Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]

MODULES = {
    "fused": "fused",
    "triton": "fused_gpu",
    "cudagraph": "cudagraph",
    "compile": "compiled",
    "eager": "eager",
}

PREFERENCES = {"cpu": ("fused", "compile", "eager"), "cuda": ("triton", "cudagraph", "compile", "eager")}
"""What "auto" tries, in turn, by the kind of device; on others it is compile and eager."""


class Loop(Protocol):
    """A step that is being repeated.

    Attributes:
        source: gives the text of the kernel, if there is one.
        step_seconds: a guess of what a step takes, to plan the first portion with.
    """

    source: Callable[[], str] | None
    step_seconds: float

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        """Take `steps` steps; keep what the step gives after `wait` steps and then every `every` steps.

        Returns the number of steps taken, and for each result a tensor (kept, *its shape). Fewer steps are taken when
        the result `stop_at` of a step is not finite: it is not kept, and the carried tensors are those before it.
        """

    def carried(self) -> list[torch.Tensor]:
        """The tensors as they are now."""


class Begin(Protocol):
    """What a module of this package has."""

    def __call__(
        self, function: Step, inputs: Sequence[torch.Tensor], names: dict[int, str], stop_at: int | None
    ) -> Loop:
        """Get ready to repeat `function`, starting from `inputs`.

        Args:
            function: a step.
            inputs: tensors; they are not written to.
            names: what the caller calls tensors that the step uses, by their ids.
            stop_at: which of the results (counted from the first one) ends the loop when it is not finite.
        """


def begin(name: str) -> Begin:
    """The loop of that name."""
    function: Begin = imported(f"{__name__}.{MODULES[name]}").begin
    return function
