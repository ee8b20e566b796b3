"""grid_sample: a tensor read at places that change from step to step, between its elements.

It is written in operations that autograd differentiates. Where a place lies is a whole number within bounds, whatever
the grid is, so that no memory is read that is not the tensor's.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

BILINEAR, NEAREST, BICUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2
"""What torch calls the modes and the paddings in C++."""

MODES = {"bilinear": BILINEAR, "nearest": NEAREST, "bicubic": BICUBIC}
PADDINGS = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}

A = -0.75
"""Of the cubic convolution, as torch has it."""


def grid_sample(
    a: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Any:
    """As torch.nn.functional's."""
    return grid_sampler(a, grid, MODES[mode], PADDINGS[padding_mode], bool(align_corners))


def grid_sampler(a: Any, grid: Any, mode: int, padding: int, align_corners: bool) -> Any:
    """`a` of the shape (n, channels, *sizes), `grid` of (n, *places, how many sizes), the last size first."""
    sizes = a.shape[2:]
    at = [_unnormalised(grid[..., -1 - d], size, align_corners) for d, size in enumerate(sizes)]
    if mode != BICUBIC:
        at = [_inside(x, size, padding, align_corners) for x, size in zip(at, sizes, strict=True)]
    if mode == NEAREST:
        return _read(a, [x.round() for x in at])
    if mode == BILINEAR:
        each = [[(x.floor() + k, (1 - (x - x.floor())) if k == 0 else x - x.floor()) for k in (0, 1)] for x in at]
    else:
        each = [
            [(_inside(x.floor() + k, size, padding, align_corners), _cubic(x - x.floor(), k)) for k in (-1, 0, 1, 2)]
            for x, size in zip(at, sizes, strict=True)
        ]
    result: Any = 0
    for corner in itertools.product(*each):
        weight = corner[0][1]
        for _, factor in corner[1:]:
            weight = weight * factor
        result = result + _read(a, [place for place, _ in corner]) * weight[:, None]
    return result


def _unnormalised(x: Any, size: int, align_corners: bool) -> Any:
    return (x + 1) / 2 * (size - 1) if align_corners else ((x + 1) * size - 1) / 2


def _inside(x: Any, size: int, padding: int, align_corners: bool) -> Any:
    """Where it lies by the rule for places outside."""
    if padding == ZEROS:
        return x
    if padding == REFLECTION:
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span <= 0:
            return x * 0
        off = (x - low).abs()
        over, turns = torch.fmod(off, span), (off / span).floor()
        x = torch.where(torch.remainder(turns, 2) == 0, over + low, span - over + low)
    return torch.where(x <= 0, 0.0, torch.where(x >= size - 1, size - 1.0, x))  # torch has no slope at the edges


def _cubic(t: Any, k: int) -> Any:
    """The weight of the k-th neighbour, a distance of |t - k| away."""
    x = t - k if k <= 0 else k - t
    if k in (0, 1):
        return ((A + 2) * x - (A + 3)) * x * x + 1
    return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A


def _read(a: Any, at: list[Any]) -> Any:
    """The elements at whole places; 0 outside."""
    flat: Any = None
    is_there: Any = None
    for x, size in zip(at, a.shape[2:], strict=True):
        own = (x >= 0) & (x <= size - 1)
        whole = x.round()
        place = whole.masked_fill(torch.isnan(whole), 0.0).clamp(0, size - 1).long()
        is_there = own if is_there is None else is_there & own
        flat = place if flat is None else flat * size + place
    n, channels = a.shape[:2]
    shape = (n, channels, *at[0].shape[1:])
    places = flat.reshape(n, 1, -1).expand(n, channels, -1)
    found = a.reshape(n, channels, -1).gather(2, places).reshape(shape)
    return torch.where(is_there[:, None], found, 0.0)
