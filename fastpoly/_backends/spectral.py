"""`spectral`: every step at once, in numpy alone, or on the device where the samples lie.

Gradient descent on a linear model with squared error multiplies the residual's component along the k-th singular vector
of the power matrix V by 1 - a_k a step, a_k = learn_rate (2/n) s_k**2. With z the residual's components at the start
and rho what lies outside V's range,

    mse_t = (rho**2 + sum_k z_k**2 (1 - a_k)**(2 t)) / n,    w_t = w_0 + sum_k v_k z_k (1 - (1 - a_k)**t) / s_k,

and since q**(B i + j) = q**(B i) q**j, a trace of T values is the product of two matrices of sqrt(T) rows.

s, v and z come from the triangle of a QR decomposition of [V | y - V w_0], taken in blocks of rows for tall data, so
that the condition number is not squared and V never lies in memory whole. Householder QR of blocks is backward stable:
s and z are those of a matrix that differs from V by a few (degree + 2) eps of its norm per level, of which there are
four for 10**6 samples at degree 4. Chunks of 2**20 samples have a triangle each, and these are merged in pairs.

A component that grows (a learn rate beyond the stability limit) may leave float64 as a factor and not in the product,
however small z**2 is: there exponents are added before exp. So every mse is, to 1e-10 of itself, one of residuals that
are each off by a few eps of the largest |y| + sum_k |w_k x**k|; a sum of squares below 1e-290 has fewer digits, as in
the loop.

Of samples on a device a triangle comes to the CPU, which takes the singular values of so small a matrix sooner; the
trace is a product of two thin matrices on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastpoly_kernels.aside import imported

from .._arrays import Array, beside, computable, device_of, empty, is_chunked, is_tensor, namespace, to_device
from .._minimum import Minimum, log_factor
from .._monitor import Monitor
from .._pages import uninitialised
from .._problem import FitProblem
from .._result import Trajectory

BLOCK = 4096
"""Samples up to which V itself is decomposed; beyond, a part of its rows at a time."""

CHUNK = 2**20
"""Samples that have a triangle of their own, whatever threads or chunks of a dask array there are."""

BLOCK_ON_DEVICE = 2**20
"""Samples to a QR decomposition on a device: 48 MiB of rows at degree 4."""

ONE_THREAD = 9000
"""Numbers in such a part. From 9,216 on OpenBLAS shares the products of a QR decomposition among threads, each of some
microseconds; where another process holds a core, all wait for the scheduler: 20 ms instead of 0.1 ms."""

SMALL_PRODUCT = 2**18
"""Multiplications in a matrix product up to which OpenBLAS stays in one thread. This product waits for memory and not
for cores, and where another process holds one of them, for the scheduler: 16 ms instead of 0.1 ms."""

LOG_UNDERFLOW = -700.0
"""Exponents below are as good as none: e**-700 is 1e-304, the last that is no denormal number."""

LOG_NEGLIGIBLE = -75.0
"""Below this exponent, e**-75 = 3e-33, a component is lost in the rounding errors of rho**2, some 5e-32."""


def train(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """See the module's docstring."""
    rows = rows_of(problem, monitor)
    if monitor.interrupted:
        return Trajectory(problem.initial_weights, np.empty(0), 0)
    minimum = minimum_from(problem, rows)
    return diverge(problem.on_cpu(), monitor) if minimum is None else train_towards(problem, minimum, monitor)


def rows_of(problem: FitProblem, monitor: Monitor) -> Array:
    """[V | y - V w_0] of few samples, else a triangle of its QR decomposition; in numpy."""
    start, scale, device = problem.initial_weights, problem.scale, device_of(problem.x, problem.y)
    with np.errstate(over="ignore", invalid="ignore"):
        if device is None and len(problem.x) <= BLOCK:
            return np.asarray(_rows(*problem.arrays(), start, scale))
        x, y = (problem.x, problem.y) if device is None else problem.tensors(device)
        return np.asarray(to_device(triangle(x, y, start, monitor, scale), None))


def train_towards(problem: FitProblem, minimum: Minimum, monitor: Monitor) -> Trajectory:
    """The run, once it is known where it goes; its trace where the samples lie."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = descended(minimum, problem.learn_rate, problem.steps)
        if found is None:
            return diverge(problem.on_cpu(), monitor)
        count, device = problem.rows(found.steps), device_of(problem.x, problem.y)
        trace = found.modes.mse(len(problem.x), count, problem.trace_every or 1, device)
    monitor.report(found.steps, problem.steps)
    return found.trajectory(trace)


@dataclass(frozen=True)
class Solution:
    """All of a run but its trace, which `modes` has.

    Attributes:
        modes: what the residual is made of at the start.
        weights, steps, diverged_at, minimum: as in Trajectory.
    """

    modes: Modes
    weights: Array
    steps: int
    diverged_at: int | None
    minimum: Minimum

    def trajectory(self, trace: Any) -> Trajectory:
        """With its trace."""
        stable = not self.modes.grows
        return Trajectory(self.weights, trace, self.steps, self.diverged_at, stable, self.minimum)


def minimum_from(problem: FitProblem, rows: Array) -> Minimum | None:
    """Where the descent goes, from what `rows_of` gives; None if powers leave float64.

    Raises:
        ValueError: a sample is NaN or infinite.
    """
    finite = np.isfinite(rows).all()
    if problem.degree == 0 or not finite:  # rows of degree 0 do not hold x
        problem.refuse_nonfinite()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return Minimum.of(rows, len(problem.x), problem.initial_weights, problem.penalty) if finite else None


def descended(minimum: Minimum, learn_rate: float, steps: int) -> Solution | None:
    """The run towards a minimum; None if the learn rate leaves float64."""
    rate = learn_rate * 2 / minimum.n
    if not math.isfinite(rate * minimum.s[0] * minimum.s[0]):
        return None
    modes = Modes(minimum.s, minimum.z, minimum.rho, rate)
    diverged_at = modes.first_overflow(steps)
    steps = steps if diverged_at is None else diverged_at
    weights = minimum.start + minimum.v.T @ modes.progress(steps)
    if diverged_at is None and not np.isfinite(weights).all():
        diverged_at = steps
    return Solution(modes, weights, steps, diverged_at, minimum)


def diverge(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """Where powers or the learn rate leave float64: leave it to the loop, which diverges at once.

    Raises:
        ValueError: the loop cannot, as it knows nothing of sigma, sample_weight and ridge.
    """
    if problem.weighted:
        raise ValueError("x, y and sigma: wants powers and a learn rate that float64 can hold; scale x or y down")
    from . import numba_loop

    return numba_loop.train(problem, monitor)


def _rows(x: Any, y: Any, start: Any, scale: Any = None) -> Any:
    """[V | y - V start], column by column, each row multiplied by its scale."""
    xp = namespace(x)
    rows = empty(x, (len(start) + 1, len(x))).T
    rows[:, 0] = 1
    for k in range(1, len(start)):
        xp.multiply(rows[:, k - 1], x, out=rows[:, k])
    xp.subtract(y, rows[:, :-1] @ start, out=rows[:, -1])
    if scale is not None:
        rows *= scale[:, None]
    return rows


def triangle(x: Any, y: Any, start: Any, monitor: Monitor, scale: Any = None) -> Any:
    """A matrix of at most degree + 2 rows with the singular values of `_rows`, see `triangle_of`.

    Each block is converted by itself: samples in a file, or of another dtype, are never in memory whole.
    """
    if is_chunked(x):
        of_chunks = partial(_triangle_of_chunks, start=start)
        return imported("fastpoly._dask.samples").reduced((x, y), CHUNK, of_chunks, _merged)
    start, scale = beside(x, start), None if scale is None else beside(x, scale)

    def rows(part: slice) -> Any:
        samples = (s[part] if is_tensor(s) else computable(s[part], np.float64) for s in (x, y))
        return _rows(*samples, start, None if scale is None else scale[part])

    block = BLOCK_ON_DEVICE if is_tensor(x) else max(ONE_THREAD // (len(start) + 1), 4 * len(start))
    if is_tensor(x) or len(x) <= CHUNK:
        return triangle_of(rows, range(len(x)), block, monitor)
    from .threads import in_threads

    chunks = [range(i, min(i + CHUNK, len(x))) for i in range(0, len(x), CHUNK)]
    with monitor.listening():
        return _merged(in_threads(lambda chunk: triangle_of(rows, chunk, block, monitor.child()), chunks))


def _triangle_of_chunks(x: Array, y: Array, start: Array) -> Array:
    """The same of some samples of a dask array."""
    return np.asarray(triangle(x, y, start, Monitor()))


def _merged(triangles: list[Array]) -> Array:
    """R of the QR decomposition of all, in a tree of pairs; the first that is not finite, if one is not."""
    while len(triangles) > 1:
        pairs = [triangles[i : i + 2] for i in range(0, len(triangles), 2)]
        bad = next((one for one in triangles if not np.isfinite(one).all()), None)
        if bad is not None:
            return bad
        triangles = [
            pair[0] if len(pair) == 1 else np.asarray(np.linalg.qr(np.concatenate(pair), mode="r")) for pair in pairs
        ]
    return triangles[0]


def triangle_of(rows: Callable[[slice], Any], among: range, block: int, monitor: Monitor) -> Any:
    """R of the QR decomposition of some rows, from blocks of them; if a row is not finite, its block."""
    found: list[Any] = []  # triangles, which are decomposed together when there are rows enough

    def decomposed(part: Any) -> Any:
        r = namespace(part).linalg.qr(part, mode="r")
        return r[1] if is_tensor(part) else np.asarray(r)

    with monitor.listening():
        for first in among[::block]:
            part = rows(slice(first, min(first + block, among.stop)))
            if monitor.interrupted or not bool(namespace(part).isfinite(part).all()):
                return part
            found.append(decomposed(part))
            if len(found) * part.shape[1] > block:
                found = [decomposed(namespace(part).concatenate(found))]
    return decomposed(namespace(found[0]).concatenate(found))


class Modes:
    """The residual in the singular basis of V, the slowest component first.

    Attributes:
        s: singular values.
        z: the residual's component along each, at the start.
        rho: the residual outside V's range, which no step changes.
        log: log |1 - a|, by which the logarithm of each component changes a step.
        odd: 1 - a is negative: the component changes sign in every step.
    """

    def __init__(self, s: Array, z: Array, rho: float, rate: float) -> None:
        self.s, self.z, self.rho = s, z, rho
        self.log, self.odd = log_factor(rate * s * s)

    def mse(self, n: int, count: int, every: int, device: Any = None) -> Any:
        """The mean over n samples of the squared residual before steps 0, every, 2 every, ..., `count` of them.

        An array, or a tensor on the device.
        """
        if count == 0:
            return to_device(np.empty(0), device)
        if self.grows:
            return to_device(self.mse_by_exponents(n, count, every), device)
        coarse, fine, fades = self.factors(n, count, every)
        if device is not None:
            return (to_device(coarse, device).T @ to_device(fine, device)).reshape(-1)[:count]
        height, width = coarse.shape[1], fine.shape[1]
        trace = uninitialised((height, width))
        i, alive = 0, len(fades)
        while i < height:
            while fades[alive - 1] * i < LOG_NEGLIGIBLE:
                alive -= 1
            rows = slice(i, i + max(1, SMALL_PRODUCT // (alive * width)))
            np.matmul(coarse[:alive, rows].T, fine[:alive], out=trace[rows])
            i = rows.stop
        return trace.reshape(-1)[:count]

    @property
    def grows(self) -> bool:
        """Does a component grow? Its factors may leave float64 where the products don't."""
        return bool(self.log.max() > 0)

    def mse_by_exponents(self, n: int, count: int, every: int) -> Array:
        """As `mse`, an exponential for each component at each step."""
        trace = uninitialised(count)
        start = 2 * np.log(np.abs(self.z)) - math.log(n)
        for first in range(0, count, SMALL_PRODUCT):
            at = 2.0 * every * np.arange(first, min(first + SMALL_PRODUCT, count))
            total = np.full(len(at), self.rho**2 / n)
            for log, begin in zip(self.log.tolist(), start.tolist(), strict=True):
                total += np.exp(log * at + begin)
            trace[first : first + len(at)] = total
        return trace

    def factors(self, n: int, count: int, every: int) -> tuple[Array, Array, list[float]]:
        """coarse (m, height) and fine (m, width), of which mse is coarse.T @ fine, row after row.

        And by how much a row changes the exponent of each of the m components, of which rho is the first.
        """
        width = min(math.isqrt(count - 1) + 1, 2048)
        height = -(-count // width)
        # singular values fall, so the last component is the slowest, unless some change sign
        slowest_first = self.log.argsort()[::-1] if self.odd.any() else slice(None, None, -1)
        # rho comes before all: sums that start above zero never pass through denormal numbers, which are slow
        log, start = np.zeros((2, self.z.size + 1))
        log[1:] = 2.0 * every * self.log[slowest_first]
        start[0], start[1:] = self.rho, self.z[slowest_first]
        at = np.arange(float(height + width))  # rows, then the places in a row
        at[:height] *= width
        at[height:] -= height
        decay = np.multiply.outer(log, at)
        np.exp(np.maximum(decay, LOG_UNDERFLOW, out=decay), out=decay)
        coarse, fine = decay[:, :height] * (start * start / n)[:, None], decay[:, height:]
        return coarse, fine, (log * width).tolist()

    def first_overflow(self, steps: int) -> int | None:
        """The first step below `steps` whose sum of squares is beyond float64, or None."""
        if steps == 0 or (self.log.max() <= 0 and math.isfinite(self.z @ self.z + self.rho**2)):
            return None  # it starts within range, and nothing grows
        start = 2 * np.log(np.abs(self.z))

        def overflows(step: int) -> bool:
            return not np.isfinite(np.exp(2.0 * step * self.log + start).sum() + self.rho**2)

        if overflows(0):
            return 0
        if not overflows(steps - 1):
            return None
        below, above = -1, steps - 1  # once a component overflows, it does so for good: bisection finds where
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if overflows(middle) else (middle, above)
        return above

    def progress(self, steps: int) -> Array:
        """z (1 - (1 - a)**steps) / s: what the weights have gained along each right singular vector."""
        gained = self.z * gain(self.log, self.odd, self.s, steps)
        large = steps * self.log > -LOG_UNDERFLOW  # there the 1 is lost, and z may be as small as the power is large
        if large.any():
            power = np.copysign(np.exp(steps * self.log + np.log(np.abs(self.z))), self.z)
            sign = np.where(self.odd & (steps % 2 == 1), 1.0, -1.0)
            gained = np.where(large, sign * power / self.s, gained)
        return gained


def gain(log: Any, odd: Any, s: Any, steps: int) -> Any:
    """(1 - (1 - a)**steps) / s, and 0 where s is: what a residual of 1 along a component adds to the weights."""
    xp = namespace(log)
    gained = -xp.expm1(steps * log)
    if steps % 2:
        gained = xp.where(odd, 2 - gained, gained)
    return xp.where(s == 0, 0.0, gained / s)
