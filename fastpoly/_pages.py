"""Where a trace lies: on one huge page of memory, if it is a large part of one.

The system maps memory page by page, when each is first touched: 200 times for the 800 kB of the post's trace in float32,
2 us a time in a virtual machine, together a tenth of a fit in one kernel. One page of 2 MiB takes 60 us.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import Array

HUGE_BYTES = 2**21
"""A huge page on x86, and on ARM where pages are of 4 KiB."""


def uninitialised(shape: int | tuple[int, ...], dtype: Any = np.float64) -> Array:
    """`numpy.empty`, faster to fill for the first time where Linux has huge pages for who asks for them.

    numpy asks for them from 4 MiB on, so that one lies whole in that: the array lies there. Its share of the page need
    not be used up, which is why it must be a quarter.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    if not HUGE_BYTES // 4 <= size <= HUGE_BYTES:
        return np.empty(shape, dtype)
    room = np.empty(2 * HUGE_BYTES, np.uint8)
    start = -room.ctypes.data % HUGE_BYTES
    return room[start : start + size].view(dtype).reshape(shape)
