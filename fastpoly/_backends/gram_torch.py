"""`gram` on the device where the samples lie: moments by matrix products, recorded steps thousands abreast.

See `gram` for the method. As there, s steps are one matrix, and the state of the recorded step t + L is a matrix times
that of step t; but L is thousands here, not the lanes of a register. The first L states are made by doubling: from the
states of steps 0 to k - 1, one product makes those of k to 2 k - 1. So a trace of T values is log2(L) + T / L products,
as accurate as `gram`'s own; an eigendecomposition of H would do with one product, but where H is nearly singular its
small eigenvalues are wrong by eps times its largest, and `spectral` is there for that. It is, too, where sums of
squares cancel (`gram.CANCELLED`).

A run that does not converge, or is rounded to float32 after every step (`mixed`), has its steps taken one after the
other, which a CPU does faster: the moments go there, and not the samples.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from .._arrays import to_device
from .._batch import BatchProblem, BatchTrajectory
from .._monitor import Monitor
from .._problem import FitProblem
from .._result import Trajectory
from . import gram, numba_loop
from .gram import Change
from .moments import Moments
from .spectral_torch import fill_part, fill_singly, powers_of

CHUNK = 2**20
"""Samples whose powers lie in memory at a time: 48 MiB at degree 4."""

SUM = 512
"""Samples to a plain sum; sums are then added as torch adds, by trees. As in `moments`."""

VALUES = 2**22
"""Numbers in the states of the recorded steps that are computed abreast: 32 MiB, some milliseconds between two looks at
Ctrl-C, by what is said of GPUs."""

Tensor = torch.Tensor


def train(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """See the module's docstring."""
    assert problem.device is not None
    x, y = problem.tensors(problem.device)
    products = _products(x[None], y[None], problem.degree, monitor)
    if monitor.interrupted:
        return Trajectory(problem.initial_weights, np.empty(0, problem.storage), 0)
    sums = _moments(products[0], len(x))
    if problem.degree == 0 or not np.isfinite(sums.largest):  # sums of degree 0 do not hold x
        problem.refuse_nonfinite()
    rate = problem.learn_rate * 2 / len(x)
    if not gram.in_range(sums, rate, problem.initial_weights):
        return numba_loop.train(problem.on_cpu(), monitor)
    if problem.precision != "double" or rate * np.linalg.eigvalsh(sums.matrix)[-1] > 2:
        return gram.one_by_one(problem, monitor, sums, rate)
    start = torch.from_numpy(problem.initial_weights).to(x)[None]
    weights, trace, rows = _abreast(
        products, start, x.new_tensor([rate]), len(x), problem.steps, problem.trace_every, monitor
    )
    found = Trajectory(weights[0], trace[0], problem.steps, stable=True)
    if rows < trace.shape[1]:
        done = rows * (problem.trace_every or 1)
        found = Trajectory(Change.of_a_step(sums, rate).times(done)(problem.initial_weights), trace[0, :rows], done)
    cancelled = gram.cancels(sums, to_device(found.weights, None))
    if rows and cancelled:
        return gram.closed_form(dataclasses.replace(problem, steps=found.steps), monitor)
    return found if cancelled else dataclasses.replace(found, minimum=gram.minimum_of(problem, sums))


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """All problems at a time, in portions of bounded memory; `mixed` on the CPU."""
    if problem.precision != "double":
        return gram.train_many(problem.on_cpu(), monitor)
    n, m = problem.y.shape[1], problem.degree + 1
    weights = problem.y.new_empty((problem.batch, m))
    mse = problem.y.new_full((problem.batch, problem.rows(problem.steps)), math.nan)
    diverged_at = torch.full((problem.batch,), -1, device=problem.y.device)
    portion, done = max(1, VALUES // min(n, CHUNK) // m), 0
    while done < problem.batch and not monitor.interrupted:
        part = slice(done, min(done + portion, problem.batch))
        if not _fill_part(problem.part(part), weights[part], mse[part], diverged_at[part], monitor.of_a_part()):
            break
        done = part.stop
        monitor.report(done, problem.batch)
    return BatchTrajectory(weights[:done], mse[:done], diverged_at[:done])


def _fill_part(problem: BatchProblem, weights: Tensor, mse: Tensor, diverged_at: Tensor, monitor: Monitor) -> bool:
    """Fill the rows of a BatchTrajectory; False if Ctrl-C came before they were."""
    n = problem.y.shape[1]
    products = _products(problem.x.expand_as(problem.y), problem.y, problem.degree, monitor)
    rates = torch.from_numpy(problem.learn_rates * 2 / n).to(products)
    start = torch.from_numpy(problem.initial_weights).to(products)
    fine = products.isfinite().all(2).all(1) & _in_range(products, rates, start)
    matrices = torch.where(fine[:, None, None], products[:, :-1, :-1], 0.0)
    fine &= rates * torch.linalg.eigvalsh(matrices)[:, -1] <= 2
    products = torch.where(fine[:, None, None], products, 0.0)
    found, trace, rows = _abreast(products, start, rates, n, problem.steps, problem.trace_every, monitor)
    weights.copy_(found)
    mse.copy_(trace)
    if 0 < rows == mse.shape[1]:
        _mend(fine & _cancels(products, found), problem, weights, mse, monitor)
    fill_singly(~fine, problem, gram.train, weights, mse, diverged_at, monitor)
    return not monitor.interrupted and rows == mse.shape[1]


def _in_range(products: Tensor, rates: Tensor, start: Tensor) -> Tensor:
    """As `gram.in_range`."""
    largest = products.abs().amax((1, 2))
    matrices, sizes = products[:, :-1, :-1], start.abs()
    lost = ((matrices.diagonal(0, 1, 2) < gram.SMALLEST) & (sizes != 0)).any(1)
    square = products[:, -1, -1] + ((matrices @ sizes[:, :, None])[:, :, 0] * sizes).sum(1)
    nothing = (products[:, :-1, -1] == 0).all(1) & (sizes == 0).all(1)
    large = square >= gram.SMALLEST * (1 / rates).clamp_min(1.0)
    return (rates > 1e-290) & (rates * largest < 1e290) & ~lost & (nothing | large)


def _cancels(products: Tensor, weights: Tensor) -> Tensor:
    """As `gram.cancels`."""
    matrices, vectors, w = products[:, :-1, :-1], products[:, :-1, -1], weights[:, :, None]
    sizes = w.abs()
    terms = (matrices.abs() @ sizes)[:, :, 0] + 2 * vectors.abs()
    left = (matrices @ w)[:, :, 0] - 2 * vectors
    square = products[:, -1, -1]
    return square + (left * weights).sum(1) < gram.CANCELLED["double"] * (square + (terms * sizes[:, :, 0]).sum(1))


def _mend(which: Tensor, problem: BatchProblem, weights: Tensor, mse: Tensor, monitor: Monitor) -> None:
    """The problems that `which` says by singular values, since their sums of squares have lost digits."""
    if not bool(which.any()):
        return
    others = torch.empty_like(weights), torch.empty_like(mse), torch.full_like(which, -1, dtype=torch.int64)
    fill_part(problem, *others, monitor)
    weights[which], mse[which] = others[0][which], others[1][which]


def _products(x: Tensor, y: Tensor, degree: int, monitor: Monitor) -> Tensor:
    """[V | y]^T [V | y] of each problem: H and h, and y.y in the corner; x and y are (batch, n)."""
    parts = []
    with monitor.listening():
        for first in range(0, x.shape[1], CHUNK):
            part = slice(first, first + CHUNK)
            rows = torch.cat([powers_of(x[:, part], degree + 1), y[:, part, None]], -1)
            whole = rows.shape[1] // SUM * SUM
            blocks = rows[:, :whole].reshape(len(x), -1, SUM, degree + 2)
            rest = rows[:, whole:]
            parts.append((blocks.mT @ blocks).sum(1) + rest.mT @ rest)
            if monitor.interrupted:
                break
    return torch.stack(parts).sum(0)


def _moments(products: Tensor, n: int) -> Moments:
    table = products.cpu().numpy()
    return Moments(n, table[:-1, :-1].copy(), table[:-1, -1].copy(), float(table[-1, -1]))


def _abreast(
    products: Tensor, start: Tensor, rates: Tensor, n: int, steps: int, every: int | None, monitor: Monitor
) -> tuple[Tensor, Tensor, int]:
    """Weights (batch, m) after `steps` steps, the trace (batch, rows), and how many rows were filled before Ctrl-C."""
    matrix, vector, square = products[:, :-1, :-1], products[:, :-1, -1:], products[:, -1:, -1]
    step = Change(rates[:, None, None] * vector, rates[:, None, None] * matrix)
    weights = step.times(steps)(start[:, :, None])[:, :, 0]
    rows = 0 if every is None else -(-steps // every)
    trace = start.new_empty((len(start), rows))
    if rows == 0:
        return weights, trace, 0
    states, change = start[:, :, None], step.times(every or 1)
    while states.shape[2] < rows and states.numel() * 2 <= max(VALUES, 2 * start.numel()):
        states, change = torch.cat([states, change(states)], 2), change.then(change)
    lanes = states.shape[2]
    done = 0
    while done < rows:
        errors = square + ((matrix @ states - 2 * vector) * states).sum(1)
        trace[:, done : done + lanes] = (errors.clamp_min(0) / n)[:, : rows - done]
        done = min(done + lanes, rows)
        states = change(states)
        monitor.report(min(done * (every or 1), steps), steps)
        if monitor.interrupted:
            break
    return weights, trace, done
