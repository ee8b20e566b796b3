"""The fused loop of the CPU run as the Python that it is: no compiling, and every access to memory is checked.

With `install()`, backend="fused" computes with numpy arrays of a register's length. A plan is then tried in
milliseconds where LLVM takes a second; a place outside of an array is an AssertionError, and scratch is NaN before it
is written to. What it cannot show is what `fastpoly_kernels.formulas` and LLVM do.
"""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastpoly._fuse import machine, program


class Pointer:
    """An array, of which registers of `lanes` elements are read and written."""

    def __init__(self, array, lanes):
        self.array, self.lanes = array, lanes

    def __getitem__(self, place):
        assert 0 <= place < self.array.size, f"{place} of {self.array.size} elements is read"
        return self.array[place]

    def __setitem__(self, place, value):
        assert 0 <= place < self.array.size, f"{place} of {self.array.size} elements is written"
        self.array[place] = value

    def register(self, place):
        """The lanes from a place on."""
        assert 0 <= place <= self.array.size - self.lanes, (
            f"{self.lanes} elements from {place} on, of {self.array.size}"
        )
        return self.array[place : place + self.lanes]


def load(array, place):
    return array.register(place).copy()


def store(array, place, register):
    assert np.shape(register) == (array.lanes,), f"{np.shape(register)} is no register of {array.lanes}"
    array.register(place)[:] = register


def narrow(array):
    return Pointer(array.array, machine.register_bits() // 8 // array.array.itemsize)


def widened(register, array):
    whole = np.zeros(array.lanes, register.dtype)
    whole[: len(register)] = register
    return whole


def splat(number, array):
    return np.full(array.lanes, number, array.array.dtype)


_counting = threading.Lock()


def meet(counter, count):
    with _counting:
        counter.array[0] += 1
    while counter.array[0] < count:
        time.sleep(0)


def one_by_one(function):
    """A function of `math`, of registers; NaN where it has no value."""

    def of_one(number):
        try:
            return function(number)
        except (ValueError, OverflowError):
            return math.inf if number == number else math.nan

    def of_all(numbers):
        return np.vectorize(of_one, otypes=[float])(numbers).astype(np.asarray(numbers).dtype)[()]

    return of_all


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


NAMES = {
    "math": math,
    "aligned_stack": lambda: None,
    "first_lanes": lambda array, count: np.arange(array.lanes) < count,
    "masked": lambda mask, register: np.where(mask, register, register.dtype.type(0)),
    "inverse": np.logical_not,
    "total": np.sum,
    "product": np.prod,
    "largest": np.max,
    "smallest": np.min,
    "nearest": np.rint,
    "where": lambda mask, a, b: np.where(mask, a, b)[()],
    "pow": np.power,
    **{name: globals()[name] for name in ("load", "store", "narrow", "widened", "splat", "meet", "sigmoid")},
    **{name: one_by_one(getattr(math, name)) for name in ("erf", "erfc", "lgamma")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("acos", "acosh", "asin", "asinh", "atan", "atanh")},
    **{name: getattr(np, name) for name in ("absolute", "ceil", "floor", "maximum", "minimum", "trunc", "float32")},
    **{name: getattr(np, name) for name in ("cos", "cosh", "exp", "exp2", "expm1", "fmod", "log", "log10", "log1p")},
    **{name: getattr(np, name) for name in ("log2", "sin", "sinh", "sqrt", "tan", "tanh", "float64")},
}


def advance(self, steps, every, wait, out):
    """As `program.Run.advance`."""
    written = self.program.written
    kernel = _kernel(written.text)
    count = written.layout.threads
    counter = np.zeros(1, np.int64)

    def part(thread, carry):
        arrays = (carry, self.program.data, self.scratch[thread], out.reshape(-1))
        shared = (self.room, counter) if count > 1 else ()
        pointers = [Pointer(array, written.layout.lanes) for array in (*arrays, *shared)]
        number = (thread,) if count > 1 else ()
        with np.errstate(all="ignore"):
            return kernel(*pointers[:4], steps, every, wait, *pointers[4:], *number)

    for scratch in self.scratch:
        scratch[:] = np.nan
    carries = [self.carry, *(self.carry.copy() for _ in range(count - 1))]
    with ThreadPoolExecutor(count) as pool:
        return next(iter(list(pool.map(part, range(count), carries))))


def _kernel(text):
    namespace = dict(NAMES)
    exec(text[text.index("def kernel(") :], namespace)
    return namespace["kernel"]


def install(patch):
    """Let backend="fused" be this, by a pytest.MonkeyPatch."""
    patch.setattr(program, "compiled", lambda *_: None)
    patch.setattr(program.Run, "advance", advance)
