"""Operations on lists of tensors, as torch's optimizers and averages ask for: one tensor after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

PREFIX = "_foreach_"

_CALLED: dict[str, Callable[..., Any]] = {
    "norm": torch.linalg.vector_norm,
    "addcmul": lambda a, b, c, value=1: torch.addcmul(a, b, c, value=value),
    "addcmul_": lambda a, b, c, value=1: a.addcmul_(b, c, value=value),
    "addcdiv": lambda a, b, c, value=1: torch.addcdiv(a, b, c, value=value),
    "addcdiv_": lambda a, b, c, value=1: a.addcdiv_(b, c, value=value),
}
"""What takes its arguments otherwise for one tensor."""


def one_by_one(name: str, args: Any, kwargs: Any) -> list[Any] | None:
    """The results for each tensor of a list, unless they are left in these; numbers are for all of them."""
    name = name.removeprefix(PREFIX)
    function = _CALLED.get(name) or getattr(torch.ops.aten, name)
    count = len(args[0])
    rows = [value if isinstance(value, (list, tuple)) else [value] * count for value in args]
    named = {key: value if isinstance(value, (list, tuple)) else [value] * count for key, value in kwargs.items()}
    results = [
        function(*row, **{key: values[i] for key, values in named.items()})
        for i, row in enumerate(zip(*rows, strict=True))
    ]
    return None if name.endswith("_") else results
