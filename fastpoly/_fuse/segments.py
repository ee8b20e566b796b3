"""Bags of an embedding and segments of a tensor: what constant lengths or offsets divide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .picks import TOGETHER, met, picked

SUM, MEAN, MAX = 0, 1, 2
"""What torch calls the modes of a bag in C++."""


# -- segments
# ------------------------------------------------------------------------------------------------------


class _Segments:
    """Which segment each row belongs to, where `data` is taken as rows.

    Args:
        data: of the shape (*batch, rows, ...), with so many dimensions of batch as `axis` says.
        lengths, offsets: of the shape (*batch, segments), or one more for offsets; one of them is None.
    """

    def __init__(self, data: Any, lengths: Any, offsets: Any, axis: int) -> None:
        axis %= data.ndim
        lengths = lengths if offsets is None else offsets.diff(dim=-1)
        self.batch, self.each = math.prod(data.shape[:axis]), lengths.shape[-1]
        self.shape = (*data.shape[:axis], self.each, *data.shape[axis + 1 :])
        self.rest = data.shape[axis + 1 :]
        self.lengths = lengths.reshape(-1)
        self.count = self.batch * self.each
        self.at = torch.repeat_interleave(torch.arange(self.count, device=lengths.device), self.lengths)

    def rows(self, data: Any) -> Any:
        return data.reshape(-1, *self.rest)

    def wide(self, numbers: Any) -> Any:
        """One number for each segment, beside its row."""
        return numbers.reshape(-1, *[1] * len(self.rest))


_KINDS = {"sum": "sum", "mean": "sum", "max": "amax", "min": "amin", "prod": "prod"}


def _segment_reduce(
    data: Any, kind: str, lengths: Any, _: Any, offsets: Any, axis: int, __: bool, initial: float | None
) -> Any:
    parts = _Segments(data, lengths, offsets, axis)
    own = _KINDS[kind]
    found = met(parts.rows(data), parts.at, parts.count, own)
    if initial is not None:
        of_initial = torch.full_like(found, initial)
        found = TOGETHER[own](found, of_initial)
    if kind == "mean":
        length = parts.wide(parts.lengths)
        nothing = math.nan if initial is None else initial
        found = torch.where(length > 0, found / length.clamp(min=1), nothing)
    return found.reshape(parts.shape)


def _segment_reduce_backward(
    grad: Any, output: Any, data: Any, kind: str, lengths: Any, offsets: Any, axis: int, initial: float | None
) -> Any:
    parts = _Segments(data, lengths, offsets, axis)
    rows = parts.rows(data)
    own = picked(grad.reshape(-1, *parts.rest), 0, parts.at)
    if kind in ("max", "min"):
        is_it = rows == picked(output.reshape(-1, *parts.rest), 0, parts.at)
        many = met(is_it.to(rows.dtype), parts.at, parts.count, "sum")
        own = torch.where(is_it, own / picked(many, 0, parts.at), 0.0)
    elif kind == "mean":
        own = own / picked(parts.wide(parts.lengths), 0, parts.at)
    elif kind == "prod":
        own = own * _others(rows, parts, 1.0 if initial is None else initial)
    return own.reshape(data.shape)


def _others(rows: Any, parts: _Segments, initial: float) -> Any:
    """The product of all others in the same segment."""
    is_zero = rows == 0
    factors = met(torch.where(is_zero, 1.0, rows), parts.at, parts.count, "prod") * initial
    zeros = picked(met(is_zero.to(rows.dtype), parts.at, parts.count, "sum"), 0, parts.at)
    factors = picked(factors, 0, parts.at)
    alone = torch.where(is_zero, factors, factors / torch.where(is_zero, 1.0, rows))
    return torch.where(zeros > is_zero.to(rows.dtype), 0.0, alone)


# -- bags
# ----------------------------------------------------------------------------------------------------------


def _bags(
    weight: Any,
    indices: Any,
    offsets: Any,
    _: bool,
    mode: int,
    __: bool,
    factors: Any,
    include_last: bool,
    padding: int,
) -> tuple[Any, Any, Any, Any]:
    count = offsets.numel() - include_last
    places = torch.arange(indices.numel(), device=indices.device)
    of_bag = torch.searchsorted(offsets[:count].contiguous().to(places.dtype), places, right=True) - 1
    kept = (indices != (padding % weight.shape[0] if padding < -1 else padding)).nonzero()[:, 0]
    own, at = indices[kept], of_bag[kept]
    rows = picked(weight, 0, own)
    rows = rows if factors is None else rows * picked(factors, 0, kept)[:, None]
    sizes = torch.bincount(at, minlength=count)
    largest: Any = sizes
    if mode == MAX:
        values = met(rows, at, count, "amax")
        values = torch.where(sizes[:, None] > 0, values, 0.0)
        order, most = torch.arange(own.numel(), device=own.device)[:, None], own.numel()
        order = torch.where(rows == picked(values, 0, at), order, most)
        first = met(order, at, count, "amin", most)
        named = torch.cat([own, own.new_zeros(1)])[:, None].expand(-1, first.shape[1])
        largest = named.gather(0, first)
    else:
        values = met(rows, at, count, "sum")
        values = values / sizes[:, None].clamp(min=1) if mode == MEAN else values
    return values, of_bag, sizes, largest


def _bags_backward(
    grad: Any,
    indices: Any,
    of_bag: Any,
    sizes: Any,
    largest: Any,
    count: int,
    by_frequency: bool,
    mode: int,
    factors: Any,
    padding: int,
) -> Any:
    if mode == MAX:
        given = torch.where(sizes[:, None] > 0, grad, 0.0)
        return grad.new_zeros(count, grad.shape[1]).scatter_add(0, largest, given)
    kept = (indices != padding).nonzero()[:, 0]
    own, at = indices[kept], of_bag[kept]
    rows = picked(grad, 0, at)
    if mode == MEAN:
        rows = rows / picked(sizes, 0, at)[:, None]
    if factors is not None:
        rows = rows * picked(factors, 0, kept)[:, None]
    if by_frequency:
        rows = rows / picked(torch.bincount(own, minlength=count), 0, own)[:, None]
    return met(rows, own, count, "sum")


def _bags_backward_by_factors(grad: Any, weight: Any, indices: Any, _: Any, of_bag: Any, __: int, padding: int) -> Any:
    found = (picked(grad, 0, of_bag) * picked(weight, 0, indices)).sum(1)
    return torch.where(indices == padding, 0.0, found)


OURS: dict[str, Callable[..., Any]] = {
    "segment_reduce": _segment_reduce,
    "_segment_reduce_backward": _segment_reduce_backward,
    "_embedding_bag": _bags,
    "_embedding_bag_forward_only": _bags,
    "_embedding_bag_backward": lambda grad, at, _, of_bag, sizes, largest, count, often, mode, __, *rest: (
        _bags_backward(grad, at, of_bag, sizes, largest, count, often, mode, *rest)
    ),
    "_embedding_bag_dense_backward": _bags_backward,
    "_embedding_bag_per_sample_weights_backward": _bags_backward_by_factors,
}

INDICES: dict[str, Sequence[int]] = {
    "segment_reduce": (2, 4),
    "_segment_reduce_backward": (4, 5),
    "_embedding_bag": (1, 2),
    "_embedding_bag_forward_only": (1, 2),
}
"""Which of their arguments must be constants."""
