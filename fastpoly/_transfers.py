"""Numbers to a GPU and back: one copy for many arrays, through memory that it reads and writes by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ._arrays import Array

ALIGNED = 16
"""Bytes: what Triton compiles another kernel for where an address is no multiple of it."""

SMALL = 2**20
"""Bytes that are worth a copy on the CPU, so that one copy to the GPU does for all: a tenth of a millisecond."""


def uploaded(arrays: Sequence[Array], device: torch.device) -> list[torch.Tensor]:
    """The arrays on a device."""
    starts, end = _places([array.nbytes for array in arrays])
    if end > SMALL:
        return [torch.from_numpy(array).to(device) for array in arrays]
    here = _room(end, device)
    parts = [here[start : start + array.nbytes] for start, array in zip(starts, arrays, strict=True)]
    for part, array in zip(parts, arrays, strict=True):
        part.numpy()[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    there = here.to(device, non_blocking=True)  # torch keeps `here` until it has been read
    return [
        there[start : start + array.nbytes].view(torch.from_numpy(array[:0]).dtype).view(array.shape)
        for start, array in zip(starts, arrays, strict=True)
    ]


class Returned:
    """Tensors on a device that come back together.

    Attributes:
        tensors: there.
    """

    def __init__(self, sizes: Sequence[tuple[int, torch.dtype]], device: torch.device) -> None:
        self._parts = [(count * dtype.itemsize, dtype) for count, dtype in sizes]
        self._starts, end = _places([size for size, _ in self._parts])
        self._there = torch.empty(end, dtype=torch.uint8, device=device)
        self._here = self._there if device.type == "cpu" else _room(end, device)
        self.tensors = self._views(self._there)
        self._arrays = [view.numpy() for view in self._views(self._here)]

    def bring(self, rows: int) -> list[Array]:
        """Wait for all that was launched, and give the arrays; of the last one, which is copied, so many elements.

        They are overwritten when they are brought again.
        """
        if self._here is not self._there:
            end = self._starts[-1] + rows * self._parts[-1][1].itemsize
            self._here[:end].copy_(self._there[:end], non_blocking=True)
            torch.cuda.current_stream(self._there.device).synchronize()
        return [*self._arrays[:-1], self._arrays[-1][:rows]]

    def _views(self, room: torch.Tensor) -> list[torch.Tensor]:
        places = zip(self._starts, self._parts, strict=True)
        return [room[start : start + size].view(dtype) for start, (size, dtype) in places]


def _room(size: int, device: torch.device) -> torch.Tensor:
    """Bytes on the CPU that a GPU can copy by itself; torch keeps them for the next call."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")


def _places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where things of so many bytes begin, one after the other, and where the last one ends."""
    starts, end = [], 0
    for size in sizes:
        starts.append(-(-end // ALIGNED) * ALIGNED)
        end = starts[-1] + size
    return starts, end
