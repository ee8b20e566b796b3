"""The whole loop as one kernel of the GPU, compiled by Triton from a trace of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._errors import BackendUnavailableError
from .._fuse.gpu_program import GpuProgram, bound, program

if TYPE_CHECKING:
    import torch

    from .._fuse.traced import Written
    from . import Step


class GpuLoop:
    """See `fastpoly._loops.Loop`."""

    def __init__(self, of: GpuProgram, inputs: Sequence[torch.Tensor]) -> None:
        self.run = of.start(inputs)
        self.run.compile()  # that is no part of what a step takes
        self.step_seconds = of.step_seconds
        self.source: Callable[[], str] | None = of.written.page

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        return self.run.advance(steps, every, wait)

    def carried(self) -> list[torch.Tensor]:
        return self.run.carried()


def begin(function: Step, inputs: Sequence[torch.Tensor], names: dict[int, str], stop_at: int | None) -> GpuLoop:
    """See `fastpoly._loops.Begin`.

    Raises:
        BackendUnavailableError: Triton or the GPU is missing.
        ValueError: the inputs are not on a GPU.
        UnsupportedOperationError: the step cannot be fused.
    """
    from .._backends import missing_triton

    reason = missing_triton()
    if reason is not None:
        raise BackendUnavailableError(f"backend 'triton' cannot run here: {reason}")
    devices = {str(tensor.device) for tensor in inputs}
    if any(tensor.device.type != "cuda" for tensor in inputs) or len(devices) > 1:
        raise ValueError(
            f"backend 'triton' wants all tensors on one CUDA GPU, got {' and '.join(sorted(devices))}; move them there "
            "with .cuda(), or use backend='fused' for the CPU"
        )
    return GpuLoop(program(function, inputs, names, stop_at), inputs)


def begin_written(written: Written, constants: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> GpuLoop:
    """The same for a step that is traced and written already, and tensors that are on one GPU."""
    return GpuLoop(bound(written, constants, inputs[0].device), inputs)
