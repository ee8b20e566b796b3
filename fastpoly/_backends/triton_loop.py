"""`triton`: the whole loop in one kernel on the GPU, a program for each problem.

x and y go to the GPU once; then a launch takes some hundredths of a second of steps, so that Ctrl-C is heard. In
`single` any number of samples goes through the loop. In `double` and `mixed` more than ONE_PROGRAM of them are only
looked at for their moments, on the GPU; `gram` takes the steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastpoly_kernels.triton_descent import Plan, descend, plan

from .._arrays import Array, beside, on_gpu, tensor_on
from .._batch import BatchProblem, BatchTrajectory
from .._monitor import Monitor
from .._portions import next_portion, run_in_portions
from .._problem import PRECISIONS, FitProblem
from .._result import Trajectory
from .._transfers import Returned, uploaded
from . import gram
from .each import fill, in_portions
from .moments import moments_on

ONE_PROGRAM = 2**14
"""Samples that one multiprocessor keeps beside it: 256 KiB of float64 x and y, an H100's whole first-level cache. More
are loaded from afar in every step, by one of 132 multiprocessors, while `gram` looks at each of them once. Reasoned,
not measured; in `single` there is no choice, as float32 sums over the samples are what it means."""

CLOCK = 1.98e9
"""Cycles a second of an H100 or H200."""

GROUP = 2**15
"""Problems to a launch at most: several times what runs at a time (132 multiprocessors, up to 32 programs of one warp
each), so that little of the GPU is idle while the last ones end. After each group progress is reported."""

GROUP_BYTES = 2**27
"""Samples and trace of a group at most, unless one problem alone has more."""


def train(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """See the module's docstring."""
    device = _device(problem.device)
    with torch.cuda.device(device):
        return train_on(device, problem, monitor)


def train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """Groups of problems, each in as many launches as one problem would take."""
    device = _device(problem.device)
    with torch.cuda.device(device):
        return train_many_on(device, problem, monitor)


def _device(device: torch.device | None) -> torch.device:
    """Where the caller's tensors lie if that is a GPU, else the current one."""
    return device if device is not None and device.type == "cuda" else torch.device("cuda")


def train_on(device: torch.device, problem: FitProblem, monitor: Monitor) -> Trajectory:
    """`train`, with the kernel's tensors on `device`; "cpu" is for Triton's interpreter."""
    if _by_moments(problem.precision, len(problem.x)):
        return gram.train_by(problem, monitor, moments_on(device, problem.x, problem.y, problem.degree, monitor))
    run = _Run(problem, device)
    return run_in_portions(problem, monitor, run.advance, run.step_seconds, is_sure=True)


class _Run:
    """A problem on its way through its steps. Its weights stay on the device from portion to portion.

    Attributes:
        step_seconds: what a step takes, about.
    """

    def __init__(self, problem: FitProblem, device: torch.device) -> None:
        n, itemsize = len(problem.x), np.dtype(problem.arithmetic).itemsize
        self._device = device
        self._how = plan(n, problem.degree, itemsize)
        rates = _rates(np.array([problem.learn_rate]), n, problem.arithmetic)
        if on_gpu(problem.x) or on_gpu(problem.y):
            self._x, self._y = (samples.contiguous() for samples in problem.tensors(device))
            (self._rates,) = uploaded([rates], device)
        else:
            self._x, self._y, self._rates = uploaded([*problem.arrays(), rates], device)
        (self._start,) = uploaded([problem.initial_weights], device)
        self._ends: list[Returned] = []  # two in turn: one has what the next portion starts from
        self.step_seconds = step_seconds(self._how, n, problem.degree, itemsize)
        self._dtype = self._start.dtype
        known = (device, self._how, problem.degree, self._y.dtype, self._dtype)
        if known not in _compiled:
            self._launch(self._returned(0), 0, 1, 0)  # compiling is no part of a portion
            _compiled.add(known)

    def advance(self, _: Array, steps: int, every: int, wait: int, trace: Array) -> tuple[Array, int]:
        """See `_portions.Advance`."""
        rows = max(0, -(-(steps - wait) // every))
        end = self._returned(rows)
        self._launch(end, steps, every, wait)
        weights, taken, recorded = end.bring(rows)
        if taken < steps:
            self._launch(end, taken, every, wait)
            rows = max(0, -(-(taken - wait) // every))
            weights, taken, recorded = end.bring(rows)
        trace[:rows] = recorded
        self._start = end.weights
        self._ends.append(end)
        return weights.copy(), taken

    def _launch(self, end: Returned, steps: int, every: int, wait: int) -> None:
        out = end.weights[None], end.taken
        where = self._x, self._y[None], self._start[None], self._rates
        descend(*where, steps, every, wait, end.trace[None], self._how, out)

    def _returned(self, rows: int) -> Returned:
        """Where a portion may write: not where it starts from."""
        spare = self._ends.pop(0) if len(self._ends) > 1 else None
        if spare is not None and len(spare.trace) >= rows:
            return spare
        return Returned(len(self._start), rows, self._dtype, self._device)


_compiled: set[tuple[object, ...]] = set()
"""What kernels are compiled, or loaded, in this process: (device, plan, degree, dtypes)."""


def train_many_on(device: torch.device, problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    """`train_many`, with the kernel's tensors on `device`; "cpu" is for Triton's interpreter."""
    n, precision = problem.y.shape[1], problem.precision

    def fill_part(part: BatchProblem, rows: BatchTrajectory, monitor: Monitor) -> bool:
        if _by_moments(precision, n):
            fill(0, train_on(device, part.one(0), monitor), rows)
        else:
            group = _Group.of(part, device)
            group.run(monitor)
            for row, made in zip(
                (rows.weights, rows.mse, rows.diverged_at), (group.weights, group.mse, group.diverged_at()), strict=True
            ):
                row[:] = beside(row, made)
        return not monitor.interrupted

    size = PRECISIONS[precision][0]().itemsize * 2 * n + problem.storage().itemsize * problem.rows(problem.steps)
    return in_portions(problem, monitor, 1 if _by_moments(precision, n) else min(GROUP, GROUP_BYTES // size), fill_part)


@dataclass(eq=False)
class _Group:
    """Problems on their way through their steps, on the device.

    Attributes:
        x, y, weights, rates: as the kernel takes them.
        mse: (batch, rows).
        taken: (batch,) int64, how many steps each has taken.
        alive: (batch,) bool, whose mse has been finite so far.
    """

    problem: BatchProblem
    x: torch.Tensor
    y: torch.Tensor
    weights: torch.Tensor
    rates: torch.Tensor
    mse: torch.Tensor
    taken: torch.Tensor
    alive: torch.Tensor

    @classmethod
    def of(cls, problem: BatchProblem, device: torch.device) -> _Group:
        number = PRECISIONS[problem.precision][0]
        samples = (tensor_on(device, s, number).contiguous() for s in (problem.x, problem.y))
        weights = torch.from_numpy(np.ascontiguousarray(problem.initial_weights)).to(device)
        rates = torch.from_numpy(_rates(problem.learn_rates, problem.y.shape[1], number)).to(device)
        mse = weights.new_full((problem.batch, problem.rows(problem.steps)), torch.nan)
        taken = torch.zeros(problem.batch, dtype=torch.int64, device=device)
        return cls(problem, *samples, weights, rates, mse, taken, taken == 0)

    def run(self, monitor: Monitor) -> None:
        """All steps, or those before Ctrl-C."""
        problem, done = self.problem, 0
        self.advance(0, 0)  # compiling is no part of a portion
        portion = 1000
        while done < problem.steps and not monitor.interrupted:
            steps = min(portion, problem.steps - done)
            started = time.perf_counter()
            if not self.advance(done, steps):
                break
            done += steps
            portion = next_portion(steps, time.perf_counter() - started)
        every = problem.trace_every or 1
        recorded = torch.arange(self.mse.shape[1], device=self.mse.device) * every
        self.mse.masked_fill_(recorded >= self.taken[:, None], torch.nan)  # after a divergence anything stands there

    def advance(self, done: int, steps: int) -> bool:
        """Take `steps` steps, `done` of which were taken before; is any problem still alive?"""
        every, rows = self.problem.trace_every or 1, self.problem.rows
        wait = steps if self.problem.trace_every is None else -done % every
        trace = self.mse[:, rows(done) : rows(done + steps)]
        wanted = torch.where(self.alive, steps, 0).int()
        # as long as all are alive they take the same number, which the kernel has as a constant of its loop
        number = steps if bool(self.alive.all()) else wanted
        end, taken = descend(self.x, self.y, self.weights, self.rates, number, every, wait, trace)
        alive = self.alive & (taken == wanted)
        if not torch.equal(alive, self.alive):
            end, taken = descend(self.x, self.y, self.weights, self.rates, taken, every, wait, trace)
        self.weights, self.taken, self.alive = end, self.taken + taken, alive
        return bool(alive.any())

    def diverged_at(self) -> torch.Tensor:
        """As in BatchTrajectory."""
        # in the last step of all, whose mse nobody asked for, weights may leave the floats as well
        return torch.where(self.alive & self.weights.isfinite().all(dim=1), -1, self.taken)


def _by_moments(precision: str, n: int) -> bool:
    return precision != "single" and n > ONE_PROGRAM


def _rates(learn_rates: Array, n: int, number: type[np.floating[Any]]) -> Array:
    with np.errstate(over="ignore"):  # an infinite rate diverges, and is reported as that
        return (learn_rates * 2 / n).astype(number)


def step_seconds(how: Plan, n: int, degree: int, itemsize: int) -> float:
    """What a step takes, about: as measured on an H200 at n = 100 and degree 4, in both precisions."""
    words = itemsize // 4
    cycles = 99 + 18 * (degree + 2) * words  # five rounds of shuffles, one after the other
    if how.warps > 1:
        cycles += 420  # barriers, and what goes through shared memory
    samples = -(-n // (32 * min(how.warps, 4))) * (2 * degree + 3) * words
    return (cycles + (1 if how.blocks else 2) * samples) / CLOCK
