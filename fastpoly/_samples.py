"""What a fit is made from: samples, which of them count, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastpoly_kernels.aside import imported

from ._arrays import (
    Array,
    device_of,
    dimensions,
    is_chunked,
    is_dask,
    is_masked_array,
    is_tensor,
    refuse_nonfinite,
    sample_rows,
    samples,
    to_device,
    vector,
)
from ._domain import MANY
from ._problem import shown

if TYPE_CHECKING:
    import torch

POLICIES = ("raise", "omit")


@dataclass(frozen=True, eq=False)
class Samples:
    """n samples, as `Samples.checked` leaves them.

    Attributes:
        x: (n,), an array, or a tensor on a GPU.
        y: (n,), or (n, columns), as x.
        scale: (n,) float64, what each residual is multiplied by, or None.
        device: where the caller's tensors lie; None when the caller uses numpy.
    """

    x: Any
    y: Any
    scale: Array | None
    device: torch.device | None

    @classmethod
    def checked(
        cls, x: Any, y: Any, sigma: Any = None, sample_weight: Any = None, nan_policy: Any = "raise"
    ) -> Samples:
        """Leave out, in pairs, what is masked or of no weight, and what is not finite if nan_policy is "omit".

        Raises:
            TypeError, ValueError: an argument cannot be meant.
        """
        if nan_policy not in POLICIES:
            got = f"got {shown(nan_policy)}; 'omit' leaves out samples without x or y"
            raise ValueError(f"nan_policy: wants one of {', '.join(POLICIES)}, {got}")
        if is_dask(x) or is_dask(y):
            x, y = imported("fastpoly._dask.samples").checked_pair(x, y, MANY, sigma, sample_weight, nan_policy)
            if is_chunked(x):
                return cls(x, y, None, None)
        device = device_of(x, y)
        masked = [_mask(values) for values in (x, y)]
        x, y = (values.data if is_masked_array(values) else values for values in (x, y))
        x = samples(x, "x")
        y = sample_rows(y, "y") if dimensions(y, "y") == 2 and np.shape(y)[1] != 1 else samples(y, "y")
        n = len(x)
        if n != len(y):
            way = "the columns of y are fitted, each by itself: is it y.T?" if y.ndim == 2 else "cut the longer one, or"
            way += " look at what selected them" if y.ndim == 1 else ""
            raise ValueError(f"x and y: want the same number of samples, got {n} and {len(y)}; {way}")
        sigma = _factor(sigma, "sigma", n, "positive")
        weight = _factor(sample_weight, "sample_weight", n, "non-negative")
        keep = _kept(x, y, masked, weight, omit=nan_policy == "omit")
        if keep is not None:
            x, y, sigma, weight = (_chosen(values, keep) for values in (x, y, sigma, weight))
            if not len(x):
                raise ValueError("x and y: are empty once samples without x, y or weight are left out; look at them")
        scale = None
        if weight is not None:
            scale = np.sqrt(weight / weight.mean())
        if sigma is not None:
            scale = (1.0 if scale is None else scale) / sigma
        return cls(x, y, scale, device)


def _mask(values: Any) -> Array | None:
    """Which samples are masked, in any column."""
    if not is_masked_array(values) or not np.ma.is_masked(values):
        return None
    mask = np.ma.getmaskarray(values)
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))


def _kept(x: Any, y: Any, masked: list[Array | None], weight: Array | None, *, omit: bool) -> Array | None:
    """Which samples count, or None: all do."""
    left_out = [mask for mask in masked if mask is not None]
    if weight is not None:
        left_out.append(weight == 0)
    if omit:
        missing = ~to_device(_finite(y), None)
        if missing.ndim == 2:
            if (missing.any(axis=1) != missing.all(axis=1)).any():
                raise ValueError("y: lacks other samples in one column than in another; fit them one by one")
            missing = missing.all(axis=1)
        left_out += [~to_device(_finite(x), None), missing]
    if not any(mask.any() for mask in left_out):
        return None
    return np.asarray(~np.logical_or.reduce(left_out))


def _finite(values: Any) -> Any:
    return values.isfinite() if is_tensor(values) else np.isfinite(values)


def _chosen(values: Any, keep: Array) -> Any:
    if values is None:
        return None
    return values[to_device(keep, values.device)] if is_tensor(values) else values[keep]


def _factor(value: Any, name: str, n: int, wanted: str) -> Array | None:
    """(n,) float64, from a number or one for each sample."""
    if value is None:
        return None
    values = vector(value, name) if dimensions(value, name) else vector([value], name)
    if values.size != n and dimensions(value, name):
        got = f"got {values.size:,}; choose those of the samples"
        raise ValueError(f"{name}: wants a number, or one for each of {n:,} samples, {got}")
    refuse_nonfinite(values, name, np.dtype(np.float64))
    values = np.broadcast_to(values.astype(np.float64), n)
    with np.errstate(over="ignore", under="ignore"):
        square = values * values
    good = (values > 0) & (square > 0) & np.isfinite(square) if wanted == "positive" else values >= 0
    if not good.all():
        i = int(np.argmin(good))
        way = "0 leaves a sample out"
        if wanted == "positive":
            way = "leave such samples out" if not values[i] > 0 else "scale it: its square leaves float64"
        raise ValueError(f"{name}: wants {wanted} numbers, got {name}[{i}] = {values[i]}; {way}")
    return values
