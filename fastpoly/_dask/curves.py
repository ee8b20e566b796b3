"""`curve_fit` of curves in a dask array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._arrays import Array
from .._nonlinear.curves import names_of
from .chunks import by_chunks, chunks_of, refuse_lengths


def curve_fit(f: Callable[..., Any], xdata: Any, ydata: Any, p0: Any, sigma: Any, **options: Any) -> tuple[Any, ...]:
    """As `fastpoly.curve_fit`, which has checked nothing yet; all that it returns is lazy."""
    if ydata.ndim != 2:
        got = f"got {ydata.shape}; ydata.compute() for one curve, reshape for others"
        raise ValueError(f"ydata: of dask wants (batch, n), a row for each curve, {got}")
    if options.pop("progress"):
        raise ValueError("progress: nobody waits here for dask's chunks; dask.diagnostics.ProgressBar shows them")
    count, n = ydata.shape
    bounds = options.pop("bounds")
    if hasattr(bounds, "lb"):
        bounds = bounds.lb, bounds.ub
    if bounds is not None and (not isinstance(bounds, tuple | list) or len(bounds) != 2):
        raise ValueError("bounds: wants (lower, upper): numbers, (p,) or (batch, p)")
    lower, upper = bounds or (None, None)
    given = {"xdata": xdata, "p0": p0, "sigma": sigma, "lower": lower, "upper": upper}
    given = {name: one if hasattr(one, "ndim") else np.asarray(one) for name, one in given.items() if one is not None}
    x, predictors = given.get("xdata"), options["predictors"]
    own_x = x is not None and (x.ndim == 3 or (x.ndim == 2 and x.shape == ydata.shape and predictors is None))
    if x is not None and x.ndim == 2 and not own_x:
        options["predictors"] = x.shape[0]  # a chunk of as many curves would take them for its own
    rows = {name: one for name, one in given.items() if (own_x if name == "xdata" else one.ndim > 1)}
    refuse_lengths(count, rows)
    shared = {"xdata": None, **{name: _in_memory(one) for name, one in given.items() if name not in rows}}
    p = _parameters(f, given.get("p0"))
    outputs: list[Any] = [((p,), np.float64), ((p, p), np.float64)]
    if options["full_output"]:
        outputs += [((), np.int64), ((n,), np.float64), ((), object), ((), np.int64)]
    found = by_chunks(
        partial(_fitted, f, tuple(rows), shared, options), [ydata, *rows.values()], chunks_of([ydata])[1], outputs
    )
    if not options["full_output"]:
        return tuple(found)
    popt, pcov, nfev, fvec, messages, ier = found
    return popt, pcov, {"nfev": nfev, "fvec": fvec}, messages, ier


def _parameters(f: Callable[..., Any], p0: Any) -> int:
    if p0 is not None:
        return int(p0.shape[-1]) if p0.ndim else 1
    names = names_of(f)
    if names is None:
        raise ValueError("Unable to determine number of fit parameters.")
    return len(names)


def _in_memory(one: Any) -> Any:
    return one.compute() if hasattr(one, "compute") else one


def _fitted(
    f: Callable[..., Any], names: Sequence[str], shared: dict[str, Any], options: dict[str, Any], y: Array, *rows: Array
) -> list[Array]:
    """What one chunk gets."""
    from .. import curve_fit as of_arrays

    given = {**shared, **dict(zip(names, rows, strict=True))}
    bounds = (given.pop("lower"), given.pop("upper")) if "lower" in given else None
    popt, pcov, *rest = of_arrays(f, ydata=y, bounds=bounds, **given, **options)
    if not rest:
        return [popt, pcov]
    info, messages, ier = rest
    return [popt, pcov, info["nfev"], info["fvec"], np.array(messages, object), ier]
