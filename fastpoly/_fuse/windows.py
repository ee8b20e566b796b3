"""Convolutions and pooling as sums and extremes over windows.

A window is a view (`unfold`): where it lies in its tensor is an affine function of its place, so that nothing of it is
stored and the loops over it read what they need. Gradients by the input gather, too: each place asks the windows that
it is in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .picks import picked


def _each(value: Sequence[int], count: int) -> list[int]:
    """A setting for each of so many dimensions; torch takes one for all."""
    return list(value) * count if len(value) == 1 else list(value)


def _windows(a: Any, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Any:
    """Of the shape (..., *places, *sizes): the windows along the last dimensions."""
    first = a.ndim - len(sizes)
    for i, (size, stride, dilation) in enumerate(zip(sizes, strides, dilations, strict=True)):
        a = a.unfold(first + i, dilation * (size - 1) + 1, stride)
        a = a[..., ::dilation] if dilation > 1 else a
    return a


def _around(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Padding as torch has it: the last dimension first."""
    pairs = zip(reversed(before), reversed(after), strict=True)
    return [amount for pair in pairs for amount in pair]


def _padded(a: Any, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Any:
    pad = _around(before, after)
    return torch.constant_pad_nd(a, pad, value) if any(pad) else a


# -- convolutions
# ----------------------------------------------------------------------------------------------------


def _correlated(a: Any, weight: Any, strides: Sequence[int], dilations: Sequence[int], groups: int) -> Any:
    """(n, groups c, ...) with (groups o, c, *sizes) to (n, groups o, *places); `a` is padded."""
    (n, channels), (out, own, *sizes), k = a.shape[:2], weight.shape, len(strides)
    at = _windows(a, sizes, strides, dilations)
    places = at.shape[2 : 2 + k]
    at = at.reshape(n, groups, 1, channels // groups, *places, *sizes)
    factors = weight.reshape(1, groups, out // groups, own, *[1] * k, *sizes)
    return (at * factors).sum([3, *range(4 + k, 4 + 2 * k)]).reshape(n, out, *places)


def _weight_gradient(
    a: Any, grad: Any, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int], groups: int
) -> Any:
    """Of `_correlated` by its weight."""
    (n, channels), (out, *places), k = a.shape[:2], grad.shape[1:], len(strides)
    at = _windows(a, sizes, strides, dilations)
    for i, size in enumerate(places):
        at = at.narrow(2 + i, 0, size)  # torch lets a stride leave something over
    at = at.reshape(n, groups, 1, channels // groups, *places, *sizes)
    grad = grad.reshape(n, groups, out // groups, 1, *places, *[1] * k)
    return (at * grad).sum([0, *range(4, 4 + k)]).reshape(out, channels // groups, *sizes)


def _spread(
    grad: Any,
    weight: Any,
    into: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Any:
    """The gradient of a convolution by its input, whose last dimensions are `into`; or a transposed convolution."""
    out, own, *sizes = weight.shape
    k = len(sizes)
    for i, stride in enumerate(strides):  # zeros in between
        dim = grad.ndim - k + i
        if stride > 1 and grad.shape[dim] > 1:
            apart = torch.stack([grad, *[torch.zeros_like(grad)] * (stride - 1)], dim + 1).flatten(dim, dim + 1)
            grad = apart.narrow(dim, 0, (grad.shape[dim] - 1) * stride + 1)
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, sizes, strict=True)]
    before = [r - p for r, p in zip(reach, padding, strict=True)]
    after = [m + r - n - b for m, r, n, b in zip(into, reach, grad.shape[-k:], before, strict=True)]
    turned = weight.reshape(groups, out // groups, own, *sizes).transpose(1, 2)
    turned = turned.flip(list(range(3, 3 + k))).reshape(groups * own, out // groups, *sizes)
    return _correlated(_padded(grad, before, after), turned, [1] * k, dilations, groups)


def convolution(
    a: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    k = weight.ndim - 2
    if a.ndim == weight.ndim - 1:
        arguments = (weight, bias, stride, padding, dilation, transposed, output_padding, groups)
        return convolution(a[None], *arguments)[0]
    stride, padding, dilation, extra = (_each(v, k) for v in (stride, padding, dilation, output_padding))
    if transposed:
        each = zip(a.shape[2:], stride, padding, dilation, weight.shape[2:], extra, strict=True)
        into = [(n - 1) * s - 2 * p + d * (size - 1) + e + 1 for n, s, p, d, size, e in each]
        result = _spread(a, weight, into, stride, padding, dilation, groups)
    else:
        result = _correlated(_padded(a, padding, padding), weight, stride, dilation, groups)
    return result if bias is None else result + bias.reshape(-1, *[1] * k)


def convolution_backward(
    grad: Any,
    a: Any,
    weight: Any,
    _: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    __: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Any, Any, Any]:
    k = weight.ndim - 2
    stride, padding, dilation = (_each(v, k) for v in (stride, padding, dilation))
    of_a = of_weight = of_bias = None
    if wanted[0] and transposed:
        of_a = _correlated(_padded(grad, padding, padding), weight, stride, dilation, groups)
        for i, size in enumerate(a.shape[2:]):
            of_a = of_a.narrow(2 + i, 0, size)  # what the output's own padding adds is nobody's
    elif wanted[0]:
        of_a = _spread(grad, weight, a.shape[2:], stride, padding, dilation, groups)
    if wanted[1]:
        spread, rows = (grad, a) if transposed else (a, grad)
        spread = _padded(spread, padding, padding)
        of_weight = _weight_gradient(spread, rows, weight.shape[2:], stride, dilation, groups)
    if wanted[2]:
        of_bias = grad.sum([0, *range(2, grad.ndim)])
    return of_a, of_weight, of_bias


# -- the largest of a window
# ---------------------------------------------------------------------------------------------
#
# The windows along a dimension are a constant of the shape (windows, places in one), with -1 where one has fewer.


def _regular(a: Any, count: int, size: int, stride: int, padding: int, dilation: int, length: int) -> torch.Tensor:
    at = torch.arange(count, device=a.device)[:, None] * stride - padding
    at = at + torch.arange(size, device=a.device) * dilation
    return torch.where((at >= 0) & (at < length), at, -1)


def adaptive(a: Any, count: int, length: int) -> torch.Tensor:
    """Of adaptive pooling: from the floor of i n / m to the ceiling of (i + 1) n / m."""
    numbers = torch.arange(count, device=a.device)
    starts, ends = numbers * length // count, ((numbers + 1) * length + count - 1) // count
    at = starts[:, None] + torch.arange(int((ends - starts).max()), device=a.device)
    return torch.where(at < ends[:, None], at, -1)


def _covering(at: torch.Tensor, length: int) -> torch.Tensor:
    """For each place the windows that it is in, written like windows."""
    is_in = (at == torch.arange(length, device=at.device)[:, None, None]).any(-1)
    return columns(is_in)


def columns(is_in: torch.Tensor) -> torch.Tensor:
    """For each row of a matrix of truths the columns that are true, written like windows."""
    counts = is_in.sum(1)
    along = torch.arange(max(int(counts.max()), 1), device=is_in.device)
    order = torch.argsort((~is_in).byte(), dim=1, stable=True)[:, : along.numel()]
    return torch.where(along < counts[:, None], order, -1)


def _numbers(along: Sequence[torch.Tensor], sizes: Sequence[int]) -> torch.Tensor:
    """Of the shape (*windows, places in one): as torch counts the elements of `sizes`; -1 for none."""
    k, number, is_there = len(sizes), torch.zeros_like(along[0][:1, :1]), along[0][:1, :1] == along[0][:1, :1]
    number, is_there = (one.reshape([1] * 2 * k) for one in (number, is_there))
    for i, (at, size) in enumerate(zip(along, sizes, strict=True)):
        shape = [at.shape[0] if d == i else at.shape[1] if d == k + i else 1 for d in range(2 * k)]
        number = number * size + at.reshape(shape)
        is_there = is_there & (at.reshape(shape) >= 0)
    return torch.where(is_there, number, -1).flatten(-k)


def _picked(a: Any, along: Sequence[torch.Tensor]) -> Any:
    """Windows along the last dimensions, of the shape (..., *windows, places in one); anything where there is none."""
    k = len(along)
    for i, at in enumerate(along):
        a = picked(a, a.ndim - k + i, at.clamp(min=0))
    first = a.ndim - 2 * k
    return a.permute([*range(first), *range(first, a.ndim, 2), *range(first + 1, a.ndim, 2)]).flatten(-k)


def _largest(windows: Any, numbers: torch.Tensor) -> tuple[Any, Any]:
    """The largest along the last dimension and its number: of several the first, and NaN is larger than all."""
    values = windows.amax(-1)
    is_it = ((windows == values[..., None]) | (windows != windows)) & (numbers >= 0)
    return values, torch.where(is_it, numbers, int(numbers.max()) + 1).amin(-1)


def _largest_backward(grad: Any, indices: Any, along: Sequence[torch.Tensor], sizes: Sequence[int]) -> Any:
    """Each place asks the windows that it is in whether it was the largest."""
    covering = [_covering(at, size) for at, size in zip(along, sizes, strict=True)]
    own = torch.arange(math.prod(sizes), device=covering[0].device).reshape(*sizes, 1)
    is_it = (_picked(indices, covering) == own) & (_numbers(covering, grad.shape[-len(sizes) :]) >= 0)
    return torch.where(is_it, _picked(grad, covering), 0.0).sum(-1)


@dataclass(frozen=True)
class _Pooling:
    """Windows of one size, everywhere the same distance apart."""

    sizes: list[int]
    strides: list[int]
    padding: list[int]
    dilations: list[int]
    counts: list[int]

    @staticmethod
    def of(a: Any, k: int, *settings: Any) -> _Pooling:
        """From the arguments of torch's operation in k dimensions."""
        kernel, stride, padding, dilation, ceil_mode = settings
        kernel = _each(kernel, k)
        stride, padding, dilation = _each(stride or kernel, k), _each(padding, k), _each(dilation, k)
        counts = []
        for n, size, s, p, d in zip(a.shape[-k:], kernel, stride, padding, dilation, strict=True):
            count = (n + 2 * p - d * (size - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
            counts.append(count - 1 if ceil_mode and (count - 1) * s >= n + p else count)  # the last begins within
        return _Pooling(kernel, stride, padding, dilation, counts)

    def along(self, a: Any) -> list[torch.Tensor]:
        """The windows along each dimension."""
        sizes = a.shape[-len(self.sizes) :]
        each = zip(self.counts, self.sizes, self.strides, self.padding, self.dilations, sizes, strict=True)
        return [_regular(a, *settings) for settings in each]

    def windows(self, a: Any) -> Any:
        """What is in them; -inf outside of the tensor."""
        sizes = a.shape[-len(self.sizes) :]
        each = zip(sizes, self.counts, self.sizes, self.strides, self.padding, self.dilations, strict=True)
        after = [(count - 1) * s + d * (size - 1) + 1 - p - n for n, count, size, s, p, d in each]
        padded = _padded(a, self.padding, after, -math.inf)
        return _windows(padded, self.sizes, self.strides, self.dilations).flatten(-len(self.sizes))


def _max_pool(k: int) -> Callable[..., Any]:
    def pool(a: Any, *settings: Any) -> tuple[Any, Any]:
        pooling = _Pooling.of(a, k, *settings)
        return _largest(pooling.windows(a), _numbers(pooling.along(a), a.shape[-k:]))

    return pool


def _max_pool_backward(k: int) -> Callable[..., Any]:
    def gradient(grad: Any, a: Any, *settings: Any) -> Any:
        *settings_of_windows, indices = settings
        along = _Pooling.of(a, k, *settings_of_windows).along(a)
        return _largest_backward(grad, indices, along, a.shape[-k:])

    return gradient


def _adaptive_max_pool(a: Any, counts: Sequence[int]) -> tuple[Any, Any]:
    sizes = a.shape[-len(counts) :]
    along = [adaptive(a, count, size) for count, size in zip(counts, sizes, strict=True)]
    numbers = _numbers(along, sizes)
    return _largest(torch.where(numbers >= 0, _picked(a, along), -math.inf), numbers)


def _adaptive_max_pool_backward(k: int) -> Callable[..., Any]:
    def gradient(grad: Any, a: Any, indices: Any) -> Any:
        sizes = a.shape[-k:]
        along = [adaptive(a, count, size) for count, size in zip(grad.shape[-k:], sizes, strict=True)]
        return _largest_backward(grad, indices, along, sizes)

    return gradient


OURS: dict[str, Callable[..., Any]] = {
    "convolution": convolution,
    "convolution_backward": convolution_backward,
    "max_pool2d_with_indices": _max_pool(2),
    "max_pool3d_with_indices": _max_pool(3),
    "max_pool2d_with_indices_backward": _max_pool_backward(2),
    "max_pool3d_with_indices_backward": _max_pool_backward(3),
    "adaptive_max_pool2d": _adaptive_max_pool,
    "adaptive_max_pool3d": _adaptive_max_pool,
    "adaptive_max_pool2d_backward": _adaptive_max_pool_backward(2),
    "adaptive_max_pool3d_backward": _adaptive_max_pool_backward(3),
}
