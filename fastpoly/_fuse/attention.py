"""Attention without dropout, whose kernel torch has for the CPU, as products and a softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


def _scores(query: Any, key: Any, is_causal: bool, mask: Any, scale: float | None) -> tuple[Any, float]:
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-1, -2) * scale
    if is_causal:
        kept = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        scores = torch.where(kept, scores, -math.inf)
    if mask is not None:
        scores = torch.where(mask, scores, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores, scale


def _attention(
    query: Any, key: Any, value: Any, _: float, is_causal: bool, mask: Any = None, scale: float | None = None
) -> tuple[Any, Any]:
    scores = _scores(query, key, is_causal, mask, scale)[0]
    return torch.softmax(scores, -1) @ value, torch.logsumexp(scores, -1)


def _attention_backward(
    grad: Any,
    query: Any,
    key: Any,
    value: Any,
    out: Any,
    total: Any,
    _: float,
    is_causal: bool,
    mask: Any = None,
    scale: float | None = None,
) -> tuple[Any, Any, Any]:
    scores, scale = _scores(query, key, is_causal, mask, scale)
    weights = torch.exp(scores - total[..., None])
    of_weights = grad @ value.transpose(-1, -2)
    of_scores = weights * (of_weights - (grad * out).sum(-1, keepdim=True)) * scale
    return of_scores @ key, of_scores.transpose(-1, -2) @ query, weights.transpose(-1, -2) @ grad


OURS: dict[str, Callable[..., Any]] = {
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}
DROPOUT = {"_scaled_dot_product_flash_attention_for_cpu": 3}
"""Which of their arguments says how much is dropped at random."""
