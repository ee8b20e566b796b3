"""Tensors into a kernel's arrays, and out of them again; the arrays are numpy's or torch's, on whatever device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .expressions import Memory


def put(array: Any, start: int, memory: Memory | None, values: Any) -> None:
    """Write `values` into `array` (elements,): where `memory` says, or one after the other from `start` on."""
    if memory is None:
        array[start : start + math.prod(values.shape)] = values.reshape(-1)
        return
    left_out = tuple(0 if d not in memory.order else slice(None) for d in range(values.ndim))
    room = _rows(array[None], start, memory)[0, ...]  # an array, though it may be of one number
    room[...] = _permuted(values[left_out], _sorting(_sorting(memory.order))).reshape(room.shape)


def get(array: Any, start: int, memory: Memory | None, shape: Sequence[int]) -> Any:
    """Read from `array` (rows, elements) what `put` has written to each row: (rows, *shape). May be a view."""
    if memory is None:
        return array[:, start : start + math.prod(shape)].reshape(len(array), *shape)
    rows = _rows(array, start, memory)
    found = _permuted(rows, [0, *(place + 1 for place in _sorting(memory.order))])
    sizes = tuple(memory.shape[d] if d in memory.order else 1 for d in range(len(shape)))
    found = found.reshape(len(array), *sizes)
    if sizes == tuple(shape):
        return found
    whole = (len(array), *shape)
    return found.expand(whole) if isinstance(found, torch.Tensor) else np.broadcast_to(found, whole).copy()


def _rows(array: Any, start: int, memory: Memory) -> Any:
    """The part of `array` (rows, ...) that holds a tensor, as (rows, dimensions in the order of memory)."""
    lengths = [memory.shape[d] for d in memory.order]
    padded = array[:, start : start + memory.size].reshape(len(array), *lengths[:-1], memory.padded)
    return padded[..., : lengths[-1]] if lengths else padded[:, 0]


def _sorting(order: Sequence[int]) -> list[int]:
    """Where in `order` the smallest number stands, the second smallest, and so on."""
    return sorted(range(len(order)), key=order.__getitem__)


def _permuted(values: Any, order: Sequence[int]) -> Any:
    return values.permute(tuple(order)) if isinstance(values, torch.Tensor) else values.transpose(order)


Strides = tuple[int, ...]


def strides_of(tensors: Sequence[torch.Tensor]) -> list[Strides | None]:
    """In which strides what is computed from each of these lies; None for those of a tensor made anew."""
    return [None if t.is_contiguous() else torch.empty_like(t, device="meta").stride() for t in tensors]


def in_strides(tensors: Sequence[torch.Tensor], strides: Sequence[Strides | None]) -> list[torch.Tensor]:
    """The same tensors in other strides."""
    return [
        tensor
        if own is None
        else torch.empty_strided(tensor.shape, own, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
        for tensor, own in zip(tensors, strides, strict=True)
    ]
