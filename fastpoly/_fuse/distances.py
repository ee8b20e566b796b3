"""cdist and pdist: distances between rows, with the gradients that torch's kernels have where a distance is zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .picks import picked


def _norm(difference: Any, p: float) -> Any:
    size = difference.abs()
    if p == 0:
        return (difference != 0).to(difference.dtype).sum(-1)
    if p == 1:
        return size.sum(-1)
    if p == 2:
        return (difference * difference).sum(-1).sqrt()
    return size.amax(-1) if p == math.inf else (size**p).sum(-1) ** (1 / p)


def _slope(difference: Any, p: float, distance: Any) -> Any:
    """Of `_norm` by the differences; 0 where there is no distance."""
    distance, size = distance[..., None], difference.abs()
    if p == 0:
        return torch.zeros_like(difference)
    if p == 1:
        return difference.sign()
    if p == math.inf:
        return torch.where(size == distance, difference.sign(), 0.0)
    is_flat = distance == 0
    if p == 2:
        return torch.where(is_flat, 0.0, difference / distance)
    if p < 2:
        slope = difference.sign() * (size / distance) ** (p - 1)
        return torch.where(is_flat | (difference == 0) if p < 1 else is_flat, 0.0, slope)
    return torch.where(is_flat, 0.0, difference * size ** (p - 2) / distance ** (p - 1))


def _differences(one: Any, other: Any) -> Any:
    return one[..., :, None, :] - other[..., None, :, :]


def _cdist_backward(grad: Any, one: Any, other: Any, p: float, distance: Any) -> Any:
    if not one.shape[-1]:
        return torch.zeros_like(one)
    return (grad[..., None] * _slope(_differences(one, other), p, distance)).sum(-2)


def _pairs(a: Any) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.triu_indices(a.shape[0], a.shape[0], 1, device=a.device).unbind()
    return first, second


def _pdist(a: Any, p: float) -> Any:
    first, second = _pairs(a)
    return _norm(picked(a, 0, first) - picked(a, 0, second), p)


def _pdist_backward(grad: Any, a: Any, p: float, distance: Any) -> Any:
    first, second = _pairs(a)
    part = grad[:, None] * _slope(picked(a, 0, first) - picked(a, 0, second), p, distance)
    return torch.zeros_like(a).index_add(0, first, part).index_add(0, second, part, alpha=-1)


OURS: dict[str, Callable[..., Any]] = {
    "_cdist_forward": lambda one, other, p, _: _norm(_differences(one, other), p),
    "_cdist_backward": _cdist_backward,
    "_pdist_forward": _pdist,
    "_pdist_backward": _pdist_backward,
}
