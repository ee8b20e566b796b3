"""What the page of a kernel imports: registers as arrays of numpy, so that it runs in plain Python as it stands.

The page is `run.source` of a descent. It does what the machine code does, some thousand times slower and without its
rounding of a product and a sum at once. To run it, give it arrays of numpy with as many elements as it reads.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .forking import new_lock
from .functions import FUNCTIONS

Array = np.ndarray[Any, Any]


def load(array: Array, start: int, lanes: int) -> Array:
    """A register: so many elements from `start` on."""
    return array[start : start + lanes].copy()


def store(array: Array, start: int, register: Array) -> None:
    """Write a register."""
    array[start : start + len(register)] = register


def splat(number: Any, lanes: int) -> Array:
    """A number in every lane."""
    return np.full(lanes, number)


def first_lanes(count: int, lanes: int) -> Array:
    """Which lanes are among the first so many?"""
    return np.arange(lanes) < count


def positions(first: int, step: int, lanes: int) -> Array:
    """An index, and in each further lane one that is so much larger."""
    return first + step * np.arange(lanes)


def masked(mask: Array, register: Array) -> Array:
    """Zero where the mask does not hold."""
    return np.where(mask, register, np.asarray(register).dtype.type(0))


def widened(register: Array, lanes: int) -> Array:
    """A register as the first lanes of a longer one, zero in the rest."""
    whole = np.zeros(lanes, register.dtype)
    whole[: len(register)] = register
    return whole


def whole(register: Array) -> Array:
    """The places that a register of floats names."""
    return register.astype(np.int64)


def packed(*numbers: Any) -> Array:
    """Numbers, one in each lane."""
    return np.array(numbers)


def totals(*registers: Array) -> Array:
    """The sums of the lanes of registers, one in each lane."""
    return np.array([register.sum() for register in registers])


def lane(register: Array, at: int) -> Any:
    """The number in one lane."""
    return register[at]


def where(mask: Any, a: Any, b: Any) -> Any:
    """`a` where the mask holds, else `b`."""
    return np.where(mask, a, b)[()]


def are_finite(register: Array) -> Array:
    """Which lanes are?"""
    return np.isfinite(register)


def all_lanes(mask: Array) -> bool:
    """Does it hold in all lanes?"""
    return bool(mask.all())


def aligned_stack() -> None:
    """Machine code keeps registers on the stack; here is none."""


_counting = new_lock()


def meet(counter: Array, count: int) -> None:
    """Wait for the other threads."""
    with _counting:
        counter[0] += 1
    while counter[0] < count:
        time.sleep(0)


float32, float64, inverse = np.float32, np.float64, np.logical_not
total, product, largest, smallest = np.sum, np.prod, np.max, np.min
globals().update({name: function.numpy for name, function in FUNCTIONS.items()})

NAMES = frozenset(name for name in dir() if name.islower() and not name.startswith("_")) - {
    *("annotations", "time", "new_lock", "np")
}
"""What a page may import."""
