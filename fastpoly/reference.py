"""The yardstick: the loops of the 2017 post, brought to current numpy and torch and nothing else.

Source: "Comparing Numpy, Pytorch, and autograd on CPU and GPU", October 2017, section "Wrapped up in one function". The
operations are the post's in the post's order, down to making the powers of x twice in every step and the exponents on
the CPU when x is on the GPU: that is what was timed. What changed since: `Variable` merged into Tensor, `x.shape`
regained its `[0]`, and one function became three steps and a loop, so that the backends can take the same steps in
portions.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ._problem import checked_rate

if TYPE_CHECKING:
    import torch


def poly(x: Any, w: Any) -> Any:
    """poly(x,w), where x is Nx1 samples and w is D+1x1 coefficients for x^0, x^1, ..., x^D."""
    if isinstance(x, np.ndarray):
        return dpoly_dw(x, w) @ w
    return dpoly_dw(x, w).mm(w)


def dpoly_dw(x: Any, w: Any) -> Any:
    """The powers of x, N x D+1."""
    D = w.shape[0]
    if isinstance(x, np.ndarray):
        exponents = np.arange(D, dtype=x.dtype)
    else:
        import torch

        exponents = torch.arange(0.0, D).type(x.type())
    return x**exponents


def numpy_step(x: Any, y: Any, w: Any, learnRate: float) -> Any:
    """One step: change w in place, return the mse before the change."""
    nSamples = x.shape[0]
    yModel = poly(x, w)
    mse = ((y - yModel) ** 2).mean()
    grad = -2 / nSamples * dpoly_dw(x, w).T @ (y - yModel)
    w -= learnRate * grad
    return mse


def torch_step(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, learnRate: float) -> Any:
    """One step: change w in place, return the mse before the change."""
    nSamples = x.shape[0]
    yModel = poly(x, w)
    mse = ((y - yModel) ** 2).mean()
    grad = -2 / nSamples * dpoly_dw(x, w).t().mm(y - yModel)
    w -= learnRate * grad
    return mse


def autograd_step(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, learnRate: float) -> Any:
    """One step: change w in place by its autograd gradient, return the mse before the change."""
    yModel = poly(x, w)
    mse = ((y - yModel) ** 2).mean()
    if w.grad is not None:
        w.grad.data.zero_()
    mse.backward()
    assert w.grad is not None
    w.data -= learnRate * w.grad.data
    return mse.data


def train(
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    nSteps: int = 200000,
    learnRate: float = 0.00001,
    degree: int = 4,
    use_torch: bool = False,
    use_autograd: bool = False,
    use_gpu: bool = False,
) -> dict[str, Any]:
    """The post's `train`.

    Args:
        x, y: (N, 1) numpy arrays.
        nSteps, learnRate, degree: of the run.
        use_torch: torch float32 tensors instead of numpy; implied by the other two.
        use_autograd: the gradient from torch's autograd.
        use_gpu: tensors on the GPU.

    Returns:
        mseTrace (nSteps,) and w (degree + 1, 1), both float32: numpy, or torch where the flags say so (w.requires_grad
        with use_autograd); learnRate, seconds and the three flags.

    Raises:
        TypeError, ValueError: what the loop would fail on, or compute something else of: a vector makes a matrix of
            y - yModel. NaN and infinity are let through, as the post's loop does.
    """
    learnRate = checked_rate(x, y, nSteps, learnRate, degree)
    startTime = time.time()

    # Make sure use_torch is true if either of use_autograd or use_gpu is true
    use_torch = use_torch or use_autograd or use_gpu

    # Initialize weights to be all zeros, and an array to store the trace of MSE values
    w: Any = np.zeros((degree + 1, 1), dtype=np.float32)
    mseTrace: Any = np.zeros(nSteps, dtype=np.float32)
    step: Any = numpy_step
    if use_torch:
        import torch

        device = "cuda" if use_gpu else "cpu"
        x, y, w, mseTrace = (torch.from_numpy(a).float().to(device) for a in (x, y, w, mseTrace))  # type: ignore[assignment]
        step = torch_step
    if use_autograd:
        w.requires_grad_(True)
        step = autograd_step

    # Train for nSteps passes through data set
    for i in range(nSteps):
        mseTrace[i] = step(x, y, w, learnRate)

    elapsedTime = time.time() - startTime

    return {
        "mseTrace": mseTrace,
        "w": w,
        "learnRate": learnRate,
        "seconds": elapsedTime,
        "use_torch": use_torch,
        "use_autograd": use_autograd,
        "use_gpu": use_gpu,
    }
