"""Samples in, numpy inside, the caller's kind of array out.

Requirements: lists, numpy arrays, pandas Series and torch tensors are welcome, as a vector or a column; torch is never
imported for callers who do not use it; whatever cannot be meant is refused here, in words that name the argument and a
way out.
Tensors on a GPU stay there (`samples`), for backends that compute there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ._memory import refuse_beyond_memory

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


def is_tensor(value: object) -> bool:
    """Is `value` a torch tensor? A process that never imported torch has none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(values: object) -> Any:
    """torch for a tensor, else numpy: what both have under one name, with one meaning, is written once."""
    return sys.modules["torch"] if is_tensor(values) else np


def empty(like: Any, shape: tuple[int, ...], dtype: type[np.floating[Any]] = np.float64) -> Any:
    """An uninitialised array of that shape; where `like` is a tensor one, too, on its device."""
    if not is_tensor(like):
        return np.empty(shape, dtype)
    return like.new_empty(shape, dtype=getattr(namespace(like), np.dtype(dtype).name))


def beside(like: Any, values: Any) -> Any:
    """`values` as `like` is: an array, or a tensor of its dtype on its device."""
    return namespace(like).as_tensor(values).to(like) if is_tensor(like) else to_device(values, None)


def float64(values: Any) -> Any:
    """An array or a tensor in double precision; copied only if it is not."""
    return values.double() if is_tensor(values) else values.astype(np.float64, copy=False)


def powers_of(x: Any, count: int) -> Any:
    """x**0 to x**(count - 1) along a new last axis."""
    powers = empty(x, (*x.shape, count))
    powers[..., 0] = 1
    for k in range(1, count):
        namespace(x).multiply(powers[..., k - 1], x, out=powers[..., k])
    return powers


def is_dask(value: object) -> bool:
    """Is `value` a dask array? A process that never imported dask.array has none."""
    arrays = sys.modules.get("dask.array")
    return arrays is not None and isinstance(value, getattr(arrays, "Array", ()))


def is_chunked(value: object) -> bool:
    """Are these samples in a dask array, which are read in parts (`fastpoly._dask.samples.Chunked`)?"""
    module = sys.modules.get("fastpoly._dask.samples")
    return module is not None and isinstance(value, module.Chunked)


def is_masked_array(value: object) -> bool:
    """Is `value` of numpy.ma? numpy imports that when it is first asked for, in 20 ms; until then there are none."""
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(value, getattr(masked, "MaskedArray", ()))


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
        got = " and ".join(sorted(map(str, devices)))
        raise ValueError(f"x and y: want tensors on one device, got {got}; move one with .to(x.device)")
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
    """As `vector`, but tensors on a GPU stay what and where they are, flattened; and so do samples of dask."""
    if is_chunked(value):
        return value
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
        raise ValueError(f"{name}: wants a vector or a column, got a single number; put it into a list, [{name}]")
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        way = f"choose one column, {name}[:, 0], or flatten it, {name}.reshape(-1)"
        raise ValueError(f"{name}: wants a vector or one column, got shape {shape}; {way}")
    _refuse_empty(shape, name)


def _refuse_empty(shape: tuple[int, ...], name: str) -> None:
    if 0 in shape:
        raise ValueError(f"{name}: is empty, wants at least one number; look at what selected it, got shape {shape}")


def matrix(value: object, name: str) -> Array:
    """`value` as a non-empty matrix of real numbers; a view where that can be. Raises as `vector`."""
    array = _real(value, name)
    _refuse_no_matrix(array.shape, name)
    return array


def _refuse_no_matrix(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 2:
        way = f"one problem is {name}.reshape(1, -1)"
        raise ValueError(f"{name}: wants a matrix, a row for each problem, got shape {shape}; {way}")
    _refuse_empty(shape, name)


def dimensions(value: object, name: str) -> int:
    """How many dimensions `value` has as an array. Raises as `vector`, if numpy can make none of it."""
    return int(value.ndim if is_tensor(value) else _from_sequence(value, name).ndim)  # type: ignore[attr-defined]


def numbers(value: object, name: str) -> Any:
    """`value` as an array of real numbers of any shape; tensors stay what they are, with their gradients.

    Raises as `vector`.
    """
    if is_masked_array(value) and np.ma.is_masked(value):
        raise ValueError(
            f"{name}: has masked entries; NaN stands for nothing here: {name}.astype(float).filled(np.nan)"
        )
    if not is_tensor(value):
        return _real(value, name)
    _refuse_odd_tensor(value, name)
    return value


def _real(value: object, name: str) -> Array:
    """`value` as an array of real numbers."""
    array = _from_tensor(value, name) if is_tensor(value) else _from_sequence(value, name)
    if array.dtype.kind not in "fiub":
        got = f"dtype {array.dtype}"
        if array.dtype.kind == "O" and array.ndim == 0:
            got += f" ({type(value).__name__})"
        raise TypeError(f"{name}: wants real numbers, got {got}; {_way_out(array.dtype.kind, name, array.ndim)}")
    return array


def _way_out(kind: str, name: str, ndim: int) -> str:
    """What makes real numbers of another kind of dtype."""
    if kind == "O" and ndim == 0:
        return f"write float({name}) for a number, list({name}) for what can be counted through"
    if kind == "O":
        return f"convert it with np.asarray({name}, float); dates and None are no numbers"
    return {
        "c": f"choose {name}.real, or abs({name})",
        "M": f"count from a first date, ({name} - {name}[0]) / np.timedelta64(1, 'D')",
        "m": f"choose a unit, {name} / np.timedelta64(1, 's')",
        "V": f"choose one of its fields, {name}['field']",
    }.get(kind, "convert it with .astype(float)")


def refuse_nonfinite(array: Any, name: str, dtype: np.dtype[Any]) -> None:
    """Raise ValueError for the first entry that is NaN, infinite, or becomes so in `dtype`, naming its index.

    A tensor is looked at where it lies, and comes to the CPU only if it has one.
    """
    if is_chunked(array):
        array.refuse_nonfinite(name)
        return
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
        got = f"{name}[{', '.join(map(str, index))}] = {array[index]}"
        way = "leave such samples out" if name in ("x", "y") else "choose others"
        if np.isfinite(array[index]):
            way = "scale them down, or ask for precision='double'"
        raise ValueError(f"{name}: wants {wants}, got {got}; {way}")


def computable(array: Array, dtype: type[np.floating[Any]]) -> Array:
    """`array` contiguous, of `dtype` and writable: kernels are compiled for that one kind. Copies only what is not."""
    result = contiguous(array, dtype)
    if result.flags.writeable:
        return result
    _refuse_copy(array, dtype)
    return result.copy()


def contiguous(array: Array, dtype: type[np.floating[Any]]) -> Array:
    """`array` contiguous and of `dtype`, in the machine's own byte order. Copies only what is not.

    Raises:
        MemoryError: it must be copied, and there is no room for that.
    """
    refuse_large_copy(array, dtype)
    return np.ascontiguousarray(array, dtype)


def refuse_large_copy(array: Any, dtype: type[np.floating[Any]]) -> None:
    """Raise MemoryError if `contiguous` would have to copy and there is no room for that. Looks at no sample."""
    if not is_tensor(array) and (array.dtype != dtype or not array.flags.c_contiguous):
        _refuse_copy(array, dtype)


def _refuse_copy(array: Array, dtype: type[np.floating[Any]]) -> None:
    what = f"{array.size:,} samples as {np.dtype(dtype)} take"
    refuse_beyond_memory(array.size * np.dtype(dtype).itemsize, what, "fewer, or pass them as that, contiguous")


def to_device(array: Any, device: torch.device | None) -> Any:
    """An array or a tensor: as an array if there is no device, else as a tensor on it."""
    if device is None:
        return array.cpu().numpy() if is_tensor(array) else array
    import torch

    return torch.as_tensor(array).to(device)


def tensor_on(device: Any, values: Any, number: type[np.floating[Any]]) -> Any:
    """An array or a tensor as a tensor of that type on `device`; copied only where it is not."""
    import torch

    if not is_tensor(values):
        values = torch.from_numpy(computable(values, number))
    return values.to(device, getattr(torch, np.dtype(number).name))


def _from_sequence(value: object, name: str) -> Array:
    if is_masked_array(value) and np.ma.is_masked(value):
        both = "keep = ~(np.ma.getmaskarray(x) | np.ma.getmaskarray(y)), then x[keep] and y[keep]"
        way = f"keep the samples that have both: {both}" if name in ("x", "y") else f"fill them, {name}.filled(0)"
        raise ValueError(f"{name}: has masked entries; {way}")
    try:
        return np.asarray(value)
    except ValueError as error:
        got = "got a ragged sequence; make its rows equally long, or pass them one by one"
        raise ValueError(f"{name}: wants a vector or a column of numbers, {got}") from error
    except MemoryError:
        raise
    except Exception as error:  # what another library raises: of tensors in a list that require a gradient, for one
        got = f"a {type(value).__name__} that numpy cannot read ({error})"
        raise TypeError(f"{name}: wants real numbers, got {got}; make a list or an array of it") from None


def _refuse_odd_tensor(value: Any, name: str) -> Any:
    """The tensor, as data: detached, with real values."""
    import torch

    if value.is_meta:
        raise TypeError(f"{name}: wants values, got a tensor on the meta device; make it on another")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: wants a dense tensor, got layout {value.layout}; pass {name}.to_dense()")
    if value.is_complex():
        dtype = str(value.dtype).removeprefix("torch.")
        raise TypeError(f"{name}: wants real numbers, got dtype {dtype}; {_way_out('c', name, 1)}")
    return value.detach()


def _from_tensor(value: Any, name: str) -> Array:
    import torch

    value = _refuse_odd_tensor(value, name).cpu()
    if value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64):
        value = value.float()  # bfloat16 and the float8 kinds, which numpy lacks
    try:
        result: Array = value.resolve_conj().resolve_neg().numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"{name}: wants a tensor whose values can be read, got {value.dtype}: {error}; pass {name}.double()"
        ) from None
    return result
