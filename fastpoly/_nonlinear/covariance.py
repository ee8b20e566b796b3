"""How well the parameters are known: the inverse of J' J, or infinity where the data do not fix them."""

from __future__ import annotations

import numpy as np

from .._arrays import Array

SURE = 1e-9
"""A pivot of the scaled matrix above which its inverse keeps half of the digits."""


def inverse_normal(normal: Array, is_free: Array) -> tuple[Array, Array]:
    """The inverses of J' J, and which of them are good.

    Args:
        normal: (problems, p (p + 1) / 2), the rows up to the diagonal.
        is_free: (problems, p): parameters that are held have no part in it, and no variance.

    Returns:
        (problems, p, p), by Cholesky's factors of the matrix scaled to a diagonal of 1; and (problems,): False where a
        pivot is so small that its digits are gone, and the Jacobian itself must be asked (`from_jacobians`).
    """
    count, p = is_free.shape
    a = [[normal[:, i * (i + 1) // 2 + j] for j in range(i + 1)] for i in range(p)]
    with np.errstate(all="ignore"):
        scale = [np.where(is_free[:, i] & (a[i][i] > 0), 1 / np.sqrt(a[i][i]), 0.0) for i in range(p)]
        factor: list[list[Array]] = []
        good = np.ones(count, bool)
        for i in range(p):
            row: list[Array] = []
            for j in range(i + 1):
                value = a[i][j] * scale[i] * scale[j]
                if i == j:
                    value = np.where(is_free[:, i], value, 1.0)
                for k in range(j):
                    value = value - row[k] * (factor[j][k] if j < i else row[k])
                row.append(value / factor[j][j] if j < i else value)
            good &= row[i] > SURE
            row[i] = np.sqrt(row[i])
            factor.append(row)
        columns = np.zeros((count, p, p))  # of the factor's inverse
        for j in range(p):
            columns[:, j, j] = 1 / factor[j][j]
            for i in range(j + 1, p):
                total = sum((factor[i][k] * columns[:, k, j] for k in range(j, i)), np.zeros(count))
                columns[:, i, j] = -total / factor[i][i]
        inverse = np.empty((count, p, p))
        for i in range(p):
            for j in range(i + 1):
                value = sum((columns[:, k, i] * columns[:, k, j] for k in range(i, p)), np.zeros(count))
                inverse[:, i, j] = inverse[:, j, i] = value * scale[i] * scale[j]
    return inverse, good


def from_jacobians(jacobians: Array, is_free: Array) -> Array:
    """The inverses of J' J by the singular values of J; infinity where it has not full rank.

    Args:
        jacobians: (problems, n, p).
        is_free: (problems, p), as for `inverse_normal`.
    """
    count, n, p = jacobians.shape
    result = np.zeros((count, p, p))
    for pattern in np.unique(is_free, axis=0):
        which, free = np.flatnonzero((is_free == pattern).all(axis=1)), np.flatnonzero(pattern)
        if not free.size:
            continue
        part = jacobians[which][:, :, free]
        with np.errstate(all="ignore"):
            norms = np.sqrt((part * part).sum(axis=1))
        good = np.isfinite(norms).all(axis=1) & (norms > 0).all(axis=1) & (n >= free.size)
        inverse = np.full((len(which), free.size, free.size), np.inf)
        if good.any():
            _, values, rows = np.linalg.svd(part[good] / norms[good][:, None], full_matrices=False)
            full = values[:, -1] > np.finfo(float).eps * max(n, free.size) * values[:, 0]
            half = np.swapaxes(rows, 1, 2) / np.where(full[:, None], values, 1.0)[:, None]
            scale = 1 / norms[good]
            found = half @ np.swapaxes(half, 1, 2) * scale[:, :, None] * scale[:, None]
            inverse[good] = np.where(full[:, None, None], found, np.inf)
        whole = result[which]
        whole[:, free[:, None], free] = inverse
        whole[np.isinf(inverse).any(axis=(1, 2))] = np.inf
        result[which] = whole
    return result
