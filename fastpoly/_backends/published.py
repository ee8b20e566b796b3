"""The post's five loops as backends: the steps of `fastpoly.reference`, taken in portions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import reference
from .._arrays import Array
from .._monitor import Monitor
from .._portions import run_in_portions
from .._problem import FitProblem
from .._result import Trajectory


def _guessed_step_seconds(problem: FitProblem) -> float:
    """What a step costs, within a factor of 3: the calls, and 40 ns for each power of each sample."""
    return 50e-6 + 40e-9 * len(problem.x) * (problem.degree + 1)


def numpy_loop(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """`numpy`."""
    x, y = (samples.reshape(-1, 1) for samples in problem.arrays())

    def walk(weights: Array, steps: int) -> tuple[Array, Array]:
        w = weights.reshape(-1, 1).copy()
        mse = np.empty(steps, problem.storage)
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported once, by fit
            for i in range(steps):
                mse[i] = reference.numpy_step(x, y, w, problem.learn_rate)
        return w.reshape(-1), mse

    return run_in_portions(problem, monitor, _advance(walk), _guessed_step_seconds(problem))


def torch_loop(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """`torch`."""
    return _torch(problem, monitor, reference.torch_step, "cpu")


def torch_gpu_loop(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """`torch-gpu`."""
    return _torch(problem, monitor, reference.torch_step, "cuda")


def autograd_loop(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """`torch-autograd`."""
    return _torch(problem, monitor, reference.autograd_step, "cpu")


def autograd_gpu_loop(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """`torch-autograd-gpu`."""
    return _torch(problem, monitor, reference.autograd_step, "cuda")


def _torch(problem: FitProblem, monitor: Monitor, step: Callable[..., Any], device: str) -> Trajectory:
    import torch

    with torch.inference_mode(False):  # whatever mode the caller is in
        return _torch_run(problem, monitor, step, device)


def _torch_run(problem: FitProblem, monitor: Monitor, step: Callable[..., Any], device: str) -> Trajectory:
    import torch

    x, y = (samples.clone().reshape(-1, 1) for samples in problem.tensors(device))

    def walk(weights: Array, steps: int) -> tuple[Array, Array]:
        w = torch.tensor(weights, device=device).reshape(-1, 1)
        w.requires_grad_(step is reference.autograd_step)
        mse = torch.empty(steps, dtype=w.dtype, device=device)
        with torch.enable_grad():
            for i in range(steps):
                mse[i] = step(x, y, w, problem.learn_rate)
        return w.detach().reshape(-1).cpu().numpy(), mse.cpu().numpy()

    return run_in_portions(problem, monitor, _advance(walk), _guessed_step_seconds(problem))


def _advance(walk: Callable[[Array, int], tuple[Array, Array]]) -> Callable[..., tuple[Array, int]]:
    """Make an Advance of `walk`, which takes steps blindly: where the mse leaves the floats, walk there once more."""

    def advance(weights: Array, steps: int, every: int, wait: int, trace: Array) -> tuple[Array, int]:
        new_weights, mse = walk(weights, steps)
        finite = np.isfinite(mse)
        if not finite.all():
            steps = int(np.argmin(finite))
            new_weights, mse = walk(weights, steps)
        recorded = mse[wait::every]
        trace[: recorded.size] = recorded
        return new_weights, steps

    return advance
