"""What torch would launch for a step: counted while it is traced, for whoever asks what torch's own loop would cost.

The graph does not tell: operations are taken apart there, what is repeated is shared, and what depends on data alone is
computed once, where torch does it anew in every step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .arguments import Operation, leaves


class Launch(NamedTuple):
    """One operation as torch runs it.

    Attributes:
        kind: "view" (nothing is computed), "product" (of matrices), "function" (an elementary function of each
            element), "power" (one whose exponent may be anything), "sum" (fewer elements come out than go in) or
            "other".
        elements: of the largest tensor that goes in or comes out.
        bytes: of all tensors that go in and come out.
        flops: of a product.
    """

    kind: str
    elements: int
    bytes: int
    flops: int


Launches = Counter[Launch]

COMPOSITE = {
    **dict.fromkeys(("addmm", "baddbmm", "addmv", "vdot", "matmul", "linear"), "product"),
    **dict.fromkeys(("softplus", "softplus_backward", "gelu", "gelu_backward", "silu", "mish"), "function"),
    **dict.fromkeys(("silu_backward", "log_sigmoid_forward", "logsumexp", "xlogy", "_softmax"), "function"),
    **dict.fromkeys(("_log_softmax", "_log_softmax_backward_data"), "function"),
    "binary_cross_entropy_with_logits": "function",
}
"""What torch launches as one, and has no record here."""

CHEAP_POWERS = (0.5, 1, 2, 3)
"""Of these torch makes a product or a square root."""


def launch(operation: Operation, args: Any, kwargs: Any, result: Any) -> Launch:
    """The operation that torch was asked for."""
    tensors = [leaf for leaf in leaves(args, kwargs) if isinstance(leaf, torch.Tensor)]
    results = [leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor)]
    if operation.is_view:
        return Launch("view", 0, 0, 0)
    every = [*tensors, *results]
    sizes = [tensor.numel() for tensor in every]
    size = sum(numel * tensor.element_size() for numel, tensor in zip(sizes, every, strict=True))
    kind = _kind(operation, args, tensors, results)
    return Launch(kind, max(sizes, default=0), size, _flops(tensors) if kind == "product" else 0)


def _kind(operation: Operation, args: Any, tensors: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> str:
    kind = operation.launch if operation.launch is not None else COMPOSITE.get(operation.name.rstrip("_"), "")
    if kind == "power" and isinstance(args[1], (int, float)) and args[1] in CHEAP_POWERS:
        return "other"
    largest = max((tensor.numel() for tensor in tensors), default=0)
    return kind or ("sum" if results and max(result.numel() for result in results) < largest else "other")


def _flops(tensors: Sequence[torch.Tensor]) -> int:
    """Of a product of the last two: (..., m, k) with (k, n) or (k,)."""
    one, other = tensors[-2:]
    return 2 * one.numel() * math.prod(other.shape[-1:] if other.dim() > 1 else ())
