"""`least_squares`: scipy's, of residuals in torch, for one problem or for many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._errors import Interrupted
from ._problem import integer
from ._problem import shown as text_of
from ._progress import shown
from ._tensors import need_torch, refuse_no_floats, refuse_no_function

if TYPE_CHECKING:
    import torch

    from ._monitor import Progress
    from ._nonlinear.result import LeastSquaresResult


def least_squares(
    residuals: Callable[..., torch.Tensor],
    params: Any,
    data: Any = (),
    *,
    in_dims: Any = None,
    bounds: Any = None,
    loss: str = "linear",
    f_scale: float = 1.0,
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
    max_nfev: int | None = None,
    jac: str | None = None,
    backend: str = "auto",
    progress: bool | Progress = False,
) -> LeastSquaresResult:
    """Minimize half the sum of squares of residuals, by Levenberg and Marquardt's method; one problem, or many.

    The residuals are written for one problem, in torch, traced once and fused, their Jacobian with them, into one
    kernel that takes each problem from its start to its end, one in each lane of a register. `curve_fit` is the same
    for curves, with scipy's arguments.

    Args:
        residuals: takes the params and the data, returns a tensor of residuals, of any shape.
        params: where to start: a tensor, or a list, tuple or dict of tensors, of one float dtype; with many problems
            each may have a row for each problem.
        data: what else the residuals take: a tensor or a tuple.
        in_dims: None for one problem. For many, which tensors have an axis of problems, as for `descend_many`.
        bounds: (lower, upper), each a number, or a structure like the params of one problem, or of all.
        loss, f_scale: as `scipy.optimize.least_squares` has them: "linear", "soft_l1", "huber", "cauchy", "arctan".
        ftol, xtol, gtol: as scipy has them; None is 0. A problem ends where a step without damping would gain and move
            as little.
        max_nfev: evaluations of the residuals and their Jacobian that a problem may take; 100 (p + 1).
        jac: None is torch's autograd, and differences where that is not finite; "2-point" is differences.
        backend: "fused" on the CPU, "triton" on a GPU (a problem in each thread), "eager" (torch's own operations, one
            problem after the other), or "auto": fused where it can be.
        progress: True shows a bar; a function is called with (problems done, problems).

    Returns:
        A LeastSquaresResult, with scipy's names; of many problems with these first in every tensor.

    Raises:
        TypeError, ValueError: an argument cannot be meant; of one problem also if its residuals are not finite at the
            start. Of many, those have the status -1.
        UnsupportedOperationError: backend="fused" or "triton", and the residuals cannot be fused.
        BackendUnavailableError: torch is missing, or what "triton" needs.
        Interrupted: Ctrl-C; `.partial` is the result until then.
    """
    need_torch()
    from ._nonlinear.levenberg import Tolerances
    from ._nonlinear.objective import ROBUST
    from ._nonlinear.result import Fit
    from ._nonlinear.solve import refuse_backend
    from ._torch_private import tree

    refuse_no_function(residuals, "residuals")
    refuse_no_floats(tree.tree_leaves(params))
    if loss != "linear" and loss not in ROBUST:
        raise ValueError(f"loss: wants linear, {', '.join(ROBUST)}, got {text_of(loss)}; linear is least squares")
    if not f_scale > 0:
        raise ValueError(f"f_scale: wants a number > 0, got {f_scale}; residuals beyond it count less")
    if jac not in (None, "2-point"):
        raise ValueError(f"jac: wants None or '2-point', got {text_of(jac)}; None is torch's autograd")
    refuse_backend(backend)
    values = [0.0 if value is None else float(value) for value in (ftol, xtol, gtol)]
    if any(not value >= 0 for value in values):
        raise ValueError(f"ftol, xtol, gtol: want numbers >= 0, got {values}; leave them out for 1e-8")
    most = None if max_nfev is None else integer(max_nfev, "max_nfev", 1, 10**9)
    fit = Fit(residuals, params, data if isinstance(data, tuple) else (data,), in_dims, bounds)
    fit.minimize(loss, float(f_scale), jac)
    with shown(progress) as report:
        result = fit.run(Tolerances(*values), most, backend, report)
    if fit.interrupted:
        raise Interrupted(result, "before every problem had ended")
    return result
