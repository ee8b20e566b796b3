"""The fused loop of the CPU run as the Python that it is: no compiling, and every access to memory is checked.

With `install()`, backend="fused" computes with numpy arrays of a register's length. A plan is then tried in
milliseconds where LLVM takes a second; a place outside of an array is an AssertionError, and scratch is NaN before it
is written to. What it cannot show is what `fastpoly_kernels.formulas` and LLVM do.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastpoly._fuse import program


class Checked(np.ndarray):
    """An array of which no element outside of it is read or written, and no register."""

    def __getitem__(self, place):
        return np.asarray(self)[self.within(place)]

    def __setitem__(self, place, value):
        np.asarray(self)[self.within(place)] = value

    def within(self, place):
        first, last = (place.start, place.stop - 1) if isinstance(place, slice) else (np.min(place), np.max(place))
        assert 0 <= first <= last < self.size, f"{first} to {last} of {self.size} elements"
        return place


def advance(self, steps, every, wait, out):
    """As `program.Run.advance`."""
    written = self.program.written
    kernel = _kernel(written.text)
    count = written.layout.threads
    counter = np.zeros(1, np.int64)

    def part(thread, carry):
        arrays = (carry, self.program.data, self.scratch[thread], out.reshape(-1))
        shared = (self.room, counter) if count > 1 else ()
        pointers = [array.view(Checked) for array in (*arrays, *shared)]
        number = (thread,) if count > 1 else ()
        with np.errstate(all="ignore"):
            return kernel(*pointers[:4], steps, every, wait, *pointers[4:], *number)

    for scratch in self.scratch:
        scratch[:] = np.nan
    carries = [self.carry, *(self.carry.copy() for _ in range(count - 1))]
    with ThreadPoolExecutor(count) as pool:
        return next(iter(list(pool.map(part, range(count), carries))))


def _kernel(text):
    namespace = {}
    exec(text, namespace)
    return namespace["kernel"]


def install(patch):
    """Let backend="fused" be this, by a pytest.MonkeyPatch."""
    patch.setattr(program, "compiled", lambda *_: None)
    patch.setattr(program.Run, "advance", advance)
