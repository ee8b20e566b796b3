"""The model, a polynomial in the power basis, for numpy and torch; and how fast descent on it may go."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._arrays import Array, float64, is_tensor, numbers, powers_of, refuse_nonfinite, to_device, vector
from ._domain import checked_domain, mapped
from ._memory import refuse_beyond_memory
from ._problem import MAX_DEGREE, integer

VALUES = 2**18
"""Samples, or their powers, that lie in memory at a time: a cache holds them."""


def dpoly_dw(x: Any, w: Any) -> Any:
    """The derivative of poly(x, w) by the weights: the matrix of powers x**0, x**1, ..., one row a sample.

    Args:
        x: (n,) or (n, 1) samples, numpy (or a list) or torch, of any float dtype (others
            are converted), on any device.
        w: (degree + 1, ...) weights; only the first length counts.

    Returns:
        (n, degree + 1) of x's kind and dtype, differentiable in torch.

    Raises:
        TypeError, ValueError: x or w cannot be meant. MemoryError: the matrix does not fit.
    """
    x, w = numbers(x, "x"), numbers(w, "w")
    if x.ndim > 2 or (x.ndim == 2 and x.shape[1] != 1):
        raise ValueError(f"x: wants a vector or one column, got shape {tuple(x.shape)}; choose one, x[:, 0]")
    if w.ndim == 0:
        raise ValueError("w: wants a weight for each power, got a single number; put it into a list, [w]")
    if is_tensor(x):
        import torch

        if not x.is_floating_point():
            x = x.to(torch.get_default_dtype())
        _refuse_large(x, w)
        return x.reshape(-1, 1) ** torch.arange(w.shape[0], dtype=x.dtype, device=x.device)
    if x.dtype.kind != "f":  # powers of integers soon overflow
        x = x.astype(np.float64)
    _refuse_large(x, w)
    return x.reshape(-1, 1) ** np.arange(len(w), dtype=x.dtype)


def _refuse_large(x: Any, w: Any) -> None:
    rows, columns = math.prod(x.shape), int(w.shape[0])
    what = f"a matrix of {rows:,} samples and {columns:,} powers takes"
    refuse_beyond_memory(rows * columns * x.dtype.itemsize, what, "fewer samples at a time")


def poly(x: Any, w: Any) -> Any:
    """The polynomial sum_k w[k] x**k at each sample.

    Args:
        x: (n,) or (n, 1) samples, numpy (or a list) or torch, of any float dtype, on any device.
        w: (degree + 1,) weights, x^0 first, or (degree + 1, m) for m polynomials; in torch of x's dtype.

    Returns:
        (n,) or (n, m), differentiable in torch by x and by w.

    Raises what `dpoly_dw` raises.
    """
    powers, w = dpoly_dw(x, w), numbers(w, "w")
    if w.ndim > 2:
        raise ValueError(
            f"w: wants (degree + 1,) or (degree + 1, m) weights, got shape {tuple(w.shape)}; take w[..., 0]"
        )
    if not is_tensor(powers):
        return powers @ (w.detach().cpu().numpy() if is_tensor(w) else w)
    import torch

    if not is_tensor(w):
        w = torch.from_numpy(np.array(w, np.float64)).to(powers)
    if w.device != powers.device:
        raise ValueError(
            f"x and w: want tensors on one device, got {powers.device} and {w.device}; take w.to(x.device)"
        )
    if w.is_floating_point() and w.dtype != powers.dtype:
        got = f"got {powers.dtype} and {w.dtype}; take w.to(x.dtype)".replace("torch.", "")
        raise TypeError(f"x and w: want tensors of one dtype, {got}")
    return powers @ w.to(powers.dtype)


def stability_limit(x: Any, degree: int, domain: Any = None) -> float:
    """The learn rate at which gradient descent on these samples stops converging.

    The error shrinks by 1 - learn_rate * lambda a step along each eigenvector of G = (2/n) V^T V, V the matrix of
    powers; this is at least -1 for every eigenvalue lambda as long as learn_rate <= 2 / max(lambda).

    Args:
        x: (n,) or (n, 1) samples.
        degree: of the polynomial.
        domain: the interval of x that is mapped to [-1, 1], as in `fit`: "auto" for what `fit` does unless told
            otherwise; None for x as it is, as the post has it.

    Returns:
        2 / max(lambda), to about 1e-12 relative; 0.0 when G overflows float64.

    Raises:
        TypeError, ValueError: x or the degree cannot be meant, as for `fit`.
    """
    x = vector(x, "x")
    refuse_nonfinite(x, "x", np.dtype(np.float64))
    x = mapped(x, checked_domain(domain, x))
    size = integer(degree, "degree", 0, MAX_DEGREE) + 1
    return float(limits_of(x[None], size)[0])


def limits_of(x: Any, size: int) -> Array:
    """The `stability_limit` of each row of x (batch, n), for so many weights; computed where x lies."""
    batch, n = x.shape
    limits = np.empty(batch)
    portion, samples = max(1, VALUES // (n * size)), max(1, VALUES // size)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, batch, portion):
            part = slice(start, start + portion)
            gram: Array = np.zeros((1, size, size))
            for first in range(0, n, samples):
                powers = powers_of(float64(x[part, first : first + samples]), size)
                gram = gram + to_device(powers.swapaxes(1, 2) @ powers, None)
            finite = np.asarray(np.isfinite(gram).all(axis=(1, 2)))
            gram = np.where(finite[:, None, None], gram, np.eye(size))
            limits[part] = np.where(finite, n / np.linalg.eigvalsh(gram)[:, -1], 0.0)
    return limits
