"""Threads, as many as there are cores for this process; kernels release the GIL, so they are as good as processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def in_threads(function: Callable[[Given], Made], items: Sequence[Given]) -> list[Made]:
    """function(item) for each item, in order."""
    if len(items) == 1:
        return [function(items[0])]
    with ThreadPoolExecutor(min(len(items), cores())) as pool:
        return list(pool.map(function, items))


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
