"""Room for recursion: a graph is followed from its outputs to its inputs, some frames for every operation on the way.

Python's limit of 1,000 frames would end at some 150 operations in a row; a sum of 500 terms has more. Frames of Python
functions lie on the heap (Python 3.11), so that a higher limit costs nothing and endangers nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastpoly_kernels.forking import new_lock

FRAMES = 12
"""For each operation: element, _element, _computed, a rule, broadcast, and again as many for views between."""

_lock = new_lock()
_inside: list[int] = []  # what the threads that are inside want
_before = 0


@contextmanager
def room_for(operations: int) -> Iterator[None]:
    """Raise the interpreter's recursion limit while the block runs, in whatever thread."""
    global _before
    wanted = 1_000 + FRAMES * operations
    with _lock:
        if not _inside:
            _before = sys.getrecursionlimit()
        _inside.append(wanted)
        sys.setrecursionlimit(_before + max(_inside))
    try:
        yield
    finally:
        with _lock:
            _inside.remove(wanted)
            sys.setrecursionlimit(_before + max(_inside, default=0))
