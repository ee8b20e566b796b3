"""`train`: the post's function, with the post's names, doing the post's steps in a compiled loop."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import reference
from ._arrays import to_device
from ._backends import missing_cuda, missing_torch, missing_triton
from ._errors import BackendUnavailableError
from ._fit import solve
from ._problem import FitProblem, truth
from ._result import FitResult

if TYPE_CHECKING:
    import torch

_POSTS_NAMES = {"steps": "nSteps", "learn_rate": "learnRate"}


def train(
    x: Any,
    y: Any,
    nSteps: int = 200000,
    learnRate: float = 0.00001,
    degree: int = 4,
    use_torch: bool = False,
    use_autograd: bool = False,
    use_gpu: bool = False,
) -> dict[str, Any]:
    """The post's `train`, with the same names, results and digits, without its loop.

    The flags say what comes back and in which precision, no longer how it is computed: without any, float64 arithmetic
    with float32 weights (`mixed`), as the post's numpy loop; with any, float32 throughout (`single`), as its torch
    loops. With `use_autograd` the gradient is still torch's own, of a kernel traced from its autograd (`descend`).

    Args:
        x, y: n samples: (n, 1) or (n,) numpy arrays, or anything else that `fit` takes.
        nSteps, learnRate, degree: of the run.
        use_torch: return torch tensors; implied by the other two.
        use_autograd: w.requires_grad is set.
        use_gpu: return tensors on the GPU.

    Returns:
        mseTrace (nSteps,) and w (degree + 1, 1), both float32; learnRate; seconds; use_torch, use_autograd, use_gpu. If
        the mse leaves the range of float32, the post's own loop takes the steps that are left.

    Raises:
        TypeError, ValueError, MemoryError, Interrupted: as `fit`.
        BackendUnavailableError: use_gpu without a CUDA GPU, or a torch flag without torch.

    Warns:
        DivergenceWarning: as `fit`.
    """
    started = time.perf_counter()
    use_autograd, use_gpu = truth(use_autograd, "use_autograd"), truth(use_gpu, "use_gpu")
    use_torch = truth(use_torch, "use_torch") or use_autograd or use_gpu
    device = _device(use_torch, use_gpu)
    problem = FitProblem.checked(
        x,
        y,
        degree,
        nSteps,
        learnRate,
        precision="single" if use_torch else "mixed",
        names=_POSTS_NAMES,
        every_sample=False,
    )
    backend = "auto"
    if use_autograd and not use_gpu:
        backend = "fused-autograd"
    elif use_autograd and missing_triton() is None:
        backend = "fused-autograd-gpu"
    result = solve(dataclasses.replace(problem, device=device), backend)
    w, mse_trace = result.weights.reshape(-1, 1), result.mse
    if result.diverged_at is not None:
        mse_trace = _finish(problem, device, w, result, use_autograd)
    elif use_autograd:
        w.requires_grad_(True)
    return {
        "mseTrace": mse_trace,
        "w": w,
        "learnRate": learnRate,
        "seconds": time.perf_counter() - started,
        "use_torch": use_torch,
        "use_autograd": use_autograd,
        "use_gpu": use_gpu,
    }


def _finish(problem: FitProblem, device: torch.device | None, w: Any, result: FitResult, use_autograd: bool) -> Any:
    """Take the steps after the mse left float32 as the post's loop takes them; w in place, the whole trace returned."""
    x, y = (to_device(samples.reshape(-1, 1), device) for samples in problem.arrays())
    step: Callable[..., Any] = reference.numpy_step if device is None else reference.torch_step
    if use_autograd:
        w.requires_grad_(True)
        step = reference.autograd_step
    rest = np.full(problem.steps - result.steps, math.nan, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(rest.size):
            rest[i] = step(x, y, w, problem.learn_rate)
            if bool((w != w).all()):  # all NaN, and so is all that follows
                break
    trace = np.concatenate([np.asarray(result.mse.cpu() if device is not None else result.mse), rest])
    return to_device(trace, device)


def _device(use_torch: bool, use_gpu: bool) -> torch.device | None:
    """Where the post's flags put its tensors; None is numpy."""
    if not use_torch:
        return None
    reason = missing_cuda() if use_gpu else missing_torch()
    if reason is not None:
        raise BackendUnavailableError(f"{'use_gpu' if use_gpu else 'use_torch'}=True cannot run here: {reason}")
    import torch

    return torch.device("cuda" if use_gpu else "cpu")
