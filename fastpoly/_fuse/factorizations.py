"""Solving, inverting and factorizing small matrices, in operations of whole rows and columns.

Each function is one of ATen's, by its name, and gives what LAPACK gives: the same pivots, signs and reflectors, but for
rounding. A step of an elimination is some operations on all that is left of the matrix, so that batches cost nothing
beside their numbers; choices by value, as of pivots, are `torch.where`. What eager torch refuses for its value, a
matrix that is singular or not positive definite, gives infinity or NaN here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from . import dense  # noqa: F401 - registers operations
from .own_operations import are_had

LARGEST = 32
"""Rows or columns, whichever are fewer: each is a step of its own, and a kernel of more takes minutes to compile."""


class NotTakenApart(Exception):  # noqa: N818 - not an error of ours: the tracer refuses the operation with its words
    """An operation cannot be taken apart into what has a rule.

    Args:
        why: what stands in the way.
        way_out: what the caller can do.
    """

    def __init__(self, why: str, way_out: str) -> None:
        super().__init__(why)
        self.why, self.way_out = why, way_out


def refuse_large(a: Any, most: int = LARGEST) -> None:
    """Raise NotTakenApart if a matrix has more than `most` rows and columns."""
    rows, columns = a.shape[-2:]
    if min(rows, columns) > most:
        raise NotTakenApart(
            f"its matrix is {rows} x {columns}: with more than {most} rows and columns a kernel would be long",
            "use smaller ones",
        )


WRITTEN_OUT = 8
"""Rows up to which a triangle is solved, and a matrix factorized by Cholesky, row by row; `dense` has larger ones. A
loop has to count, and to go to memory for every row."""

EXCHANGED = 6
"""The same where rows are exchanged or columns reflected: what is written out for that is long, and longer to compile
with every row."""


def in_loops(a: Any, size: int, most: int = WRITTEN_OUT) -> bool:
    """Has a kernel a loop for it? Those of a GPU have not."""
    return size > most and are_had(a)


def _info(is_bad: Any) -> Any:
    """The first of the pivots that is bad, counted from 1; 0 if none is."""
    size = is_bad.shape[-1]
    first = torch.where(is_bad, numbers(size, is_bad), size).amin(-1)
    return torch.where(first < size, first + 1, 0).to(torch.int32)


def transposed(matrix: Any) -> Any:
    """The last two dimensions exchanged."""
    return matrix.transpose(-2, -1)


def columns_first(matrix: Any) -> Any:
    """The same, column by column in memory, as LAPACK writes it."""
    return transposed(transposed(matrix).contiguous()) if matrix.is_floating_point() else matrix


def numbers(size: int, like: Any) -> Any:
    """0, 1, 2, ... beside a tensor."""
    return torch.arange(size, device=like.device)


def identity(like: Any, rows: int, columns: int) -> Any:
    """Ones on the diagonal of a matrix."""
    return torch.eye(rows, columns, dtype=like.dtype, device=like.device)


# -- triangles
# -----------------------------------------------------------------------------------------------------------


def solve_triangular(a: Any, b: Any, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """The x of a x = b (or x a = b), where of `a` one triangle is read."""
    if not left:
        return transposed(solve_triangular(transposed(a), transposed(b), not upper, True, unitriangular))
    size = a.shape[-1]
    if in_loops(a, size):
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        given = (one.expand(*batch, *one.shape[-2:]) for one in (a, b))
        return torch.ops.fastpoly.solved(*given, upper, unitriangular)
    refuse_large(a)
    rest, found = b, []
    for k in range(size - 1, -1, -1) if upper else range(size):
        row = rest[..., -1 if upper else 0, :]
        row = row if unitriangular else row / a[..., k, k, None]
        found.append(row)
        if len(found) < size:
            others, column = (rest[..., :-1, :], a[..., :k, k]) if upper else (rest[..., 1:, :], a[..., k + 1 :, k])
            rest = others - column[..., None] * row[..., None, :]
    return torch.stack(found[::-1] if upper else found, -2)


def _triangular_solve(b: Any, a: Any, upper: bool, transpose: bool, unitriangular: bool) -> Any:
    solution = solve_triangular(transposed(a) if transpose else a, b, upper != transpose, True, unitriangular)
    return solution, a.clone()


# -- Cholesky
# ------------------------------------------------------------------------------------------------------------


def _cholesky(a: Any, upper: bool) -> Any:
    """(L, info): L transposed(L) = a, of which the lower triangle is read; the upper one if the factor is to be."""
    if upper:
        factor, info = _cholesky(transposed(a), False)
        return transposed(factor), info
    size, columns, rest = a.shape[-1], [], a
    if in_loops(a, size):
        factor = transposed(torch.ops.fastpoly.upper_factor(transposed(a)))
        return factor, _info(~(factor.diagonal(0, -2, -1) > 0))
    refuse_large(a)
    info = torch.zeros(a.shape[:-2], dtype=torch.int32, device=a.device)
    for k in range(size):
        pivot = rest[..., 0, 0, None]
        column = rest[..., 0] / pivot.sqrt()
        columns.append(torch.cat([column.new_zeros((*column.shape[:-1], k)), column], -1))
        info = torch.where((info == 0) & ~(pivot[..., 0] > 0), k + 1, info)
        below = column[..., 1:]
        rest = rest[..., 1:, 1:] - below[..., None] * below[..., None, :] if k + 1 < size else rest
    return torch.stack(columns, -1), info.to(torch.int32)


def _cholesky_solve(b: Any, factor: Any, upper: bool) -> Any:
    lower = transposed(factor) if upper else factor
    return solve_triangular(transposed(lower), solve_triangular(lower, b, upper=False), upper=True)


def _cholesky_inverse(factor: Any, upper: bool) -> Any:
    size = factor.shape[-1]
    return _cholesky_solve(identity(factor, size, size), factor, upper)


# -- LU
# ------------------------------------------------------------------------------------------------------------------


def lu_factor(a: Any, pivot: bool = True) -> Any:
    """(LU, pivots, info): both factors in one matrix, and with which row each one was exchanged, counted from 1."""
    rows, columns = a.shape[-2:]
    places, size = numbers(rows, a), min(rows, columns)
    if in_loops(a, size, EXCHANGED):
        last = (places + 1).to(a.dtype).expand(a.shape[:-1])
        found = torch.ops.fastpoly.triangles(torch.cat([a, last[..., None]], -1), pivot)
        lu = found[..., :columns]
        return (
            lu,
            torch.ops.fastpoly.between(found[..., :size, columns], 1, rows).to(torch.int32),
            _info(lu.diagonal(0, -2, -1) == 0),
        )
    refuse_large(a)
    pivots, info = [], torch.zeros(a.shape[:-2], dtype=torch.int32, device=a.device)
    for k in range(min(rows, columns)):
        across = numbers(columns, a)
        if pivot:
            size = torch.where(places < k, -1.0, a[..., k].abs())
            is_largest = (size == size.amax(-1, keepdim=True)) | (size != size)
            chosen = torch.where(is_largest, places, rows - 1).amin(
                -1, keepdim=True
            )  # LAPACK takes the first of equals
            exchanged = (places == chosen)[..., None]
            row = torch.where(exchanged, a, 0.0).sum(-2, keepdim=True)
            a = torch.where(places[:, None] == k, row, torch.where(exchanged, a[..., k : k + 1, :], a))
            pivots.append(chosen[..., 0] + 1)
        else:
            pivots.append(torch.full(a.shape[:-2], k + 1, device=a.device))
        row = a[..., k : k + 1, :]
        divisor = row[..., k : k + 1]
        factor = a[..., k : k + 1] / torch.where(divisor == 0, 1.0, divisor)
        eliminated = torch.where(across > k, a - factor * row, torch.where(across == k, factor, a))
        a = torch.where(places[:, None] > k, eliminated, a)
        info = torch.where((info == 0) & (divisor[..., 0, 0] == 0), k + 1, info)
    return a, torch.stack(pivots, -1).to(torch.int32), info.to(torch.int32)


def permutation(pivots: Any, size: int, inverse: bool = False) -> Any:
    """Which row of a matrix each row is, once those that pivots name are exchanged, one after the other."""
    places = numbers(size, pivots)
    if in_loops(pivots, pivots.shape[-1], EXCHANGED):
        return torch.ops.fastpoly.permutation(places.expand(*pivots.shape[:-1], size), pivots, inverse)
    order = places.expand(*pivots.shape[:-1], size)
    for k in range(pivots.shape[-1])[:: -1 if inverse else 1]:
        exchanged = places == pivots[..., k, None] - 1
        there = torch.where(exchanged, order, 0).amax(-1, keepdim=True)
        order = torch.where(places == k, there, torch.where(exchanged, order[..., k, None], order))
    return order


def lu_solve(lu: Any, pivots: Any, b: Any, left: bool = True, adjoint: bool = False) -> Any:
    """The x of a x = b (x a = b; with `adjoint` for the transposed a), from what `lu_factor` gives."""
    if not left:
        return transposed(lu_solve(lu, pivots, transposed(b), True, not adjoint))
    size, columns = b.shape[-2:]
    batch = np.broadcast_shapes(lu.shape[:-2], b.shape[:-2])
    order = permutation(pivots, size, inverse=adjoint)[..., None].expand(*batch, size, columns)
    b = b.expand(*batch, size, columns)
    if adjoint:
        found = solve_triangular(transposed(lu), b, upper=False)
        return columns_first(solve_triangular(transposed(lu), found, True, unitriangular=True).gather(-2, order))
    found = solve_triangular(lu, b.gather(-2, order), False, unitriangular=True)
    return columns_first(solve_triangular(lu, found, upper=True))


def _lu_unpack(lu: Any, pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    rows, columns = lu.shape[-2:]
    size = min(rows, columns)
    p = lower = upper = lu.new_empty(0)
    if unpack_pivots:
        order = permutation(pivots, rows)
        p = (numbers(rows, lu)[:, None] == order[..., None, :]).to(lu.dtype)
    if unpack_data:
        lower = lu[..., :size].tril(-1) + identity(lu, rows, size)
        upper = lu[..., :size, :].triu()
    return p, lower, upper


def _as_lapack_reads(a: Any) -> Any:
    """torch factorizes the transposed matrix where this one lies in memory row by row; its gradients know that."""
    return transposed(a) if a.is_contiguous() else a


def _sign(pivots: Any, like: Any) -> Any:
    """Of the permutation."""
    stays = pivots == numbers(pivots.shape[-1], pivots) + 1
    return torch.where(stays, like.new_ones(()), like.new_full((), -1.0)).prod(-1)


def _det(a: Any) -> Any:
    lu, pivots, _ = lu_factor(_as_lapack_reads(a))
    return lu.diagonal(0, -2, -1).prod(-1) * _sign(pivots, a), lu, pivots


def _slogdet(a: Any) -> Any:
    lu, pivots, _ = lu_factor(_as_lapack_reads(a))
    diagonal = lu.diagonal(0, -2, -1)
    return diagonal.sign().prod(-1) * _sign(pivots, a), diagonal.abs().log().sum(-1), lu, pivots


def _solve(a: Any, b: Any, left: bool, _: bool) -> Any:
    lu, pivots, info = lu_factor(a)
    is_vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])  # as torch tells them apart
    found = lu_solve(lu, pivots, b[..., None] if is_vector else b, left)
    return found[..., 0] if is_vector else found, columns_first(lu), pivots, info


def _inverse(a: Any, _: bool) -> Any:
    lu, pivots, info = lu_factor(a)
    size = a.shape[-1]
    return lu_solve(lu, pivots, identity(a, size, size)), info


# -- QR
# ------------------------------------------------------------------------------------------------------------------


def _reflected(matrix: Any, reflector: Any, tau: Any) -> Any:
    """(1 - tau v v^T) times a matrix."""
    across = (reflector[..., None] * matrix).sum(-2, keepdim=True)
    return matrix - (tau[..., None, None] * reflector[..., None]) * across


def _reflector(below: Any, k: int) -> Any:
    """The k-th: zeros, a one, and what LAPACK keeps below the diagonal."""
    rows = below.shape[-2]
    return torch.where(numbers(rows, below) == k, 1.0, torch.where(numbers(rows, below) > k, below[..., k], 0.0))


def _geqrf(a: Any) -> Any:
    """(R and below it the reflectors, tau), by Householder's reflections."""
    rows, columns = a.shape[-2:]
    size = min(rows, columns)
    if in_loops(a, size, EXCHANGED):
        found = torch.ops.fastpoly.reflectors(torch.cat([a, a.new_zeros((*a.shape[:-1], 1))], -1))
        return found[..., :columns], found[..., :size, columns]
    refuse_large(a)
    places, taus = numbers(rows, a), []
    for k in range(size):
        column, first = a[..., k], a[..., k, k, None]
        below = torch.where(places > k, column, 0.0)
        squares = (below * below).sum(-1, keepdim=True)
        length = (first * first + squares).sqrt()
        length = torch.where(first < 0, length, -length)
        is_there = squares > 0  # otherwise nothing is reflected
        tau = torch.where(is_there, (length - first) / torch.where(is_there, length, 1.0), 0.0)
        reflector = below / torch.where(is_there, first - length, 1.0)
        taus.append(tau[..., 0])
        changed = _reflected(a, torch.where(places == k, 1.0, reflector), tau[..., 0])
        kept = torch.where(
            places > k, reflector, torch.where(places == k, torch.where(is_there, length, first), column)
        )
        right = numbers(columns, a)
        a = torch.where(right > k, changed, torch.where(right == k, kept[..., None], a))
    return a, torch.stack(taus, -1)


def _product(reflectors: Any, tau: Any, matrix: Any, transpose: bool = False) -> Any:
    """All reflections of a matrix: Q times it."""
    count = tau.shape[-1]
    if in_loops(matrix, count, EXCHANGED):
        batch, rows = np.broadcast_shapes(matrix.shape[:-2], reflectors.shape[:-2]), matrix.shape[-2]
        last = torch.constant_pad_nd(tau, [0, rows - count])[..., None]
        given = torch.cat([reflectors[..., :count], last], -1).expand(*batch, rows, count + 1)
        return torch.ops.fastpoly.reflected(matrix.expand(*batch, *matrix.shape[-2:]), given, transpose)
    refuse_large(reflectors)
    for k in range(count) if transpose else reversed(range(count)):
        matrix = _reflected(matrix, _reflector(reflectors, k), tau[..., k])
    return matrix


def _householder_product(reflectors: Any, tau: Any) -> Any:
    return _product(reflectors, tau, identity(reflectors, *reflectors.shape[-2:]).expand_as(reflectors))


def qr(a: Any, mode: str = "reduced") -> Any:
    """(Q, R), signs as LAPACK has them."""
    rows, columns = a.shape[-2:]
    size = rows if mode == "complete" else min(rows, columns)
    factored, tau = _geqrf(a)
    r = factored[..., :size, :].triu()
    if mode == "r":
        return a.new_empty(0), r
    return _product(factored, tau, identity(a, rows, size).expand(*a.shape[:-2], rows, size)), r


def _ormqr(reflectors: Any, tau: Any, other: Any, left: bool, transpose: bool) -> Any:
    if not left:
        return transposed(_product(reflectors, tau, transposed(other), not transpose))
    return _product(reflectors, tau, other, transpose)


def as_lapack_writes(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The same with matrices that lie in memory column by column, which decides what is a view of them."""

    def written(a: Any, *rest: Any, **options: Any) -> Any:
        result, rank = operation(a, *rest, **options), max(a.ndim, 2)
        if not isinstance(result, tuple):
            return columns_first(result)
        return tuple(columns_first(part) if part.ndim == rank else part for part in result)

    return written


AS_THEY_ARE: dict[str, Callable[..., Any]] = {
    "linalg_lu_solve": lu_solve,
    "_linalg_solve_ex": _solve,
    "linalg_lu": lambda a, pivot: _lu_unpack(*lu_factor(a, pivot)[:2]),
    "lu_unpack": _lu_unpack,
    "_linalg_check_errors": lambda *_: None,  # what it would raise for is not finite
}

COLUMNS_FIRST: dict[str, Callable[..., Any]] = {
    "linalg_solve_triangular": lambda a, b, upper, left, unitriangular: solve_triangular(
        a, b, upper, left, unitriangular
    ),
    "triangular_solve": _triangular_solve,
    "cholesky": lambda a, upper: _cholesky(a, upper)[0],
    "linalg_cholesky_ex": lambda a, upper, _: _cholesky(a, upper),
    "cholesky_solve": _cholesky_solve,
    "cholesky_inverse": _cholesky_inverse,
    "linalg_lu_factor_ex": lambda a, pivot, _: lu_factor(a, pivot),
    "_linalg_det": _det,
    "_linalg_slogdet": _slogdet,
    "linalg_inv_ex": _inverse,
    "linalg_qr": qr,
    "geqrf": _geqrf,
    "linalg_householder_product": _householder_product,
    "ormqr": _ormqr,
}

APART = {
    **AS_THEY_ARE,
    **{name: as_lapack_writes(operation) for name, operation in COLUMNS_FIRST.items()},
}
