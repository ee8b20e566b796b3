"""Operations on whole matrices that are loops of their own in a kernel (`eliminations`), under names of our own.

`factorizations` puts them in place of LAPACK's where matrices are too large to be written out row by row. Whoever calls
them outside of a kernel, with what never changes, gets torch's numbers.
"""

from __future__ import annotations

import numpy as np
import torch

from .own_operations import define


def _upper_factor(a: torch.Tensor) -> torch.Tensor:
    """(..., n, n): U, whose product transposed(U) U is `a`, of which the upper triangle is read; NaN where none is."""
    factor: torch.Tensor
    factor, info = torch.linalg.cholesky_ex(a, upper=True)
    return factor if a.is_meta else factor.masked_fill(info[..., None, None] > 0, np.nan)


def _solved(a: torch.Tensor, b: torch.Tensor, upper: bool, unitriangular: bool) -> torch.Tensor:
    """(..., n, m): the x of a x = b, where of `a`, (..., n, n), one triangle is read; batches are the same."""
    found: torch.Tensor = torch.linalg.solve_triangular(a, b, upper=upper, unitriangular=unitriangular)
    return found.contiguous()


def _triangles(given: torch.Tensor, pivot: bool) -> torch.Tensor:
    """(..., n, m + 1): of a matrix (..., n, m), with a column 1, 2, 3, ... behind it, both factors, as LAPACK has them.

    In the last column is with which row each one was exchanged, if `pivot`.
    """
    if given.is_meta:
        return torch.empty_like(given)
    factors, pivots, _ = torch.linalg.lu_factor_ex(given[..., :-1], pivot=pivot)
    last = given[..., -1:].clone()
    last[..., : pivots.shape[-1], 0] = pivots.to(given.dtype)
    return torch.cat([factors, last], -1)


def _permutation(places: torch.Tensor, pivots: torch.Tensor, inverse: bool) -> torch.Tensor:
    """(..., n): places 0, 1, 2, ..., exchanged one after the other with those that pivots (..., m) name from 1 on."""
    order = places.clone(memory_format=torch.contiguous_format)
    count = 0 if places.is_meta else pivots.shape[-1]
    for k in range(count)[:: -1 if inverse else 1]:
        there = pivots[..., k, None].long() - 1
        one = order[..., k, None].clone()
        order[..., k, None] = order.gather(-1, there)
        order.scatter_(-1, there, one)
    return order


def _between(a: torch.Tensor, low: int, high: int) -> torch.Tensor:  # noqa: ARG001 - which are for a kernel
    """Floats that are known to lie between bounds, as they are."""
    return a.clone()


def _reflectors(given: torch.Tensor) -> torch.Tensor:
    """(..., n, m + 1): of a matrix (..., n, m), with a column of zeros behind it, R and below it Householder's vectors.

    In the last column is by how much of itself each is subtracted (LAPACK's tau).
    """
    if given.is_meta:
        return torch.empty_like(given)
    factored, tau = torch.geqrf(given[..., :-1])
    last = torch.nn.functional.pad(tau, [0, given.shape[-2] - tau.shape[-1]])
    return torch.cat([factored, last[..., None]], -1)


def _reflected(a: torch.Tensor, reflectors: torch.Tensor, transpose: bool) -> torch.Tensor:
    """(..., n, m): Q a, or transposed(Q) a, of reflectors (..., n, k + 1) as the function above gives them."""
    if a.is_meta:
        return torch.empty_like(a, memory_format=torch.contiguous_format)
    vectors, tau = reflectors[..., :-1], reflectors[..., : reflectors.shape[-1] - 1, -1]
    found: torch.Tensor = torch.ormqr(vectors, tau.contiguous(), a, transpose=transpose)
    return found.contiguous()


def _diagonalized(given: torch.Tensor) -> torch.Tensor:
    """(..., n, n + m): of a symmetric matrix, with m columns behind it, V^T A V, a diagonal, and V^T times those."""
    if given.is_meta:
        return torch.empty_like(given)
    size = given.shape[-2]
    values, vectors = torch.linalg.eigh(given[..., :size])
    return torch.cat([torch.diag_embed(values), vectors.mT @ given[..., size:]], -1)


def _at_right_angles(given: torch.Tensor, size: int) -> torch.Tensor:
    """(..., n, size + m): U^T times all of it, so that rows of the first so many columns are at right angles."""
    if given.is_meta:
        return torch.empty_like(given)
    left: torch.Tensor = torch.linalg.svd(given[..., :size])[0]
    return left.mT @ given


NAMES = (
    *("upper_factor", "solved", "triangles", "permutation", "reflectors", "reflected"),
    *("diagonalized", "at_right_angles"),
)
"""Of all that have a loop."""

define("triangles(Tensor given, bool pivot) -> Tensor", _triangles)
define("permutation(Tensor places, Tensor pivots, bool inverse) -> Tensor", _permutation)
define("between(Tensor a, int low, int high) -> Tensor", _between)
define("upper_factor(Tensor a) -> Tensor", _upper_factor)
define("reflectors(Tensor given) -> Tensor", _reflectors)
define("reflected(Tensor a, Tensor reflectors, bool transpose) -> Tensor", _reflected)
define("diagonalized(Tensor given) -> Tensor", _diagonalized)
define("at_right_angles(Tensor given, int size) -> Tensor", _at_right_angles)
define("solved(Tensor a, Tensor b, bool upper, bool unitriangular) -> Tensor", _solved)
