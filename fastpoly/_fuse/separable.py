"""What is a constant linear map along each dimension: interpolation, average pooling, padding, and their gradients.

The map is learnt from torch's own operation, so that its every rule about edges, scales and roundings is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from .linear_maps import LinearMap, map_of
from .picks import picked
from .rules import SELECTED

aten = torch.ops.aten


def along(a: Any, dim: int, by: LinearMap) -> Any:
    """A map of the vectors along a dimension."""
    if by.is_identity():
        return a
    dim %= a.ndim
    after = [1] * (a.ndim - 1 - dim)
    if by.inputs <= SELECTED:
        matrix = by.matrix()
        factors = matrix.reshape(*matrix.shape, *after)
        there = a.unsqueeze(dim) * factors
        return torch.where(factors == 0, 0.0, there).sum(dim + 1)
    weights = by.weights.reshape(*by.at.shape, *after)
    there = picked(a, dim, by.at.clamp(min=0))
    if not bool((weights == 1).all()):
        # no 0 times infinity
        there = torch.where((by.at >= 0).reshape(weights.shape), there * weights, 0.0)
    return there.sum(dim + 1)


def _mapped(a: Any, maps: Sequence[LinearMap]) -> Any:
    """By one map for each of the last dimensions."""
    for i, by in enumerate(maps):
        a = along(a, a.ndim - len(maps) + i, by)
    return a


def _turned(maps: Sequence[LinearMap]) -> list[LinearMap]:
    return [by.turned() for by in maps]


# -- interpolation
# ---------------------------------------------------------------------------------------------


_NEAREST = {"upsample_nearest": aten.upsample_nearest1d, "_upsample_nearest_exact": aten._upsample_nearest_exact1d}
_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}


def _interpolation(like: Any, size: int, to: int, kind: str, align_corners: bool | None, scale: Any) -> LinearMap:
    """The map of an interpolation along one dimension."""
    if kind in _NEAREST:
        return map_of(like, size, lambda units: _NEAREST[kind](units[None], [to], scale)[0])
    if kind == "linear":
        return map_of(like, size, lambda units: aten.upsample_linear1d(units[None], [to], align_corners, scale)[0])
    operation = getattr(aten, kind)  # of two dimensions: the other stays as it is
    return map_of(
        like, size, lambda units: operation(units[None, :, None], [1, to], align_corners, None, scale)[0, :, 0]
    )


def _interpolations(like: Any, sizes: Sequence[int], to: Sequence[int], kind: str, rest: Sequence[Any]) -> list[Any]:
    corners = None if kind in _NEAREST else rest[0]
    scales = list(rest if kind in _NEAREST else rest[1:])
    scales += [None] * (len(sizes) - len(scales))
    each = zip(sizes, to, scales, strict=True)
    return [_interpolation(like, size, new, kind, corners, scale) for size, new, scale in each]


def _interpolating(kind: str) -> Callable[..., Any]:
    return lambda a, to, *rest: _mapped(a, _interpolations(a, a.shape[2:], to, kind, rest))


def _interpolating_backward(kind: str) -> Callable[..., Any]:
    return lambda grad, to, sizes, *rest: _mapped(grad, _turned(_interpolations(grad, sizes[2:], to, kind, rest)))


_KINDS = {
    **{f"{name}{k}d": name for name in _NEAREST for k in (1, 2, 3)},
    **{f"upsample_{name}{k}d": "linear" for name, k in _LINEAR.items()},
    **{name: name for name in ("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")},
}

# -- averages
# ---------------------------------------------------------------------------------------------


def _averages(
    like: Any,
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    include_pad: bool,
    divisor: int | None,
) -> list[LinearMap]:
    k, result = len(sizes), []
    kernel, stride, padding = (list(v) * k if len(v) == 1 else v for v in (kernel, stride or kernel, padding))
    for i, settings in enumerate(zip(sizes, kernel, stride, padding, strict=True)):
        size, *own = settings

        def pooled(units: torch.Tensor, own: Sequence[int] = own) -> torch.Tensor:
            window = [1, own[0]], [1, own[1]], [0, own[2]]
            found: torch.Tensor = aten.avg_pool2d(units[None, :, None], *window, ceil_mode, include_pad)
            return found[0, :, 0]

        found = map_of(like, size, pooled)
        if divisor is not None:
            found = replace(found, weights=(found.at >= 0).to(like.dtype) / (divisor if i == 0 else 1))
        result.append(found)
    return result


def _adaptive_averages(like: Any, sizes: Sequence[int], to: Sequence[int]) -> list[LinearMap]:
    return [
        map_of(like, n, lambda units, m=m: aten._adaptive_avg_pool2d(units[None, :, None], [1, m])[0, :, 0])  # type: ignore[misc]
        for n, m in zip(sizes, to, strict=True)
    ]


def _average(k: int) -> Callable[..., Any]:
    return lambda a, *settings: _mapped(a, _averages(a, a.shape[-k:], *settings))


def _average_backward(k: int) -> Callable[..., Any]:
    return lambda grad, a, *settings: _mapped(grad, _turned(_averages(a, a.shape[-k:], *settings)))


def _adaptive_average(a: Any, to: Sequence[int]) -> Any:
    return _mapped(a, _adaptive_averages(a, a.shape[-len(to) :], to))


def _adaptive_average_backward(k: int) -> Callable[..., Any]:
    return lambda grad, a: _mapped(grad, _turned(_adaptive_averages(a, a.shape[-k:], grad.shape[-k:])))


# -- padding by what is there
# ----------------------------------------------------------------------------------------


def _paddings(like: Any, sizes: Sequence[int], pad: Sequence[int], operation: Any) -> list[LinearMap]:
    pairs = [pad[2 * i : 2 * i + 2] for i in reversed(range(len(sizes)))]
    return [
        map_of(like, n, lambda units, pair=pair: operation(units, list(pair)))  # type: ignore[misc]
        for n, pair in zip(sizes, pairs, strict=True)
    ]


def _padding(kind: str, k: int) -> Callable[..., Any]:
    operation = getattr(aten, f"{kind}1d")
    return lambda a, pad: _mapped(a, _paddings(a, a.shape[-k:], pad, operation))


def _padding_backward(kind: str, k: int) -> Callable[..., Any]:
    operation = getattr(aten, f"{kind}1d")
    return lambda grad, a, pad: _mapped(grad, _turned(_paddings(a, a.shape[-k:], pad, operation)))


_PADDINGS = [(kind, k) for kind in ("reflection_pad", "replication_pad") for k in (1, 2, 3)]

OURS: dict[str, Callable[..., Any]] = {
    **{name: _interpolating(kind) for name, kind in _KINDS.items()},
    **{f"{name}_backward": _interpolating_backward(kind) for name, kind in _KINDS.items()},
    **{f"avg_pool{k}d": _average(k) for k in (1, 2, 3)},
    **{f"avg_pool{k}d_backward": _average_backward(k) for k in (2, 3)},
    "_adaptive_avg_pool2d": _adaptive_average,
    "_adaptive_avg_pool3d": _adaptive_average,
    "_adaptive_avg_pool2d_backward": _adaptive_average_backward(2),
    "_adaptive_avg_pool3d_backward": _adaptive_average_backward(3),
    **{f"{kind}{k}d": _padding(kind, k) for kind, k in _PADDINGS},
    **{f"{kind}{k}d_backward": _padding_backward(kind, k) for kind, k in _PADDINGS},
}
