"""What `scan` and `descend` are given, checked: tensors, functions, and that a step gives back what it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._backends import missing_torch
from ._errors import BackendUnavailableError

if TYPE_CHECKING:
    import torch


def need_torch() -> None:
    """Raise BackendUnavailableError if torch is missing."""
    reason = missing_torch()
    if reason is not None:
        raise BackendUnavailableError(f"this needs torch: {reason}")


def refuse_no_tensor(value: Any, name: str) -> None:
    """Raise TypeError unless `value` is a tensor."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: wants tensors, got {value!r} ({type(value).__name__})")


def refuse_no_float_tensor(value: Any, name: str) -> None:
    """Raise TypeError unless `value` is a dense tensor of real floats with values."""
    import torch

    refuse_no_tensor(value, name)
    if not value.is_floating_point():
        raise TypeError(f"{name}: wants tensors of floats, got {value.dtype}")
    if value.layout != torch.strided or value.is_meta:
        raise TypeError(f"{name}: wants dense tensors with values, got layout {value.layout} on {value.device}")


def refuse_no_function(value: Any, name: str) -> None:
    """Raise TypeError unless `value` can be called."""
    if not callable(value):
        raise TypeError(f"{name}: wants a function, got {value!r}")


def refuse_changed(after: Sequence[Any], before: Sequence[torch.Tensor], whose: str, of: str) -> None:
    """Raise ValueError unless the tensors are what they were before, but for their values."""
    for i, (new, old) in enumerate(zip(after, before, strict=True)):
        if getattr(new, "shape", None) != old.shape or new.dtype != old.dtype:
            got = f"{tuple(new.shape)} {new.dtype}" if hasattr(new, "dtype") else repr(new)
            was = f"{tuple(old.shape)} {old.dtype}"
            raise ValueError(f"{whose}: leaf {i} of the {of} was {was} and comes back {got}")


def named(data: tuple[Any, ...], names: tuple[str, ...] = ()) -> dict[int, str]:
    """What to call the tensors among `data`, by their ids."""
    import torch

    return {id(value): name for value, name in zip(data, names, strict=False) if isinstance(value, torch.Tensor)}
