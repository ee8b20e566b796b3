"""What `scan` and `descend` are given, checked: tensors, functions, and that a step gives back what it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._backends import missing_torch
from ._errors import BackendUnavailableError
from ._problem import shown

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
        got = f"got {shown(value)} ({type(value).__name__})"
        raise TypeError(f"{name}: wants tensors, {got}; make one with torch.tensor or torch.from_numpy")


def refuse_no_float_tensor(value: Any, name: str) -> None:
    """Raise TypeError unless `value` is a dense tensor of real floats with values."""
    refuse_no_tensor(value, name)
    if not value.is_floating_point():
        raise TypeError(f"{name}: wants tensors of floats, got {value.dtype}; convert it with .double()")
    refuse_no_dense_tensor(value, name)


def refuse_no_dense_tensor(value: Any, name: str) -> None:
    """Raise TypeError unless `value` is a dense tensor of real numbers with values."""
    import torch

    refuse_no_tensor(value, name)
    if value.is_complex():
        raise TypeError(f"{name}: wants real numbers, got {value.dtype}; torch.view_as_real makes pairs of them")
    if value.layout != torch.strided or value.is_meta:
        got = f"got layout {value.layout} on {value.device}"
        raise TypeError(f"{name}: wants dense tensors with values, {got}; convert it with .to_dense(), or make it anew")


def with_signs_turned(value: Any) -> Any:
    """A tensor as memory has it, which the imaginary part of a conjugate is not; anything else as it is."""
    import torch

    return value.resolve_neg() if isinstance(value, torch.Tensor) else value


def refuse_no_function(value: Any, name: str) -> None:
    """Raise TypeError unless `value` can be called."""
    if not callable(value):
        raise TypeError(f"{name}: wants a function, got {shown(value)} ({type(value).__name__}); pass it uncalled")


def refuse_no_params(leaves: list[Any]) -> None:
    """Raise unless these are what can be trained: tensors of one float dtype, with finite values."""
    refuse_no_floats(leaves)
    if any(not bool(leaf.isfinite().all()) for leaf in leaves):
        raise ValueError("params: want finite numbers, got NaN or infinity; start elsewhere")
    from ._torch_private import has_hooks_behind

    if any(has_hooks_behind(leaf) for leaf in leaves):
        raise ValueError(
            "params: have functions to be called when a gradient has been accumulated, and here none is; take them "
            "away, and let optimizer= do what they did"
        )


def refuse_no_floats(leaves: list[Any]) -> None:
    """Raise unless these are tensors of one float dtype."""
    if not leaves:
        raise ValueError("params: has no tensors; pass a tensor, or a list, tuple or dict of them")
    for leaf in leaves:
        refuse_no_float_tensor(leaf, "params")
    dtypes = {leaf.dtype for leaf in leaves}
    if len(dtypes) > 1:
        got = " and ".join(sorted(map(str, dtypes)))
        raise ValueError(f"params: want one dtype, got {got}; convert them with .double()")


def one_number(value: Any) -> torch.Tensor:
    """What a loss returned, if that is one number that depends on the params.

    Raises:
        TypeError, ValueError: it is not.
    """
    refuse_no_tensor(value, "loss: its result")
    if value.numel() != 1:
        raise ValueError(f"loss: wants to return one number, got shape {tuple(value.shape)}; take its mean or sum")
    result: torch.Tensor = value
    if not result.requires_grad:
        raise ValueError("loss: its result does not depend on the params")
    return result


def pair(value: Any, wants: str) -> tuple[Any, Any]:
    """What a function returned, if that is two things; `wants` says what it should be.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{wants}, got {type(value).__name__}; return both")
    return value


def refuse_changed(after: Sequence[Any], before: Sequence[torch.Tensor], whose: str, of: str) -> None:
    """Raise ValueError unless the tensors are what they were before, but for their values."""
    for i, (new, old) in enumerate(zip(after, before, strict=True)):
        if getattr(new, "shape", None) != old.shape or new.dtype != old.dtype:
            got = f"{tuple(new.shape)} {new.dtype}" if hasattr(new, "dtype") else repr(new)
            was = f"{tuple(old.shape)} {old.dtype}"
            raise ValueError(f"{whose}: leaf {i} of the {of} was {was} and comes back {got}; keep both")


def tensor_labels(data: tuple[Any, ...], names: tuple[str, ...] = ()) -> dict[int, str]:
    """What to call the tensors among `data`, by their ids."""
    import torch

    return {id(value): name for value, name in zip(data, names, strict=False) if isinstance(value, torch.Tensor)}
