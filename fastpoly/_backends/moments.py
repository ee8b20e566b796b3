"""The moments of samples of any number, in one pass: blocks in compiled code, chunks across threads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastpoly_kernels.moments import power_sums

from .._arrays import Array, computable
from .._monitor import Monitor
from .threads import in_threads

CHUNK = 2**20
"""Samples to a chunk: 8 MiB of x and of y, which bounds the memory of a conversion, and 1 ms of work or more."""


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
        sums = chunks[0].sum(axis=1) if len(chunks) == 1 else _exact_sums(np.concatenate(chunks, axis=1))
        powers, products = sums[: 2 * degree + 1], sums[2 * degree + 1 : -1]
        k = np.arange(degree + 1)
        return cls(n, powers[k[:, None] + k], products, float(sums[-1]))

    @property
    def largest(self) -> float:
        """The largest sum; NaN or infinite if a sample is, or if a sum overflowed."""
        return float(np.max([np.abs(self.matrix).max(), np.abs(self.vector).max(), self.square]))


def moments(x: Array, y: Array, degree: int, monitor: Monitor) -> Moments | None:
    """One pass over the samples, each touched once; None if Ctrl-C came before it ended.

    Sums within a block of 512 are plain, sums of blocks compensated, sums of chunks exact (math.fsum): see
    `fastpoly_kernels.moments.power_sums` for the bound. Chunks do not depend on the number of threads, so neither do
    the bits. A memory-mapped file is read through as it stands: a chunk that is float64 is not even copied.
    """

    def of_chunk(start: int) -> Array:
        sums = np.zeros((2, 3 * degree + 3))
        if not monitor.interrupted:
            part = slice(start, start + CHUNK)
            chunk = (computable(samples[part], np.float64) for samples in (x, y))
            power_sums(*chunk, sums)
        return sums.T

    chunks = in_threads(of_chunk, range(0, x.size, CHUNK))
    return None if monitor.interrupted else Moments.of(x.size, degree, chunks)


def _exact_sums(rows: Array) -> Array:
    """The sum of each row, rounded once; NaN where it overflows or holds what is not finite."""

    def total(row: Array) -> float:
        try:
            return math.fsum(row)
        except (OverflowError, ValueError):
            return math.nan

    return np.array([total(row) for row in rows])
