"""Blocks of steps as CUDA graphs: every operation of the step as torch has it, without the cost of launching it.

Of the step, its record is captured (`recorded`) and not the function itself, though a capture takes autograd, too. A
graph holds what the step did once, so it must do the same every time, and recording is where that is checked; what does
not change between steps is computed there, once; and capturing 128 steps takes no longer than calling their operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from .._errors import BackendUnavailableError, UnsupportedOperationError
from .recorded import recorded
from .replayed import ReplayedLoop, unrolled

if TYPE_CHECKING:
    from torch.fx import Node

    from . import Step


def begin(
    function: Step,
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],  # noqa: ARG001  (of Begin)
    stop_at: int | None,
) -> ReplayedLoop:
    """See `fastpoly._loops.Begin`. Records and captures, some tens of milliseconds.

    Steps beyond those asked for may be computed.

    Raises:
        ValueError: the tensors are not on a GPU.
        BackendUnavailableError: there is none.
        UnsupportedOperationError: the step cannot be recorded (see `recorded`), or CUDA does not capture it.
    """
    need_gpu("cudagraph", inputs)
    from .capture import CudaCapture

    inputs = [tensor.detach().contiguous() for tensor in inputs]
    step = capturable(function, inputs)
    return ReplayedLoop(step, inputs, stop_at, CudaCapture(inputs[0].device), unrolled(step, len(inputs)))


def need_gpu(name: str, inputs: Sequence[torch.Tensor]) -> None:
    """Raise BackendUnavailableError without a CUDA GPU, ValueError unless all tensors are on one."""
    from .._backends import missing_cuda

    reason = missing_cuda()
    if reason is not None:
        raise BackendUnavailableError(f"backend {name!r} cannot run here: {reason}")
    devices = sorted({str(tensor.device) for tensor in inputs})
    if len(devices) > 1 or inputs[0].device.type != "cuda":
        raise ValueError(
            f"backend: {name} runs on tensors on one CUDA device, got {' and '.join(devices)}; move params (or carry) "
            "and data there with .to('cuda'), or choose backend='auto'"
        )


def capturable(function: Step, inputs: Sequence[torch.Tensor]) -> Step:
    """The step as operations that are launched without waiting for the GPU.

    Raises:
        UnsupportedOperationError: it has others, or cannot be recorded.
    """
    device = inputs[0].device
    step = recorded(function, inputs)
    for node in step.graph.nodes:
        what = _waits(node, device)
        if what is not None:
            raise UnsupportedOperationError(
                f"{node.target} {what}, for which every step would wait. Way out: torch.where instead of a mask as "
                "index, torch.linalg's functions that end in _ex, everything on one device, or backend='eager'"
            )
    return step


def _waits(node: Node, device: torch.device) -> str | None:
    """Why the operation makes Python wait for its device, if it does."""
    if node.op != "call_function":
        return None
    if node.target is torch.ops.aten._linalg_check_errors.default:
        return "looks at whether a decomposition succeeded"
    if _indexes(node):
        given: Any = node.args[1]
        if any(index is not None and index.meta["dtype"] in (torch.bool, torch.uint8) for index in given):
            return "takes a mask as index"
    elif {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output} & set(getattr(node.target, "tags", ())):
        return "gives something whose size depends on values"
    found = node.meta.get("device", device)
    return None if found == device else f"gives a tensor on {found}"


def _indexes(node: Node) -> bool:
    name: str = getattr(getattr(node.target, "_schema", None), "name", "")
    return name in {f"aten::{kind}" for kind in ("index", "index_put", "index_put_", "_index_put_impl_")}
