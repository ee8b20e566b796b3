"""The model, a polynomial in the power basis, for numpy and torch; and how fast descent on it may go."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import is_tensor, refuse_nonfinite, vector
from ._problem import integer


def dpoly_dw(x: Any, w: Any) -> Any:
    """The derivative of poly(x, w) by the weights: the matrix of powers x**0, x**1, ..., one row a sample.

    Args:
        x: (n,) or (n, 1) samples, numpy (or a list) or torch, of any float dtype (others
            are converted), on any device.
        w: (degree + 1, ...) weights; only the first length counts.

    Returns:
        (n, degree + 1) of x's kind and dtype, differentiable in torch.
    """
    if is_tensor(x):
        import torch

        if not x.is_floating_point():
            x = x.to(torch.get_default_dtype())
        return x.reshape(-1, 1) ** torch.arange(w.shape[0], dtype=x.dtype, device=x.device)
    x = np.asarray(x)
    if x.dtype.kind != "f":  # powers of integers soon overflow
        x = x.astype(np.float64)
    return x.reshape(-1, 1) ** np.arange(len(w), dtype=x.dtype)


def poly(x: Any, w: Any) -> Any:
    """The polynomial sum_k w[k] x**k at each sample.

    Args:
        x: (n,) or (n, 1) samples, numpy (or a list) or torch, of any float dtype, on any device.
        w: (degree + 1,) weights, x^0 first, or (degree + 1, m) for m polynomials; in torch of x's dtype.

    Returns:
        (n,) or (n, m), differentiable in torch by x and by w.
    """
    powers = dpoly_dw(x, w)
    return powers @ (w.to(powers.dtype) if is_tensor(w) and not w.is_floating_point() else w)


def stability_limit(x: Any, degree: int) -> float:
    """The learn rate at which gradient descent on these samples stops converging.

    The error shrinks by 1 - learn_rate * lambda a step along each eigenvector of G = (2/n) V^T V, V the matrix of
    powers; this is at least -1 for every eigenvalue lambda as long as learn_rate <= 2 / max(lambda).

    Args:
        x: (n,) or (n, 1) samples.
        degree: of the polynomial.

    Returns:
        2 / max(lambda), to about 1e-12 relative; 0.0 when G overflows float64.
    """
    x = vector(x, "x")
    refuse_nonfinite(x, "x", np.dtype(np.float64))
    x = x.astype(np.float64, copy=False)
    size = integer(degree, "degree", 0) + 1
    gram = np.zeros((size, size))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, x.size, 65_536):  # bounds the memory for V
            powers = np.vander(x[start : start + 65_536], size, increasing=True)
            gram += powers.T @ powers
        if not np.isfinite(gram).all():
            return 0.0
        return float(x.size / np.linalg.eigvalsh(gram)[-1])
