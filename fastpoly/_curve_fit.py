"""`curve_fit`: scipy's, of a model in torch, for one curve or for many at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from fastpoly_kernels.aside import imported

from ._arrays import is_dask
from ._errors import Interrupted
from ._monitor import Progress
from ._progress import shown
from ._tensors import need_torch, refuse_no_function


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    check_finite: bool = True,
    bounds: Any = None,
    method: str | None = None,
    jac: Any = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    predictors: int | None = None,
    fixed: Any = None,
    noise: str = "gauss",
    precision: str = "double",
    backend: str = "auto",
    progress: bool | Progress = False,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """Fit f(x, *params) to ydata by least squares, as `scipy.optimize.curve_fit`; one curve, or many in one call.

    The model is written in torch. It is traced once, differentiated by torch's own autograd and fused into one kernel
    that takes each curve from its start to its end (Levenberg and Marquardt's method), one curve in each lane of a
    register.

    Args:
        f: takes x and then each parameter, a number; returns n values. In torch.
        xdata: (n,), or (k, n) for k predictors; or a row of either for each curve: (batch, n), (batch, k, n).
        ydata: (n,), or (batch, n): a row for each curve. Where that is a dask array, chunks of curves are fitted when
            somebody asks for them.
        p0: where to start: (p,), or (batch, p); ones if None, or the middle of the bounds.
        sigma: of the samples: (n,), with many curves (batch, n), too; or their covariance, (n, n), with many curves
            (batch, n, n).
        absolute_sigma: pcov in sigma's units; else scaled so that chi squared is what its degrees of freedom expect.
        check_finite: NaN or infinity in xdata or ydata is an error. With many curves, one that has them in ydata is not
            fitted.
        bounds: (lower, upper), each a number, (p,) or (batch, p); or a `scipy.optimize.Bounds`. Where both are equal a
            parameter is held.
        method: None, "lm", "trf" or "dogbox": all are the method above, but "lm" takes no bounds.
        jac: None is torch's autograd, and differences where that is not finite; "2-point", "3-point" or "cs" are
            differences; a function like f, in torch, that returns (n, p).
        full_output: return infodict, mesg and ier, too.
        nan_policy: "omit" leaves out samples that are NaN, each curve its own; "raise" is an error; None: see above.
        predictors: k, where xdata of ydata's shape is one x for all curves with k predictors.
        fixed: parameters that stay at p0: their names, positions, or truths (p,). They have no variance.
        noise: "gauss", or "poisson": ydata are counts, and their deviance is minimized.
        precision: "double", or "single": then all but the covariances is computed in float32, in half the time.
        backend: "fused" on the CPU, "triton" on a GPU (a curve in each thread), "eager" (torch's own operations, one
            curve after the other), or "auto": fused where it can be.
        progress: True shows a bar; a function is called with (curves done, curves).
        kwargs: ftol, xtol (both 1.49012e-8), gtol (0), maxfev or max_nfev (100 (p + 1), a Jacobian included), loss and
            f_scale (as `scipy.optimize.least_squares` has them).

    Returns:
        popt (p,) and pcov (p, p), as scipy has them; of many curves (batch, p) and (batch, p, p), numpy arrays of
        doubles; of a dask array's curves lazy arrays in its chunks. With full_output then infodict (nfev and fvec, the
        weighted residuals), mesg and ier: 1 to 4 if the fit succeeded; of many curves with the curves first.

        pcov is infinite where the data do not fix the parameters, and 0 for what is held. A bound that a parameter has
        come to is ignored in it.

    Raises:
        TypeError, ValueError: an argument cannot be meant; of one curve also if its samples cannot give this.
        RuntimeError: one curve was not fitted. Of many curves, those have popt and pcov NaN, or an ier outside 1 to 4.
        UnsupportedOperationError: backend="fused" or "triton", and the model cannot be fused.
        BackendUnavailableError: torch is missing, or what "triton" needs.
        Interrupted: Ctrl-C; `.partial` is what would have been returned.

    Warns:
        OptimizeWarning: the covariance could not be estimated; of many curves, how many were not fitted, and how many
            have no covariance.
    """
    need_torch()
    if is_dask(ydata):
        return imported("fastpoly._dask.curves").curve_fit(  # type: ignore[no-any-return]
            f,
            xdata,
            ydata,
            p0,
            sigma,
            absolute_sigma=absolute_sigma,
            check_finite=check_finite,
            bounds=bounds,
            method=method,
            jac=jac,
            full_output=full_output,
            nan_policy=nan_policy,
            predictors=predictors,
            fixed=fixed,
            noise=noise,
            backend=backend,
            progress=progress,
            **kwargs,
        )
    from ._nonlinear.curves import Curves, options
    from ._nonlinear.objective import POISSON
    from ._nonlinear.samples import Samples
    from ._nonlinear.solve import refuse_backend

    refuse_no_function(f, "f")
    tolerances, most, loss, f_scale = options(kwargs)
    refuse_backend(backend)
    samples = Samples(xdata, ydata, predictors, nan_policy, check_finite)
    curves = Curves(f, samples, bool(absolute_sigma) or noise == POISSON)
    curves.begin(p0, bounds, fixed, method)
    samples.weigh(sigma, noise)
    curves.minimize(noise, jac, loss, f_scale, precision)
    with shown(progress) as report:
        result = curves.fit(tolerances, most, backend, report)
    if samples.is_many:
        said = result.warnings()
    else:
        result.raise_if_failed()
        said = ["Covariance of the parameters could not be estimated"] if result.is_unknown.any() else []
    for text in said:
        warnings.warn(text, _optimize_warning(), stacklevel=2)
    found = result.returned(full_output)
    if curves.interrupted:
        raise Interrupted(found, f"{result.done:,} of {samples.count:,} curves")
    return found


def _optimize_warning() -> type[Warning]:
    """scipy's, where there is a scipy: that is what is filtered by."""
    try:
        from scipy.optimize import OptimizeWarning
    except ModuleNotFoundError:
        return UserWarning
    return OptimizeWarning  # type: ignore[no-any-return]
