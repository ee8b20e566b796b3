"""Large arrays that every call makes anew, in memory that those of earlier calls have left.

Memory of many pages goes back to the system when it is free, and comes from it again page by page, each cleared: that
can take longer than what is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._arrays import Array
from .._pages import uninitialised

LARGE = 2**17
"""Bytes from which it pays: an array of so many is one that the C library may ask the system for."""

KEPT = 2
"""Arrays of one kind for which memory is kept while nobody has them: the caller has the last ones and gets new ones."""


class _Loan:
    """What an array is based on whose memory goes back to where it is from when nobody has the array any more."""

    __slots__ = ("free", "room")

    def __init__(self, room: Array, free: list[Array]) -> None:
        self.room, self.free = room, free

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.room.__array_interface__

    def __del__(self) -> None:
        if len(self.free) < KEPT:
            self.free.append(self.room)


class Copies:
    """Copies of an array, which changes from one to the next."""

    def __init__(self, of: Array) -> None:
        self.of = of
        order = sorted(range(of.ndim), key=lambda d: -of.strides[d])
        self._shape = tuple(of.shape[d] for d in order)
        self._back = tuple(sorted(range(of.ndim), key=order.__getitem__))
        self._free: list[Array] = []

    def __call__(self) -> Array:
        """A copy that lies as the array does."""
        try:
            room = self._free.pop()
        except IndexError:
            room = uninitialised(self._shape, self.of.dtype)
        copy: Array = np.asarray(_Loan(room, self._free)).transpose(self._back)
        copy[...] = self.of
        return copy


def copies(of: Array) -> Callable[[], Array]:
    """A function that copies an array, as it lies, as often as wanted."""
    return Copies(of) if of.nbytes >= LARGE else partial(of.copy, "K")
