"""`gram`: the same steps from the moments of the samples, whatever their number.

In `mixed` the weights are rounded to float32 after every step, so the steps are taken one by one. In `double` a run
that converges is linear all the way: s steps are one matrix, made in log2(s) squarings, and the recorded steps are
computed abreast (`recurrence`). Such a run costs what its trace costs; 10**12 steps with 100 recorded take no time.

Accuracy: with H and h each right to a few eps, the weights after t steps are off by at most a few t eps times the
largest weight: 1e-10 for the 200,000 steps of the post (measured: 1e-12). A sum of squares y.y + w.(H w - 2 h) is off
by a few eps of the terms in it, y.y + 2 |w|.|h| + |w|.|H| |w|, which are far larger than the sum where y has an offset
or is fitted well. Where less than CANCELLED of them is left, what cannot cancel takes over: in `double` `spectral`, for
steps taken one by one the triangle of a QR decomposition (`fastpoly_kernels.gram.descend_triangle`). So every mse is,
to 1e-9 of itself (1e-7 in `mixed`, the rounding to float32), one of residuals that are each off by a few eps of the
largest |y| + sum_k |w_k x**k|, which is what the loop over the samples can promise. And where a sum is beyond float64,
or so small that its digits leave it at the other end, the loop over the samples takes the steps.

Samples on a device stay there: moments by matrix products, the recorded steps thousands abreast. Steps that are taken
one by one a CPU takes faster: the moments go there, and not the samples.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fastpoly_kernels.gram import descend_moments, descend_triangle

from .._arrays import Array, beside, device_of, namespace, to_device
from .._minimum import Minimum
from .._monitor import Monitor
from .._portions import run_in_portions
from .._problem import FitProblem
from .._result import Trajectory
from . import numba_loop, spectral
from .moments import Moments, moments, moments_on
from .recurrence import AffineStep, by_lanes, by_products

CANCELLED = {"double": 2.0**-17, "mixed": 2.0**-20}
"""What must be left of the terms of a sum of squares: then it is right to some 1e-10, or 1e-9, of itself. The post's
run ends at 2**-16."""

SMALLEST = 1e-280
"""A sum of squares, or of powers of x, below this is about to lose digits to the end of float64."""


def train(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """See the module's docstring."""
    device = device_of(problem.x, problem.y)
    if device is None:
        return train_by(problem, monitor, moments(problem.x, problem.y, problem.degree, monitor))
    return train_by(problem, monitor, moments_on(device, *problem.tensors(device), problem.degree, monitor), device)


def train_by(problem: FitProblem, monitor: Monitor, sums: Moments | None, device: Any = None) -> Trajectory:
    """The run, once the moments are there, its trace on `device`; None: Ctrl-C came before they were."""
    if sums is None:
        return Trajectory(problem.initial_weights, np.empty(0, problem.storage), 0)
    if problem.degree == 0 or not np.isfinite(sums.largest):  # sums of degree 0 do not hold x
        problem.refuse_nonfinite()
    rate = problem.learn_rate * 2 / sums.n
    if not in_range(sums.products[None], np.array([rate]), problem.initial_weights[None])[0]:
        return numba_loop.train(problem.on_cpu(), monitor)
    if problem.precision == "double" and rate * np.linalg.eigvalsh(sums.matrix)[-1] <= 2:
        if device is None:
            trajectory = by_lanes(problem, monitor, sums, rate)
        else:
            trajectory = _on_device(problem, monitor, sums, rate, device)
        cancelled = cancels(sums.products[None], to_device(trajectory.weights, None)[None])[0]
        if len(trajectory.mse) and cancelled:
            return closed_form(dataclasses.replace(problem, steps=trajectory.steps), monitor)
        return trajectory if cancelled else dataclasses.replace(trajectory, minimum=minimum_of(problem, sums))
    return one_by_one(problem, monitor, sums, rate)


def _on_device(problem: FitProblem, monitor: Monitor, sums: Moments, rate: float, device: Any) -> Trajectory:
    """As `by_lanes`, where the samples lie."""
    given = (to_device(values, device)[None] for values in (sums.products, problem.initial_weights, np.array(rate)))
    weights, trace, rows = by_products(*given, sums.n, problem.steps, problem.trace_every, monitor)
    if rows == trace.shape[1]:
        return Trajectory(weights[0], trace[0], problem.steps, stable=True)
    done = rows * (problem.trace_every or 1)
    return Trajectory(AffineStep.of_a_step(sums, rate).times(done)(problem.initial_weights), trace[0, :rows], done)


def minimum_of(problem: FitProblem, sums: Moments) -> Minimum | None:
    """What the moments say of the minimum, where they do."""
    return Minimum.of_moments(sums.matrix, sums.vector, sums.square, sums.n, problem.initial_weights)


def in_range(products: Any, rates: Any, start: Any) -> Any:
    """Can recurrences be computed? Else one stands still, diverges at once, or has numbers too small for its sums.

    Args:
        products: (batch, m + 1, m + 1), see `moments.products`.
        rates: (batch,), learn_rate 2 / n.
        start: (batch, m) weights, in numpy.
    """
    matrices, vectors, square = products[:, :-1, :-1], products[:, :-1, -1], products[:, -1, -1]
    with np.errstate(all="ignore"):
        fine = (rates > 1e-290) & (rates * namespace(products).amax(abs(products), (1, 2)) < 1e290)
        still = (vectors == 0).all(1)  # all is zero, and stays so, if the weights are
        if start.any():
            sizes = abs(beside(products, start))
            # what such a weight does is lost in its moments, and shows only if the weight is enormous
            fine &= ~((matrices.diagonal(0, 1, 2) < SMALLEST) & (sizes != 0)).any(1)
            still &= (sizes == 0).all(1)
            square = square + ((matrices @ sizes[:, :, None])[:, :, 0] * sizes).sum(1)
        return fine & (still | (square >= SMALLEST * (1 / rates).clip(1.0)))


def cancels(products: Any, weights: Any) -> Any:
    """Have sums of squares at these weights lost digits? Along a run that converges they are smallest at the end.

    Args:
        products: (batch, m + 1, m + 1), see `moments.products`.
        weights: (batch, m).
    """
    matrices, vectors, w = products[:, :-1, :-1], products[:, :-1, -1], weights[:, :, None]
    square, sizes = products[:, -1, -1], abs(w)
    terms = (abs(matrices) @ sizes)[:, :, 0] + 2 * abs(vectors)
    left = (matrices @ w)[:, :, 0] - 2 * vectors
    return square + (left * weights).sum(1) < CANCELLED["double"] * (square + (terms * sizes[:, :, 0]).sum(1))


def least_sum(sums: Moments, precision: str) -> float:
    """A sum of squares below which digits have cancelled, at any weights between 0 and those of least squares.

    It depends on the samples alone, so that a run that is cut has the same; sum_k |w_k| |column k of V| bounds the
    terms. Where the solution is imprecise, it is too large, and the steps are slower.
    """
    try:
        solution = np.linalg.solve(sums.matrix, sums.vector)
    except np.linalg.LinAlgError:
        solution = np.linalg.lstsq(sums.matrix, sums.vector, rcond=None)[0]
    largest = float(np.abs(solution) @ np.sqrt(sums.matrix.diagonal()))
    return CANCELLED[precision] * (sums.square + min(1e150, largest) ** 2)  # of NaN this makes 1e150


def closed_form(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """By `spectral`, where the samples lie; the trajectory in numpy. After Ctrl-C, too: of what was done."""
    found = spectral.train(problem, Monitor() if monitor.interrupted else monitor)
    return dataclasses.replace(found, weights=to_device(found.weights, None), mse=to_device(found.mse, None))


def triangle_of(problem: FitProblem, monitor: Monitor) -> Array | None:
    """R, z and rho of the QR decomposition of [V | y], as (degree + 2, degree + 2); None after Ctrl-C."""
    start = np.zeros(problem.degree + 1)
    device = device_of(problem.x, problem.y)
    x, y = (problem.x, problem.y) if device is None else problem.tensors(device)
    found = to_device(spectral.triangle(x, y, start, monitor), None)
    if monitor.interrupted:
        return None
    square = np.zeros((len(start) + 1, len(start) + 1))  # there may be fewer samples than that
    square[: len(found)] = found
    return square


def one_by_one(problem: FitProblem, monitor: Monitor, sums: Moments, rate: float) -> Trajectory:
    change = AffineStep.of_a_step(sums, rate).table()
    least = max(least_sum(sums, problem.precision), SMALLEST / rate)
    scales = (rate * sums.square, 1 / rate, 1 / sums.n, least)
    tables: list[tuple[Array, Array, float]] = []  # of the triangle, once it is needed

    def advance(weights: Array, steps: int, every: int, wait: int, trace: Array) -> tuple[Array, int]:
        start, taken, cancelled = tuple(float(weight) for weight in weights), 0, bool(tables)
        if not tables:
            start, taken, cancelled = descend_moments(change, *scales, start, steps, every, wait, trace)
        if cancelled and not tables:
            triangle = triangle_of(problem, monitor)
            if triangle is None:
                return np.array(start, problem.storage), taken
            tables.append(_triangle_tables(triangle, rate))
        if cancelled:
            rows = max(0, -(-(taken - wait) // every))
            wait += rows * every - taken
            start, more = descend_triangle(change, *scales, *tables[0], start, steps - taken, every, wait, trace[rows:])
            taken += more
        return np.array(start, problem.storage), taken

    return run_in_portions(problem, monitor, advance, 0.3e-9 * (problem.degree + 2) ** 2)


def _triangle_tables(triangle: Array, rate: float) -> tuple[Array, Array, float]:
    """What `descend_triangle` takes: the tables of z - R w and of rate R^T, and rho**2."""
    r, z = triangle[:-1, :-1], triangle[:-1, -1]
    residual, back = np.empty((2, len(z), len(z) + 1))
    residual[:, 0], residual[:, 1:] = z, -r
    back[:, 0], back[:, 1:] = 0, rate * r.T
    return residual, back, float(triangle[-1, -1] ** 2)
