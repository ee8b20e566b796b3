"""Samples in, numpy inside, the caller's kind of array out.

Requirements: lists, numpy arrays, pandas Series and torch tensors are welcome, as a vector or a column; torch is never
imported for callers who do not use it; whatever cannot be meant is refused here, in words that name the argument.
Tensors on a GPU stay there (`samples`), for backends that compute there.
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


STAYING = {"cuda"}
"""Kinds of device on which samples are computed with where they lie."""


def on_gpu(value: object) -> bool:
    """Is `value` a torch tensor on a GPU?"""
    return is_tensor(value) and value.device.type in STAYING  # type: ignore[attr-defined]


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
    array = _real(value, name)
    _refuse_no_vector(array.shape, name)
    return array.reshape(-1)


def samples(value: object, name: str) -> Any:
    """As `vector`, but tensors on a GPU stay what and where they are, flattened."""
    if not on_gpu(value):
        return vector(value, name)
    tensor = _refuse_odd_tensor(value, name)
    _refuse_no_vector(tuple(tensor.shape), name)
    return tensor.reshape(-1)


def sample_rows(value: object, name: str) -> Any:
    """As `matrix`, but tensors on a GPU stay what and where they are."""
    if not on_gpu(value):
        return matrix(value, name)
    tensor = _refuse_odd_tensor(value, name)
    _refuse_no_matrix(tuple(tensor.shape), name)
    return tensor


def _refuse_no_vector(shape: tuple[int, ...], name: str) -> None:
    if len(shape) == 0:
        raise ValueError(f"{name}: wants a vector or a column, got a single number")
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise ValueError(f"{name}: wants a vector or one column, got shape {shape}")
    if 0 in shape:
        raise ValueError(f"{name}: is empty, wants at least one number")


def matrix(value: object, name: str) -> Array:
    """`value` as a non-empty matrix of real numbers; a view where that can be. Raises as `vector`."""
    array = _real(value, name)
    _refuse_no_matrix(array.shape, name)
    return array


def _refuse_no_matrix(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 2:
        raise ValueError(f"{name}: wants a matrix, a row for each problem, got shape {shape}")
    if 0 in shape:
        raise ValueError(f"{name}: is empty, wants at least one number")


def _real(value: object, name: str) -> Array:
    """`value` as an array of real numbers."""
    array = _from_tensor(value, name) if is_tensor(value) else _from_sequence(value, name)
    if array.dtype.kind not in "fiub":
        hint = "; convert it with .astype(float)" if array.dtype.kind == "O" and array.ndim else ""
        raise TypeError(f"{name}: wants real numbers, got dtype {array.dtype}{hint}")
    return array


def refuse_nonfinite(array: Any, name: str, dtype: np.dtype[Any]) -> None:
    """Raise ValueError for the first entry that is NaN, infinite, or becomes so in `dtype`, naming its index.

    A tensor is looked at where it lies, and comes to the CPU only if it has one.
    """
    if is_tensor(array):
        import torch

        if bool(array.to(getattr(torch, dtype.name)).isfinite().all()):
            return
        array = _from_tensor(array, name)
    rows = max(1, 2**20 // (array[0].size or 1))  # bounds the memory that this takes
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        if part.dtype != dtype:
            with np.errstate(over="ignore"):
                part = part.astype(dtype)
        finite = np.isfinite(part)
        if finite.all():
            continue
        first, *rest = np.unravel_index(int(np.argmin(finite)), finite.shape)
        index = (start + int(first), *map(int, rest))
        wants = "finite numbers" if not np.isfinite(array[index]) else f"numbers that {dtype} can hold"
        raise ValueError(f"{name}: wants {wants}, got {name}[{', '.join(map(str, index))}] = {array[index]}")


def computable(array: Array, dtype: type[np.floating[Any]]) -> Array:
    """`array` contiguous, of `dtype` and writable: kernels are compiled for that one kind. Copies only what is not."""
    result = np.ascontiguousarray(array, dtype)
    return result if result.flags.writeable else result.copy()


def to_device(array: Any, device: torch.device | None) -> Any:
    """An array or a tensor: as an array if there is no device, else as a tensor on it."""
    if device is None:
        return array.cpu().numpy() if is_tensor(array) else array
    import torch

    return torch.as_tensor(array).to(device)


def _from_sequence(value: object, name: str) -> Array:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name}: has masked entries; pass {name}.compressed() or fill them")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: wants a vector or a column of numbers, got a ragged sequence") from error


def _refuse_odd_tensor(value: Any, name: str) -> Any:
    """The tensor, as data: detached, with real values."""
    import torch

    if value.is_meta:
        raise TypeError(f"{name}: wants values, got a tensor on the meta device")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: wants a dense tensor, got layout {value.layout}; pass {name}.to_dense()")
    if value.is_complex():
        raise TypeError(f"{name}: wants real numbers, got dtype {str(value.dtype).removeprefix('torch.')}")
    return value.detach()


def _from_tensor(value: Any, name: str) -> Array:
    import torch

    value = _refuse_odd_tensor(value, name).cpu()
    if value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64):
        value = value.float()  # bfloat16 and the float8 kinds, which numpy lacks
    try:
        result: Array = value.resolve_conj().resolve_neg().numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(f"{name}: wants a tensor whose values can be read, got {value.dtype}: {error}") from None
    return result
