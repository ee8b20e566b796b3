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

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "matmul", "linear"}

FUNCTIONS = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin"}
    | {"acos", "atan", "atan2", "erf", "erfc", "sigmoid", "softplus", "softplus_backward", "gelu", "lgamma"}
    | {"gelu_backward", "silu", "silu_backward", "mish", "_softmax", "_log_softmax", "log_sigmoid_forward", "logsumexp"}
    | {"binary_cross_entropy_with_logits", "xlogy", "_log_softmax_backward_data"}
)
"""What takes some ten times as long as a sum, for each element."""

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
    name = operation.name
    return Launch(
        _kind(name, args, tensors, results), max(sizes, default=0), size, _flops(tensors) if name in PRODUCTS else 0
    )


def _kind(name: str, args: Any, tensors: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> str:
    if name in PRODUCTS:
        return "product"
    plain = name.rstrip("_")
    if plain == "pow":
        return "other" if isinstance(args[1], (int, float)) and args[1] in CHEAP_POWERS else "power"
    if plain in FUNCTIONS:
        return "function"
    largest = max((tensor.numel() for tensor in tensors), default=0)
    return "sum" if results and max(result.numel() for result in results) < largest else "other"


def _flops(tensors: Sequence[torch.Tensor]) -> int:
    """Of a product of the last two: (..., m, k) with (k, n) or (k,)."""
    one, other = tensors[-2:]
    return 2 * one.numel() * math.prod(other.shape[-1:] if other.dim() > 1 else ())
