"""Derivatives of losses and activations that torch's C++ has, and its decompositions have not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

NONE, MEAN = 0, 1
"""What torch calls the reductions "none" and "mean" in C++."""


def _shrink_backward(grad: Any, a: Any, width: float) -> Any:
    return torch.where((a >= -width) & (a <= width), 0.0, grad)


def _rows(grad: Any, a: Any, reduction: int) -> tuple[Any, Any, float]:
    """The gradient for each row, the rows, and what each element of a row counts."""
    rows = a.reshape(-1, a.shape[-1] if a.ndim else 1)
    grad = grad.reshape(-1, 1).expand(rows.shape[0], 1)
    return grad, rows, 1 / rows.numel() if reduction == MEAN else 1 / rows.shape[1]


def _multi_margin_backward(grad: Any, a: Any, target: Any, p: float, margin: float, weight: Any, reduction: int) -> Any:
    grad, rows, part = _rows(grad, a, reduction)
    target = target.reshape(-1, 1)
    z = margin - rows.gather(1, target) + rows
    is_other = torch.arange(rows.shape[1], device=rows.device) != target
    counted = (is_other & (z > 0)).to(rows.dtype)
    slope = counted * (part if p == 1 else 2 * part * z) * grad
    if weight is not None:
        slope = slope * torch.ops.aten.index(weight, [target])
    return (slope - torch.where(is_other, 0.0, slope.sum(1, keepdim=True))).reshape(a.shape)


def _short(rows: Any, target: Any) -> tuple[Any, Any, Any]:
    """By how much each label of a row, up to the first -1, exceeds each class that is none: which, and the labels."""
    target = target.reshape(rows.shape)
    is_given = (target < 0).cumsum(1) == 0
    target = target.clamp(min=0)
    labels = torch.zeros(rows.shape, dtype=torch.int64, device=rows.device).scatter_add(1, target, is_given.long()) > 0
    z = 1 - rows.gather(1, target)[:, :, None] + rows[:, None, :]
    return z, (z > 0) & is_given[:, :, None] & ~labels[:, None, :], labels


def _multilabel_margin(a: Any, target: Any, reduction: int) -> tuple[Any, Any]:
    _, rows, part = _rows(a.new_ones(()), a, reduction)
    z, is_short, labels = _short(rows, target)
    losses = (torch.where(is_short, z, 0.0) * part).sum([1, 2])
    result = losses.reshape(a.shape[:-1]) if reduction == NONE else losses.sum()
    return result, labels.to(a.dtype).reshape(a.shape)


def _multilabel_margin_backward(grad: Any, a: Any, target: Any, reduction: int, _: Any) -> Any:
    grad, rows, part = _rows(grad, a, reduction)
    slopes = _short(rows, target)[1].to(rows.dtype) * part
    labels = target.reshape(rows.shape).clamp(min=0)
    of_labels = torch.zeros_like(rows).scatter_add(1, labels, slopes.sum(2))
    return ((slopes.sum(1) - of_labels) * grad).reshape(a.shape)


OURS: dict[str, Callable[..., Any]] = {
    "hardshrink_backward": _shrink_backward,
    "softshrink_backward": _shrink_backward,
    "multi_margin_loss_backward": _multi_margin_backward,
    "multilabel_margin_loss_forward": _multilabel_margin,
    "multilabel_margin_loss_backward": _multilabel_margin_backward,
}
