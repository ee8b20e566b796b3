"""Operations of ours, which a kernel of a CPU carries out in turns of their own (`in_turns`).

`order` gives where the elements of the sorted tensor come from, equal ones as they stood. `put` is a scatter and
`put_add` a scatter_add, whose index is as long as the tensor in all dimensions but the one that it names places of.
"""

from __future__ import annotations

from typing import Any

import torch

_LIBRARY = torch.library.Library("fastpoly", "FRAGMENT")  # type: ignore[no-untyped-call]


def define(schema: str, function: Any) -> None:
    """An operation with that schema; `function` is for what never changes, which torch computes."""
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    _LIBRARY.impl(schema.split("(")[0], function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]


def _order(a: torch.Tensor, dim: int, descending: bool) -> torch.Tensor:
    return torch.argsort(a, dim=dim, descending=descending, stable=True)


define("order(Tensor a, int dim, bool descending) -> Tensor", _order)
_PUT = "(Tensor a, int dim, Tensor index, Tensor values) -> Tensor"
define(f"put{_PUT}", torch.scatter)
define(f"put_add{_PUT}", torch.scatter_add)

order, put, put_add = (getattr(torch.ops.fastpoly, name) for name in ("order", "put", "put_add"))

DEVICES = frozenset({"cpu"})
"""Where kernels have them."""


def are_had(a: Any) -> bool:
    """Has a kernel of what holds this tensor these operations?"""
    return a.device.type in DEVICES
