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


NAMES = ("upper_factor", "solved", "triangles", "permutation")
"""Of all that have a loop."""

define("triangles(Tensor given, bool pivot) -> Tensor", _triangles)
define("permutation(Tensor places, Tensor pivots, bool inverse) -> Tensor", _permutation)
define("between(Tensor a, int low, int high) -> Tensor", _between)
define("upper_factor(Tensor a) -> Tensor", _upper_factor)
define("solved(Tensor a, Tensor b, bool upper, bool unitriangular) -> Tensor", _solved)
