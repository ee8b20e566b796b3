"""Where a trace or the large buffers of a kernel lie: on huge pages of memory.

The system maps memory page by page, when each is first touched: 200 times for the 800 kB of the post's trace in
float32. In a virtual machine that is a good part of a fit in one kernel. A huge page is touched once.
"""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np

from ._arrays import Array

HUGE_BYTES = 2**21
"""A huge page on x86, and on ARM where pages are of 4 KiB."""


def uninitialised(shape: int | tuple[int, ...], dtype: Any = np.float64) -> Array:
    """`numpy.empty`, faster to fill for the first time where Linux has huge pages for who asks for them.

    numpy asks for them from 4 MiB on, wherever the array begins; this one begins where a page does. The rest of its
    last page is lost, which is why it must be a quarter of one.
    """
    dtype = np.dtype(dtype)
    size = (shape if isinstance(shape, int) else math.prod(shape)) * dtype.itemsize
    if size < HUGE_BYTES // 4:
        return np.empty(shape, dtype)
    room = np.empty(max(size + HUGE_BYTES, 2 * HUGE_BYTES), np.uint8)
    start = -room.ctypes.data % HUGE_BYTES
    array: Array = room[start : start + size].view(dtype)
    return array.reshape(shape)


def zeros_in_huge_pages(size: int) -> Array | None:
    """So many zero bytes or more, in pages of which few are enough for the processor to know them all; None if the
    system has no such pages. Rows of a matrix of many samples lie in a page each otherwise.

    numpy's own zeros may lie in memory that has been mapped in small pages before.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        pages = mmap.mmap(-1, size + HUGE_BYTES)
        pages.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return None
    found = np.frombuffer(pages, np.uint8)
    return found[-found.ctypes.data % HUGE_BYTES :]
