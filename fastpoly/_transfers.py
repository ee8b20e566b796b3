"""Numbers to a GPU and back: one copy for many arrays, through memory that it reads and writes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch

from ._arrays import Array

ALIGNED = 16
"""Bytes: Triton compiles another kernel for an address that is no multiple of it."""

SMALL = 2**20
"""Bytes that are worth a copy on the CPU, so that one copy to the GPU does for all: a tenth of a millisecond."""


def uploaded(arrays: Sequence[Array], device: torch.device) -> list[torch.Tensor]:
    """Arrays of one dimension and one dtype, on a device."""
    sizes = [_padded(len(array), array.itemsize) for array in arrays]
    if sum(sizes) * arrays[0].itemsize > SMALL:
        return [torch.from_numpy(array).to(device) for array in arrays]
    here = _room(sum(sizes), torch.from_numpy(arrays[0]).dtype, device)
    values, start = here.numpy(), 0
    for array, size in zip(arrays, sizes, strict=True):
        values[start : start + len(array)] = array
        start += size
    there = here.to(device, non_blocking=True)  # torch keeps `here` until it has been read
    starts = accumulate(sizes, initial=0)
    return [there[start : start + len(array)] for start, array in zip(starts, arrays, strict=False)]


class Returned:
    """What a launch writes, on a device, and comes back together.

    Attributes:
        weights, taken, trace: there: numbers, how many steps were taken (1,) int32, and rows of a trace.
    """

    def __init__(self, weights: int, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        sizes = [_padded(weights, dtype.itemsize), ALIGNED // dtype.itemsize, rows]
        self._there = torch.empty(sum(sizes), dtype=dtype, device=device)
        self.weights, self.trace = self._there[:weights], self._there[sizes[0] + sizes[1] :]
        self.taken = self._there[sizes[0] : sizes[0] + sizes[1]].view(torch.int32)[:1]
        self._here = self._there if device.type == "cpu" else _room(sum(sizes), dtype, device)
        values = self._here.numpy()
        self._weights, self._trace = values[:weights], values[sizes[0] + sizes[1] :]
        self._taken = values[sizes[0] : sizes[0] + sizes[1]].view(np.int32)

    def bring(self, rows: int) -> tuple[Array, int, Array]:
        """Wait for all that was launched, and give weights, steps and the first rows of the trace.

        They are overwritten when they are brought again.
        """
        if self._here is not self._there:
            end = len(self._here) - len(self._trace) + rows
            self._here[:end].copy_(self._there[:end], non_blocking=True)
            torch.cuda.current_stream(self._there.device).synchronize()
        return self._weights, int(self._taken[0]), self._trace[:rows]


def _room(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Memory of the CPU that a GPU can copy by itself; torch keeps it for the next call."""
    return torch.empty(size, dtype=dtype, pin_memory=device.type == "cuda")


def _padded(count: int, itemsize: int) -> int:
    """So many elements and those up to where the next ones may begin."""
    return -(-count * itemsize // ALIGNED) * ALIGNED // itemsize
