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
        pivot is so small that its digits are gone, and the Jacobian itself must be asked (`from_jacobian`).
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


def from_jacobian(jacobian: Array, is_free: Array) -> Array:
    """The inverse of J' J by the singular values of J (n, p), of one problem; infinity if it has not full rank."""
    p = jacobian.shape[1]
    result = np.zeros((p, p))
    own = jacobian[:, is_free]
    norms = np.sqrt((own * own).sum(axis=0))
    if not own.size or not np.isfinite(norms).all() or (norms == 0).any():
        result[:] = np.inf
        return result
    _, values, rows = np.linalg.svd(own / norms, full_matrices=False)
    if len(values) < own.shape[1] or values[-1] <= np.finfo(float).eps * max(own.shape) * values[0]:
        result[:] = np.inf
        return result
    half = rows.T / values
    result[np.ix_(is_free, is_free)] = half @ half.T / np.outer(norms, norms)
    return result
