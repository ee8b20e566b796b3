"""What nests read that others have read before them, and whether the processor's first cache still holds it."""

from __future__ import annotations

import itertools

import numpy as np

from .expressions import Memory
from .plan import Nest, leaves
from .schedule import Schedule

FIRST_CACHE = 32_768
"""Bytes of the first cache of common processors."""


def memories(nest: Nest) -> set[Memory]:
    """What a nest reads or writes."""
    found = {root.memory for root in nest.roots if root.memory is not None}
    for root in nest.roots:
        loads = (leaf.args[1] if leaf.op == "kept" else leaf for leaf in leaves(root.value))
        found.update(load.args[0] for load in loads if load.op == "load")
    return found


def reads_again(schedule: Schedule, dtype: str, nest: Nest) -> bool:
    """Has an earlier nest of the step gone through something of this nest's that the first cache cannot hold whole?

    What it went through last is still there: this nest should begin with that, at the end.
    """
    before = itertools.takewhile(lambda other: other is not nest, schedule.nests)
    known = set().union(*map(memories, before))
    return any(memory.size * np.dtype(dtype).itemsize > FIRST_CACHE for memory in memories(nest) & known)
