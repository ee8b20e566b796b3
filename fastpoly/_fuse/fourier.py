"""Fourier transforms as products with matrices of cosines and sines, that of a large size by those of its factors.

A transform of n = a * b numbers is b of a numbers, some factors between, and a of b numbers (Cooley and Tukey, 1965).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .complex_numbers import Parts, joined, parts, product

DIRECT = 16
"""Sizes up to this are one product with a matrix."""


def _roots(rows: int, columns: int, size: int, sign: int, like: Any) -> Parts:
    """cos and sin of sign * 2 pi * row * column / size, exactly 0 and 1 where they are."""
    one, other = (torch.arange(n, device=like.device) for n in (rows, columns))
    places = one[:, None] * other % size
    quarter = (4 * places / size).round()  # from the nearest quarter of a turn, whose cosine is known
    rest = (places.double() / size - quarter.double() / 4) * (2 * math.pi)
    c, s = rest.cos().to(like.dtype), rest.sin().to(like.dtype)
    cosine = torch.where(quarter % 2 == 0, torch.where(quarter % 4 == 0, c, -c), torch.where(quarter % 4 == 1, -s, s))
    sine = torch.where(quarter % 2 == 0, torch.where(quarter % 4 == 0, s, -s), torch.where(quarter % 4 == 1, c, -c))
    return cosine, sign * sine


def _factor(size: int) -> int:
    """The factor nearest to the root, from below; 1 of a prime."""
    return next(f for f in range(math.isqrt(size), 0, -1) if size % f == 0)


def _transformed(z: Parts, sign: int) -> Parts:
    """Along the last dimension."""
    size = z[0].shape[-1]
    few = _factor(size)
    if size <= DIRECT or few == 1:
        matrix = _roots(size, size, size, sign, z[0])
        return product(z, matrix, torch.matmul)
    many = size // few
    z = _each(z, lambda part: part.unflatten(-1, (many, few)).transpose(-1, -2))
    z = _transformed(z, sign)
    z = product(z, _roots(few, many, size, sign, z[0]))
    z = _transformed(_each(z, lambda part: part.transpose(-1, -2)), sign)
    return _each(z, lambda part: part.transpose(-1, -2).flatten(-2))


def _each(z: Parts, function: Callable[[Any], Any]) -> Parts:
    return function(z[0]), None if z[1] is None else function(z[1])


def _along(z: Parts, dims: Sequence[int], sign: int) -> Parts:
    for dim in dims:
        z = _each(_transformed(_each(z, lambda part: part.movedim(dim, -1)), sign), lambda part: part.movedim(-1, dim))  # noqa: B023 - called at once
    return z


def _scaled(z: Any, normalization: int, sizes: Sequence[int]) -> Any:
    """By nothing, by the root of the number of elements, or by that number: as torch counts."""
    factor = math.prod(sizes) ** -(0.0, 0.5, 1.0)[normalization]
    return z if factor == 1 else z * factor


def _r2c(a: Any, dims: Sequence[int], normalization: int, onesided: bool) -> Any:
    z = _along((a, None), [dims[-1]], -1)
    if onesided:
        z = _each(z, lambda part: part.narrow(dims[-1], 0, a.shape[dims[-1]] // 2 + 1))
    z = _along(z, dims[:-1], -1)
    return _scaled(joined(*z), normalization, [a.shape[d] for d in dims])


def _c2c(a: Any, dims: Sequence[int], normalization: int, forward: bool) -> Any:
    return _scaled(joined(*_along(parts(a), dims, -1 if forward else 1)), normalization, [a.shape[d] for d in dims])


def _c2r(a: Any, dims: Sequence[int], normalization: int, size: int) -> Any:
    """Of half of what belongs to a real tensor: the other half is its mirror image, conjugate."""
    last = dims[-1]
    real, imaginary = _along(parts(a), dims[:-1], 1)
    half = (size - 1) // 2
    whole = [
        torch.cat([part.narrow(last, 0, size // 2 + 1), mirrored.narrow(last, 1, half).flip(last)], last)
        for part, mirrored in ((real, real), (imaginary, -imaginary))
    ]
    # what is its own image is real
    places = torch.arange(size, device=real.device).reshape([-1 if d == last % a.ndim else 1 for d in range(a.ndim)])
    whole[1] = torch.where((2 * places) % size == 0, 0.0, whole[1])
    found = _along((whole[0], whole[1]), [last], 1)[0]
    return _scaled(found, normalization, [size if d == last else a.shape[d] for d in dims])


FOURIER: dict[str, Callable[..., Any]] = {"_fft_r2c": _r2c, "_fft_c2c": _c2c, "_fft_c2r": _c2r}
