"""The post's autograd loop with nothing of autograd left in it: traced from torch once, then fused or compiled.

The gradient is torch's own, of the post's loss. The samples' powers do not change from step to step: they are data.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from .. import reference
from .._arrays import Array
from .._fuse.program import bound, write_for_cpu
from .._fuse.traced import Writer, Written, traced
from .._loops import begin
from .._monitor import Monitor
from .._portions import run_in_portions
from .._preparing import preparing
from .._problem import FitProblem
from .._repeat import Repeated, run
from .._result import Trajectory

if TYPE_CHECKING:
    from .._loops import Begin, Step

    Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def fused(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """In one kernel; see `fastpoly._fuse`."""
    data = _data(problem)
    samples = len(data[1])
    with preparing():
        written, order = _written(samples, problem.degree, data[0].dtype, write_for_cpu)
        program = bound(written, [data[position] for position in order])
    run = program.start([_column(problem.initial_weights, data[0])])

    def advance(_: Array, steps: int, every: int, wait: int, trace: Array) -> tuple[Array, int]:
        taken = run.advance(steps, every, wait, trace)
        return run.carried()[0].numpy().reshape(-1), taken

    return run_in_portions(problem, monitor, advance, 1e-9 * (20 + written.cycles))


def fused_gpu(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """In one kernel of the GPU; see `fastpoly._fuse.gpu_program`."""
    from .._fuse.gpu_program import bound, write_for_gpu
    from .._loops.fused_gpu import GpuLoop

    data = _data(problem, gpu(problem.device))
    with preparing():
        written, order = _written(len(data[1]), problem.degree, data[0].dtype, write_for_gpu)
        program = bound(written, [data[position] for position in order], data[0].device)
        loop = GpuLoop(program, [_column(problem.initial_weights, data[0])])
    return _trajectory(run("triton", loop, problem.steps, problem.trace_every, monitor, finite=1))


def compiled(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """By torch.compile, in blocks of steps; see `fastpoly._loops.compiled`."""
    data = _data(problem)
    start = [_column(problem.initial_weights, data[0])]
    with preparing():
        loop = begin("compile")(_step(*data), start, {}, 0)
    return _trajectory(run("compile", loop, problem.steps, problem.trace_every, monitor, finite=1))


def compiled_gpu(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """By torch.compile, blocks of steps captured in CUDA graphs; see `fastpoly._loops.compiled`."""
    return graphed("compile", begin("compile"), problem, monitor, gpu(problem.device))


def cudagraph(problem: FitProblem, monitor: Monitor) -> Trajectory:
    """As torch runs it, blocks of steps captured in CUDA graphs; see `fastpoly._loops.cudagraph`."""
    return graphed("cudagraph", begin("cudagraph"), problem, monitor, gpu(problem.device))


def gpu(device: torch.device | None) -> torch.device:
    """The caller's GPU, or the current one."""
    if device is not None and device.type == "cuda":
        return device
    return torch.device("cuda", torch.cuda.current_device())


KEPT_POWERS = 2**20
"""Powers of samples up to which graphs are kept for the next problem of the same size: 8 MiB and what they need."""

KEPT = 8
"""Sizes of problems whose graphs are kept."""

_idle: dict[tuple[object, ...], tuple[Any, Tensors]] = {}
"""Loops that are not in use, and the data that they read, by what they are for."""


def graphed(name: str, begin_loop: Begin, problem: FitProblem, monitor: Monitor, device: torch.device) -> Trajectory:
    """By a `ReplayedLoop`, one for all problems of a size: capturing or compiling takes as long as many steps.

    Graphs know addresses, so that another problem's samples are copied to where those of the first were.
    """
    data = _data(problem, device)
    start = [_column(problem.initial_weights, data[0])]
    key = (name, data[0].shape, data[0].dtype, device)
    kept = _idle.pop(key, None)  # taken out: another thread makes its own meanwhile
    if kept is None:
        data = (data[0], data[1].clone(), data[2])  # y may be the caller's own
        with preparing():
            loop = begin_loop(_step(*data), start, {}, 0)
    else:
        loop, buffers = kept
        for buffer, values in zip(buffers, data, strict=True):
            buffer.copy_(values)
        loop.restart(start)
        data = buffers
    ran = run(name, loop, problem.steps, problem.trace_every, monitor, finite=1)
    if data[0].numel() <= KEPT_POWERS:
        if len(_idle) >= KEPT:
            _idle.clear()
        _idle[key] = loop, data
    return _trajectory(ran)


def _trajectory(ran: Repeated) -> Trajectory:
    return Trajectory(ran.carried[0].reshape(-1), ran.results[0], ran.steps, ran.steps if ran.stopped else None)


def _data(problem: FitProblem, device: torch.device | str = "cpu") -> Tensors:
    """The powers of x (n, degree + 1), y (n, 1) and the learn rate."""
    x, y = (samples.reshape(-1, 1) for samples in problem.tensors(device))
    return reference.dpoly_dw(x, x.new_empty(problem.degree + 1)), y, x.new_tensor(problem.learn_rate)


def _column(weights: Array, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(weights).to(like).reshape(-1, 1)


def _step(powers: torch.Tensor, y: torch.Tensor, rate: torch.Tensor) -> Step:
    def step(carried: list[torch.Tensor]) -> list[torch.Tensor]:
        w = carried[0].detach().requires_grad_()
        with torch.enable_grad():
            loss = ((y - powers.mm(w)) ** 2).mean()
            (gradient,) = torch.autograd.grad(loss, w)
        return [carried[0] - rate * gradient, loss.detach()]

    return step


@lru_cache(maxsize=64)
def _written(samples: int, degree: int, dtype: torch.dtype, write: Writer) -> tuple[Written, tuple[int, ...]]:
    """The kernel for so many samples, and which of `_data` each of its constants is."""
    powers = torch.zeros(samples, degree + 1, dtype=dtype)
    powers[:, 0] = 1  # as in every problem's; the others' values mean nothing
    data = (
        powers,
        torch.empty(samples, 1, dtype=dtype),
        torch.empty((), dtype=dtype),
    )
    names = dict(zip(map(id, data), ("powers", "y", "learn_rate"), strict=True))
    written, constants = traced(_step(*data), [torch.zeros(degree + 1, 1, dtype=dtype)], names, 0, write)
    addresses = [tensor.data_ptr() for tensor in data]
    return written, tuple(addresses.index(constant.data_ptr()) for constant in constants)
