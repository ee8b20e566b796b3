"""`value_and_grad`: a loss and its gradient as one call of a kernel, for whoever brings a loop of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._problem import shown, truth
from ._tensors import need_torch, refuse_no_function

BACKENDS = ("auto", "fused", "eager")


def value_and_grad(
    loss: Callable[..., Any], *, has_aux: bool = False, backend: str = "auto"
) -> Callable[..., tuple[Any, Any]]:
    """A function of (params, *data) that returns the loss and its gradient, fused into one kernel.

    The loss is traced with torch's own autograd when it is called with tensors of new shapes, as by `descend`, and
    compiled; every further call runs the kernel, which takes microseconds. For loops that `descend` has not: L-BFGS and
    other solvers of `scipy.optimize.minimize(..., jac=True)`, samplers, tools that ask for one gradient at a time.

    Args:
        loss: takes the params and the data, returns one number. What it reads beside its arguments is read when it is
            traced. It is traced anew when torch has written to such a tensor since, or when a number, string, tensor
            or function that it names itself is another; what else changes in Python, or by numpy in a tensor's memory,
            is not noticed at once: hand it over as data.
        has_aux: the loss returns (number, aux), where aux is a tensor or a list, tuple or dict of such.
        backend: "fused", "eager" (torch's autograd at every call) or "auto": fused, and eager if that cannot be. On a
            GPU "auto" is eager.

    Returns:
        A function f(params, *data) -> (value, gradient), or ((value, aux), gradient). `params` is a tensor, or a list,
        tuple or dict of tensors, nested at will, of one float dtype; the gradient is like it, of new tensors. Tensors
        of data are copied at every call, so that it may change in any way. Where params are numpy arrays, so is what
        is returned, and the value is a float; the loss gets tensors.

    Raises:
        TypeError, ValueError: an argument cannot be meant.
        UnsupportedOperationError: the loss cannot be fused, with `backend="fused"`; or a kernel was found to give
            another number than torch. The first call of a kernel, the 100th, the 1,000th and so on are compared.

    Warns:
        RuntimeWarning: with "auto", once, that the loss cannot be fused, and why.
    """
    need_torch()
    from ._gradients import Gradients

    refuse_no_function(loss, "loss")
    truth(has_aux, "has_aux")
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"backend: wants one of {', '.join(BACKENDS)}, got {shown(backend)}")
    return Gradients(loss, has_aux, backend)
