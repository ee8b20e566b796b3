"""The moments of samples of any number, in one pass: blocks in compiled code, chunks across threads.

On a device a chunk is a matrix product: `products`. There is no one code for both: the kernel makes all sums of a block
in registers, 3 degree + 3 of them, and never a power in memory; a device is fast at products, and twice the numbers
cost it nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from fastpoly_kernels.aside import imported
from fastpoly_kernels.moments import mapped_power_sums, power_sums

from .._arrays import Array, contiguous, is_chunked, namespace, powers_of, tensor_on, to_device
from .._domain import Mapped
from .._monitor import Monitor
from .threads import in_threads

CHUNK = 2**20
"""Samples to a chunk: 8 MiB of x and of y, which bounds the memory of a conversion, and 1 ms of work or more; on a
device 48 MiB of powers at degree 4."""

PIECE = 2**15
"""Samples that are converted at a time: 256 KiB, in the cache. A multiple of what `power_sums` adds up plainly, so that
sums of pieces, one after the other, have the bits of a chunk's."""

SUM = 512
"""Samples to a plain sum on a device; sums are then added as torch adds, by trees. As in `power_sums`."""


@dataclass(frozen=True)
class Moments:
    """Sums over n samples.

    Attributes:
        n: how many.
        matrix: (degree + 1, degree + 1), H = V^T V, V the matrix of powers of x.
        vector: (degree + 1,), h = V^T y.
        square: y.y.
    """

    n: int
    matrix: Array
    vector: Array
    square: float

    @classmethod
    def of(cls, n: int, degree: int, chunks: list[Array]) -> Moments:
        """From the sums of chunks of the samples, added exactly.

        Args:
            chunks: (3 degree + 3, terms) each, the terms of the sums of x**0 to x**(2 degree), of y x**0 to y x**degree
                and of y**2.
        """
        terms = np.concatenate(chunks, axis=1)
        sums = terms.sum(axis=1) if terms.shape[1] == 2 else exact_sums(terms)
        powers, products = sums[: 2 * degree + 1], sums[2 * degree + 1 : -1]
        k = np.arange(degree + 1)
        return cls(n, powers[k[:, None] + k], products, float(sums[-1]))

    @classmethod
    def of_products(cls, n: int, table: Array) -> Moments:
        """From [V | y]^T [V | y]."""
        return cls(n, table[:-1, :-1].copy(), table[:-1, -1].copy(), float(table[-1, -1]))

    @cached_property
    def products(self) -> Array:
        """(degree + 2, degree + 2): [V | y]^T [V | y]."""
        table = np.empty((len(self.vector) + 1, len(self.vector) + 1))
        table[:-1, :-1], table[:-1, -1], table[-1, :-1], table[-1, -1] = (
            self.matrix,
            self.vector,
            self.vector,
            self.square,
        )
        return table

    @property
    def largest(self) -> float:
        """The largest sum; NaN or infinite if a sample is, or if a sum overflowed."""
        return float(np.max([np.abs(self.matrix).max(), np.abs(self.vector).max(), self.square]))


def moments(x: Array, y: Array, degree: int, monitor: Monitor) -> Moments | None:
    """One pass over the samples, each touched once; None if Ctrl-C came before it ended.

    Sums within a block of 512 are plain, sums of blocks compensated, sums of chunks exact (math.fsum): see
    `fastpoly_kernels.moments.power_sums` for the bound. Chunks do not depend on the number of threads, so neither do
    the bits. A memory-mapped file is read through as it stands.
    """
    if is_chunked(x):
        return Moments.of(x.size, degree, [of_chunks(x, y, degree)])

    def of_chunk(start: int) -> Array:
        return np.zeros((3 * degree + 3, 2)) if monitor.interrupted else _terms(x, y, degree, start)

    chunks = in_threads(of_chunk, range(0, x.size, CHUNK))
    return None if monitor.interrupted else Moments.of(x.size, degree, chunks)


def _terms(x: Any, y: Any, degree: int, start: int) -> Array:
    """(3 degree + 3, 2): the sums of the chunk that starts there, and what they have lost.

    Nothing of a chunk's size is made: the system hands out memory page by page, which takes longer than the sums.
    """
    sums = np.zeros((2, 3 * degree + 3))
    given, domain = (x.given, x.domain) if isinstance(x, Mapped) else (x, None)
    ready = all(one.dtype == np.float64 and one.flags.c_contiguous for one in (given, y))
    stop = min(start + CHUNK, len(y))
    for first in range(start, stop, CHUNK if ready else PIECE):
        part = slice(first, min(first + (CHUNK if ready else PIECE), stop))
        at, values = (contiguous(one[part], np.float64) for one in (given, y))
        if domain is None:
            power_sums(at, values, sums)
        else:
            mapped_power_sums(at, values, domain, sums)
    return sums.T


def of_chunks(x: Any, y: Any, degree: int) -> Array:
    """Terms of the sums of dask's samples, whose chunks need not be ours: a map-reduce, exact to the end."""
    terms = imported("fastpoly._dask.samples").reduced((x, y), CHUNK, partial(_terms_of, degree=degree), _merged)
    return np.asarray(terms)


def _terms_of(x: Any, y: Any, degree: int) -> Array:
    """The same of a few chunks."""
    return _merged([_terms(x, y, degree, start) for start in range(0, len(x), CHUNK)])


def _merged(terms: list[Array]) -> Array:
    """Fewer terms with exactly the same sums."""
    rows = [without_overlap(row) for row in np.concatenate(terms, axis=1).tolist()]
    longest = max(map(len, rows))
    return np.array([row + [0.0] * (longest - len(row)) for row in rows])


def without_overlap(terms: list[float]) -> list[float]:
    """Numbers with exactly the same sum that share no digits: a few dozen at most (Shewchuk 1997, grow-expansion)."""
    partials: list[float] = []
    for term in terms:
        kept, carry = [], term
        for partial_sum in partials:
            total = carry + partial_sum
            part = total - carry
            lost = (carry - (total - part)) + (partial_sum - part)
            if lost:
                kept.append(lost)
            carry = total
        partials = [*kept, carry]
    return partials


def moments_on(device: Any, x: Any, y: Any, degree: int, monitor: Monitor) -> Moments | None:
    """As `moments`, on that device, to which the samples go chunk by chunk if they lie elsewhere."""
    table = products(x[None], y[None], degree, monitor, device)
    return None if monitor.interrupted else Moments.of_products(len(x), to_device(table[0], None))


def products(x: Any, y: Any, degree: int, monitor: Monitor, device: Any) -> Any:
    """[V | y]^T [V | y] of each problem, on `device`: H and h, and y.y in the corner; x and y are (batch, n)."""
    total: Any = 0.0
    with monitor.listening():
        for first in range(0, x.shape[1], CHUNK):
            at, values = (tensor_on(device, samples[:, first : first + CHUNK], np.float64) for samples in (x, y))
            rows = namespace(at).concatenate([powers_of(at, degree + 1), values[..., None]], -1)
            whole = rows.shape[1] // SUM * SUM
            blocks, rest = rows[:, :whole].reshape(len(at), -1, SUM, degree + 2), rows[:, whole:]
            total = total + ((blocks.mT @ blocks).sum(1) + rest.mT @ rest)
            if monitor.interrupted:
                break
    return total


def exact_sums(rows: Array) -> Array:
    """The sum of each row, rounded once; NaN where it overflows or holds what is not finite."""

    def total(row: Array) -> float:
        try:
            return math.fsum(row)
        except (OverflowError, ValueError):
            return math.nan

    return np.array([total(row) for row in rows])
