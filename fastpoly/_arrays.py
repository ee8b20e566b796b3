"""Samples in, numpy inside, the caller's kind of array out.

Requirements: lists, numpy arrays, pandas Series and torch tensors are welcome, as a vector or a column; torch is never
imported for callers who do not use it; whatever cannot be meant is refused here, in words that name the argument.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


def is_tensor(value: object) -> bool:
    """Is `value` a torch tensor? A process that never imported torch has none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def device_of(*values: object) -> torch.device | None:
    """The torch device of the tensors among `values`, or None when there is none.

    Raises:
        ValueError: the tensors lie on different devices.
    """
    devices = {value.device for value in values if is_tensor(value)}  # type: ignore[attr-defined]
    if len(devices) > 1:
        raise ValueError(f"x and y: want tensors on one device, got {' and '.join(sorted(map(str, devices)))}")
    return devices.pop() if devices else None


def vector(value: object, name: str) -> Array:
    """`value` as a non-empty vector of real numbers, its dtype kept where numpy has it; a view where that can be.

    Args:
        value: (n,) or (n, 1) numbers: a list, an array, a Series, a tensor.
        name: what the caller calls the argument; it opens every message.

    Raises:
        TypeError: not real numbers. ValueError: not one column, or empty.
    """
    array = _from_tensor(value, name) if is_tensor(value) else _from_sequence(value, name)
    if array.dtype.kind not in "fiub":
        hint = "; convert it with .astype(float)" if array.dtype.kind == "O" else ""
        raise TypeError(f"{name}: wants real numbers, got dtype {array.dtype}{hint}")
    if array.ndim == 0:
        raise ValueError(f"{name}: wants a vector or a column, got a single number")
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise ValueError(f"{name}: wants a vector or one column, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name}: is empty, wants at least one number")
    return array.reshape(-1)


def refuse_nonfinite(array: Array, name: str, dtype: np.dtype[Any]) -> None:
    """Raise ValueError for the first entry that is NaN, infinite, or becomes so in `dtype`, naming its index."""
    for start in range(0, array.size, 2**20):  # bounds the memory that this takes
        part = array[start : start + 2**20]
        if part.dtype != dtype:
            with np.errstate(over="ignore"):
                part = part.astype(dtype)
        finite = np.isfinite(part)
        if finite.all():
            continue
        i = start + int(np.argmin(finite))
        wants = "finite numbers" if not np.isfinite(array[i]) else f"numbers that {dtype} can hold"
        raise ValueError(f"{name}: wants {wants}, got {name}[{i}] = {array[i]}")


def to_device(array: Array, device: torch.device | None) -> Any:
    """`array` as it is, or as a torch tensor on `device`."""
    if device is None:
        return array
    import torch

    return torch.from_numpy(array).to(device)


def _from_sequence(value: object, name: str) -> Array:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name}: has masked entries; pass {name}.compressed() or fill them")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: wants a vector or a column of numbers, got a ragged sequence") from error


def _from_tensor(value: Any, name: str) -> Array:
    import torch

    if value.layout != torch.strided:
        raise TypeError(f"{name}: wants a dense tensor, got layout {value.layout}; pass {name}.to_dense()")
    if value.dtype == torch.bfloat16:  # the one real dtype that numpy lacks
        value = value.float()
    result: Array = value.detach().cpu().numpy()
    return result
