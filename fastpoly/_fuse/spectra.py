"""Eigenvalues, singular values and what is made of them, by Jacobi's rotations.

Beyond a few rows pairs are turned one after the other, in loops of their own (`rotations`). Small matrices, and those
of a GPU's kernel, are turned in rounds. A round rotates all pairs of rows i and j at once for which i + j is the last
row, so that each row meets its mirror image; then all rows move on by one place. For an odd number of rows each pair
has met after as many rounds, and all rounds are equal: a loop. An even number is made odd by a row of zeros, which
nothing rotates.

Rounds are as many as bring every matrix of that size to the last bits. Vectors have no sign of their own: theirs is
another one than LAPACK's half of the time, as it is from one LAPACK to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .factorizations import as_lapack_writes, identity, in_loops, numbers, qr, refuse_large, transposed
from .orders import places_in_order

LARGEST = 16
"""Rows and columns that are turned in rounds."""


def _sweeps(size: int) -> int:
    """How often each pair is rotated: two more than brought the worst of many matrices to their last bits."""
    return 7 + size // 4


def _rotation(own: Any, off: Any) -> Any:
    """(cosine, sine) for each row with its mirror image: [[own, off], [off, its own]] becomes diagonal."""
    size = own.shape[-1]
    places = numbers(size, own)
    off = (off + off.flip(-1)) * 0.5  # equal for both, so that both turn by the same angle
    difference = own.flip(-1) - own
    is_done = (off == 0) | (places == size // 2)
    ratio = difference / torch.where(is_done, 1.0, 2 * off)
    root = ratio.abs() + (1 + ratio * ratio).sqrt()
    is_positive = (ratio > 0) | ((ratio == 0) & (places < size // 2))  # of the two that meet one turns left
    tangent = torch.where(is_done, 0.0, torch.where(is_positive, 1 / root, -1 / root))
    cosine = 1 / (1 + tangent * tangent).sqrt()
    return cosine, tangent * cosine


def _rotated(a: Any, cosine: Any, sine: Any) -> Any:
    """Columns turned with their mirror images."""
    return cosine[..., None, :] * a - sine[..., None, :] * a.flip(-1)


def _moved_on(a: Any, dim: int) -> Any:
    return torch.cat([a.narrow(dim, -1, 1), a.narrow(dim, 0, a.shape[dim] - 1)], dim)


def _odd(a: Any, *dims: int) -> Any:
    """With a row or column of zeros where there is an even number of them."""
    for dim in dims:
        if a.shape[dim] % 2 == 0:
            a = torch.cat([a, torch.zeros_like(a.narrow(dim, 0, 1))], dim)
    return a


def _sorted(values: Any, descending: bool, *vectors: Any) -> Any:
    """Values in order, and the columns that belong to them."""
    size, order = values.shape[-1], places_in_order(values, descending)
    picked = [v.gather(-1, order[..., None, :].expand(*v.shape[:-1], size)) for v in vectors]
    return values.gather(-1, order), *picked


def _beside_ones(a: Any) -> Any:
    """With ones on a diagonal behind it, which turn as its rows do."""
    size = a.shape[-2]
    return torch.cat([a, identity(a, size, size).expand(*a.shape[:-2], size, size)], -1)


def _eigh(a: Any, triangle: str, with_vectors: bool) -> Any:
    size = a.shape[-1]
    half = a.tril(-1) if triangle == "L" else transposed(a.triu(1))
    a = half + transposed(half) + a.tril().triu()
    if in_loops(a, size):
        found = torch.ops.fastpoly.diagonalized(_beside_ones(a) if with_vectors else a)
        values = found.diagonal(0, -2, -1)
        if not with_vectors:
            return _sorted(values, False)[0], a.new_empty(0)
        return _sorted(values, False, transposed(found[..., size:]))
    refuse_large(a, LARGEST)
    a = _odd(a, -2, -1)
    odd = a.shape[-1]
    vectors = identity(a, odd, odd).expand_as(a)
    for _ in range(odd * _sweeps(odd)):
        cosine, sine = _rotation(a.diagonal(0, -2, -1), a.flip(-1).diagonal(0, -2, -1))
        a = _rotated(transposed(_rotated(a, cosine, sine)), cosine, sine)
        a = _moved_on(_moved_on(a, -1), -2)
        if with_vectors:
            vectors = _moved_on(_rotated(vectors, cosine, sine), -1)
    values = a.diagonal(0, -2, -1)[..., :size]
    if not with_vectors:
        return _sorted(values, False)[0], a.new_empty(0)
    return _sorted(values, False, vectors[..., :size, :size])


def svd(a: Any, full: bool = False, with_vectors: bool = True, _: Any = None) -> Any:
    """(U, S, Vh), by rotations of a's columns until each is at right angles to all others."""
    rows, columns = a.shape[-2:]
    if rows < columns:
        u, s, vh = svd(transposed(a), full, with_vectors)
        return transposed(vh), s, transposed(u)
    left, right = _turned(a, with_vectors)
    values = (left * left).sum(-2).sqrt()
    if not with_vectors:
        return a.new_empty(0), _sorted(values, True)[0], a.new_empty(0)
    values, left, right = _sorted(values, True, left, right)
    u, r = qr(left, "complete" if full else "reduced")  # at right angles where a column is nothing but roundings, too
    turned = torch.where(r.diagonal(0, -2, -1) < 0, -1.0, torch.ones_like(values))
    u = torch.cat([u[..., :columns] * turned[..., None, :], u[..., columns:]], -1) if full else u * turned[..., None, :]
    return u, values, transposed(right)


def _turned(a: Any, with_vectors: bool) -> tuple[Any, Any]:
    """(U S, V), in no order; nothing is made of V without vectors."""
    rows, columns = a.shape[-2:]
    if in_loops(a, columns):
        across = transposed(a)
        found = torch.ops.fastpoly.at_right_angles(_beside_ones(across) if with_vectors else across, rows)
        return transposed(found[..., :rows]), transposed(found[..., rows:])
    refuse_large(a, LARGEST)
    left = _odd(a, -1)
    odd = left.shape[-1]
    right = identity(a, odd, odd).expand(*a.shape[:-2], odd, odd)
    for _ in range(odd * _sweeps(odd)):
        cosine, sine = _rotation((left * left).sum(-2), (left * left.flip(-1)).sum(-2))
        left = _moved_on(_rotated(left, cosine, sine), -1)
        if with_vectors:
            right = _moved_on(_rotated(right, cosine, sine), -1)
    return left[..., :columns], right[..., :columns, :columns]


# -- what is made of them
# ------------------------------------------------------------------------------------------------


def _beside(bound: Any, sizes: Any) -> Any:
    return bound[..., None].to(sizes.dtype) if isinstance(bound, torch.Tensor) else sizes.new_full((), bound)


def _pinv(a: Any, atol: Any, rtol: Any, hermitian: bool) -> Any:
    """The pseudoinverse; what is at most max(atol, rtol * the largest singular value) counts as zero."""
    if hermitian:
        values, vectors = _eigh(a, "L", True)
        left, right, sizes = vectors, transposed(vectors), values.abs()
    else:
        left, values, right = svd(a)
        sizes = values
    if rtol is None:
        rtol = 0.0 if atol is not None else max(a.shape[-2:]) * torch.finfo(a.dtype).eps
    limit = _beside(rtol, sizes) * sizes.amax(-1, keepdim=True)
    if atol is not None:
        limit = torch.maximum(limit, _beside(atol, sizes))
    counts = sizes > limit
    inverse = torch.where(counts, 1 / torch.where(counts, values, 1.0), 0.0)
    return (transposed(right) * inverse[..., None, :]) @ transposed(left)


def _lstsq(a: Any, b: Any, rcond: float | None, driver: str | None) -> Any:
    """(solution, residuals, rank, singular values): of all solutions the shortest.

    Which of the last three are there depends on LAPACK's driver.
    """
    rows, columns = a.shape[-2:]
    is_vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    right = b[..., None] if is_vector else b
    rcond = max(rows, columns) * torch.finfo(a.dtype).eps if rcond is None else rcond
    left, values, vh = svd(a)
    counts = values > rcond * values.amax(-1, keepdim=True)
    inverse = torch.where(counts, 1 / torch.where(counts, values, 1.0), 0.0)
    found = transposed(vh) @ (inverse[..., None] * (transposed(left) @ right))
    rank, residuals = counts.sum(-1), a.new_empty(0)
    if rows > columns and driver not in (None, "gelsy"):  # of a matrix of lower rank torch gives none
        off = a @ found - right
        residuals = torch.where(rank[..., None] == columns, (off * off).sum(-2), math.nan)
    rank = a.new_empty(0, dtype=torch.int64) if driver == "gels" else rank
    values = values if driver in ("gelsd", "gelss") else a.new_empty(0)
    return found[..., 0] if is_vector else found, residuals, rank, values


HALVED = 40
"""How often a matrix may be halved until its exponential's series is short: norms up to 2**40."""

SHORT = {torch.float32: 3.010066362817634, torch.float64: 1.090863719290036}
"""Norms up to which that series is, with 18 terms: as torch has them, so that roundings are alike, too."""

SERIES = (
    (0.0, -1.00365581030144618291e-01, -8.02924648241156932449e-03, -8.92138498045729985177e-04, 0.0),
    (0.0, 3.97849749499645077844e-01, 1.36783778460411720168, 4.98289622525382669416e-01, -6.37898194594723280150e-04),
    (
        -10.9676396052962061844,
        1.68015813878906206114,
        5.71779846478865511061e-02,
        -6.98210122488052056106e-03,
        3.34975017086070470649e-05,
    ),
    (
        -9.04316832390810593223e-02,
        -6.76404519071381882256e-02,
        6.75961301770459654925e-02,
        2.95552570429315521194e-02,
        -1.39180257516060693404e-05,
    ),
    (0.0, 0.0, -9.23364619367118555360e-02, -1.69364939002081722752e-02, -1.40086798182036094347e-05),
)
"""Taylor's series with five products of matrices: Bader, Blanes and Casas (2019), the coefficients of T18."""


def _matrix_exp(a: Any) -> Any:
    """The series of a matrix that was halved until it is short, squared as often."""
    refuse_large(a, 2 * LARGEST)
    size, short = a.shape[-1], SHORT[a.dtype]
    norm = a.abs().sum(-2).amax(-1)[..., None, None]
    first, left = a, norm
    for _ in range(HALVED):
        first = torch.where(left > short, first * 0.5, first)
        left = left * 0.5
    square = first @ first
    cube = square @ first
    powers = [identity(a, size, size), first, square, cube, cube @ cube]
    sums = [sum(powers[i] * c for i, c in enumerate(row) if c) for row in SERIES]
    ninth = sums[0] @ sums[4] + sums[3]
    result, left = sums[1] + (sums[2] + ninth) @ ninth, norm
    for _ in range(HALVED):
        result = torch.where(left > short, result @ result, result)
        left = left * 0.5
    return torch.where(left > short, math.nan, result)


APART: dict[str, Callable[..., Any]] = {
    "_linalg_eigh": as_lapack_writes(_eigh),
    "_linalg_svd": as_lapack_writes(svd),
    "linalg_pinv": _pinv,
    "linalg_lstsq": as_lapack_writes(_lstsq),
    "linalg_matrix_exp": _matrix_exp,
}
