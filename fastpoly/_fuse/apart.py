"""Taking operations apart into those that have a rule: torch's own decompositions, and ours where torch has none."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .._torch_private import restore_weights, validates
from . import (
    attention,
    distances,
    factorizations,
    losses,
    orders,
    packed,
    picks,
    recurrent,
    sampling,
    segments,
    separable,
    sequences,
    special_apart,
    spectra,
    windows,
)
from .own_operations import are_had, put, put_add
from .rules import SELECTED


class BeforeAutograd(TorchFunctionMode):
    """What is done to a call before autograd sees it.

    A vector times a matrix becomes a matrix times a vector: torch's own way changes a tensor's shape in place.

    Args:
        weights: gets those of recurrent layers, as these keep them.
        require: takes what must be so, or the function raises; returns False if it does not want it.
    """

    def __init__(self, weights: list[Any], require: Callable[[torch.Tensor], bool]) -> None:
        super().__init__()
        self.weights, self.require = weights, require

    def restore(self) -> None:
        """Recurrent layers have their own weights again; what they were called with is forgotten."""
        for weights in self.weights:
            if type(weights) is list:
                restore_weights(weights)
        self.weights.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in recurrent.STEPS:
            self.weights.append(recurrent.weights_of(args))
            with self:
                return recurrent.called(name, *args, **(kwargs or {}))
        if name.removesuffix("_cell") in recurrent.STEPS:
            with self:
                return recurrent.cell(name.removesuffix("_cell"), *args, **(kwargs or {}))
        if name in BEFORE:
            with self:
                found = BEFORE[name](*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        if name == "_is_all_true" and validates(sys._getframe()):
            valid = func(*args)
            return torch.tensor(True) if self.require(valid) else valid
        if name == "linear_cross_entropy":  # its options say in what pieces it is computed
            kwargs = {**(kwargs or {}), "options": None}
        if name in _MATMUL and len(args) == 2 and not kwargs:
            one, other = args[::-1] if name == "__rmatmul__" else args
            if one.ndim == 1 and other.ndim == 2:
                return torch.mv(other.t(), one)
        return func(*args, **(kwargs or {}))


BEFORE: dict[str, Callable[..., Any]] = {
    "ctc_loss": sequences.ctc_loss,
    "grid_sample": sampling.grid_sample,
    "grid_sampler": sampling.grid_sampler,
    "grid_sampler_2d": sampling.grid_sampler,
    "grid_sampler_3d": sampling.grid_sampler,
    "_pack_padded_sequence": packed.pack,
    "_pad_packed_sequence": packed.pad_packed,
    "quantile": orders.quantile,
    "nanquantile": partial(orders.quantile, of_numbers=True),
}
"""Functions of torch that are something else before autograd sees them: what autograd makes of these has a rule."""

_MATMUL = frozenset({"matmul", "__matmul__", "__rmatmul__"})


def _variance(a: Any, dims: Any = None, correction: Any = None, keep: bool = False) -> Any:
    if a.ndim == 0:
        return a * 0 / max(1 - (1 if correction is None else correction), 0), a.clone()
    dims = list(range(a.ndim)) if not dims else [dims] if isinstance(dims, int) else list(dims)
    count = math.prod(a.shape[d] for d in dims)
    mean = a.mean(dims, keepdim=True)
    squares = ((a - mean) ** 2).sum(dims, keepdim=keep)
    divisor = max(count - (1 if correction is None else correction), 0)
    return squares / divisor, mean if keep else mean.squeeze(dims)


def extreme(a: Any, dim: int, keep: bool, largest: bool) -> Any:
    """The largest or smallest values along a dimension, and the first places where they stand."""
    if a.ndim == 0:
        return a.clone(), a.new_zeros((), dtype=torch.int64)  # autograd wants a tensor that is not what it gave
    values = a.amax(dim, keepdim=True) if largest else a.amin(dim, keepdim=True)
    size = a.shape[dim]
    numbers = torch.arange(size, device=a.device).reshape([size if d == dim % a.ndim else 1 for d in range(a.ndim)])
    there = (a == values) | (a != a)
    places = torch.where(there, numbers, size - 1).amin(dim, keepdim=True)
    return (values, places) if keep else (values.squeeze(dim), places.squeeze(dim))


def _weight_norm_backward(grad: Any, v: Any, g: Any, norms: Any, dim: int) -> tuple[Any, Any]:
    """Of v * g / |v|, with the norms over all dimensions but one."""
    along = [d for d in range(v.ndim) if d != dim % v.ndim]
    inner = (grad * v).sum(along, keepdim=True) / norms
    return g / norms * (grad - v * inner / norms), inner.reshape(g.shape)


def _place_of_extreme(a: Any, dim: int | None, keep: bool, largest: bool) -> Any:
    if dim is not None:
        return extreme(a, dim, keep, largest)[1]
    place = extreme(a.reshape(-1), 0, False, largest)[1]
    return place.reshape([1] * a.ndim) if keep else place


def _unsliced(grad: Any, sizes: Sequence[int], dim: int, start: int, _: int, step: int) -> Any:
    """The gradient of a slice: zeros with `grad` where the slice was."""
    dim, size = dim % len(sizes), sizes[dim % len(sizes)]
    start = max(start + size, 0) if start < 0 else min(start, size)
    if step > 1 and grad.shape[dim] > 0:  # each element, and zeros up to the next
        apart = torch.stack([grad, *[torch.zeros_like(grad)] * (step - 1)], dim + 1).flatten(dim, dim + 1)
        grad = apart.narrow(dim, 0, (grad.shape[dim] - 1) * step + 1)
    edges = [(n, *sizes[dim + 1 :]) for n in (start, size - start - grad.shape[dim])]
    zeros = [grad.new_zeros((*sizes[:dim], *edge)) for edge in edges]
    return torch.cat([zeros[0], grad, zeros[1]], dim)


def _padded(a: Any, pad: Sequence[int], value: float = 0) -> Any:
    for i in range(len(pad) // 2):
        dim, (before, after) = a.ndim - 1 - i, pad[2 * i : 2 * i + 2]
        a = a.narrow(dim, max(-before, 0), a.shape[dim] + min(before, 0) + min(after, 0))
        edges = [a.new_full((*a.shape[:dim], max(n, 0), *a.shape[dim + 1 :]), value) for n in (before, after)]
        a = torch.cat([edges[0], a, edges[1]], dim) if max(before, after) > 0 else a
    return a


def _rolled(a: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    if not dims:
        return _rolled(a.flatten(), shifts, [0]).reshape(a.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        size = a.shape[dim]
        start = -shift % max(size, 1)
        a = torch.cat([a.narrow(dim, start, size - start), a.narrow(dim, 0, start)], dim)
    return a


def scattered(name: str, a: Any, dim: int, index: Any, values: Any, is_known: bool) -> Any:
    """scatter and scatter_add in terms of what has a rule; None if the call itself has one.

    A rule has scatter_add, and scatter by a short index that changes from step to step, if the index is as long as `a`
    in all dimensions but `dim`.

    Args:
        name: "scatter" or "scatter_add".
        values: a tensor, or for scatter a number.
        is_known: is the index the same in every step?
    """
    operation = getattr(torch, name)
    if a.ndim == 0 or index.ndim == 0:  # as torch has it, a vector of one
        values = values.reshape(-1) if isinstance(values, torch.Tensor) else values
        return operation(a.reshape(-1), 0, index.reshape(-1), values).reshape(a.shape)
    dim %= a.ndim
    for d in range(a.ndim):
        size = index.shape[d]
        if isinstance(values, torch.Tensor) and size < values.shape[d]:
            return operation(a, dim, index, values.narrow(d, 0, size))
        if d != dim and size < a.shape[d]:  # it leaves the rest as it is
            rest = a.narrow(d, size, a.shape[d] - size)
            return torch.cat([operation(a.narrow(d, 0, size), dim, index, values), rest], d)
    if index.numel() == 0:
        return a.clone()
    if not is_known:
        many = index.shape[dim] > SELECTED and index.shape[dim] * a.shape[dim] > COMPARED
        if many and are_had(a):
            return (put_add if name == "scatter_add" else put)(a, dim, index, _tensor_like(a, values, index.shape))
        if name == "scatter_add" or index.shape[dim] <= SELECTED:
            return None
        here = torch.arange(a.shape[dim], device=index.device).reshape([-1 if d == dim else 1 for d in range(a.ndim)])
        numbers = torch.arange(index.shape[dim], device=index.device)
        there = numbers.reshape([-1 if d == dim + 1 else 1 for d in range(a.ndim + 1)])
        is_there = index.unsqueeze(dim) == here.unsqueeze(dim + 1)
        return _placed(a, dim, torch.where(is_there, there, -1).amax(dim + 1), values)
    if name == "scatter_add":
        return picks.scatter_add(a, dim, index, values)
    # where several values go to one place, the last of them stays: which one that is, is known
    numbers = torch.arange(index.shape[dim], device=index.device)
    numbers = numbers.reshape([-1 if d == dim else 1 for d in range(a.ndim)]).expand(index.shape)
    return _placed(a, dim, torch.full(a.shape, -1, device=index.device).scatter(dim, index, numbers), values)


COMPARED = 256
"""Up to so many pairs of a place and an index along a dimension, all are compared, in registers: 16 with each other."""


def _tensor_like(a: Any, value: Any, shape: Sequence[int]) -> Any:
    """A tensor of that value, if it is a number."""
    return value if isinstance(value, torch.Tensor) else torch.full(shape, value, dtype=a.dtype, device=a.device)


def _placed(a: Any, dim: int, last: Any, values: Any) -> Any:
    """`a` with `values` (or one value) at the places `last` along a dimension, where these are not negative."""
    if isinstance(values, torch.Tensor):
        values = values.gather(dim, last.clamp(min=0))
    return torch.where(last >= 0, values, a)


def _zeros_in_memory_as(a: Any, like: Any, self_num_batch_dims: int = 0) -> Any:
    """Zeros that lie in memory as `like` does, of which forward differentiation takes views."""
    batches = a.shape[:self_num_batch_dims]
    last = sum((size - 1) * stride for size, stride in zip(like.shape, like.stride(), strict=True))
    room = like.storage_offset() + max(last, 0) + 1
    strides = [room * math.prod(batches[d + 1 :]) for d in range(len(batches))]
    zeros = a.new_zeros(room * math.prod(batches))
    return zeros.as_strided((*batches, *like.shape), (*strides, *like.stride()), like.storage_offset())


def _scattered_with_strides(a: Any, source: Any, *strides: Any) -> Any:
    """as_strided_scatter: a copy that is written to."""
    result = a.clone()
    result.as_strided(*strides).copy_(source)
    return result


def _added(a: Any, dim: int, index: Any, source: Any, alpha: Any = 1) -> Any:
    """index_add, whose index may be a number."""
    if a.ndim == 0:
        return a + alpha * source.reshape(-1)[: index.numel()].sum()
    places = [None] * (dim % a.ndim) + [index.reshape(-1)]
    return torch.ops.aten.index_put(a, places, source if alpha == 1 else source * alpha, True)


def _product_and_sum(a: Any, one: Any, other: Any, beta: Any, alpha: Any) -> Any:
    """addbmm."""
    product = alpha * torch.bmm(one, other).sum(0)
    return product.clone() if beta == 0 else beta * a + product


def _trilinear(
    one: Any, two: Any, three: Any, of_one: Any, of_two: Any, of_three: Any, summed: Sequence[int], _: int = 1
) -> Any:
    """A sum of products of three, each with new dimensions of size 1."""
    for dims, at in ((of_one, 0), (of_two, 1), (of_three, 2)):
        parts = [one, two, three]
        for dim in sorted(dims):
            parts[at] = parts[at].unsqueeze(dim)
        one, two, three = parts
    product = one * two * three
    return product.sum(summed) if summed else product


# -- gradients with NaN where torch's kernels have it, which its decompositions have not; of means of nothing; and with
# -- digits where its decompositions have cancelled them


def _elu_backward(grad: Any, alpha: float, scale: float, inside: float, is_result: bool, a: Any) -> Any:
    negative = a + alpha * scale if is_result else alpha * scale * torch.exp(a * inside)
    return torch.where(a > 0, grad * scale, grad * inside * negative)


def _smooth_l1_backward(grad: Any, a: Any, target: Any, reduction: int, beta: float) -> Any:
    off = a - target
    grad = grad / max(a.numel(), 1) if reduction == _MEAN else grad
    return grad * (torch.where(off.abs() >= beta, off.sign(), off / beta) if beta else off.sign())


def _mse_backward(grad: Any, a: Any, target: Any, reduction: int) -> Any:
    return grad * (2 / max(a.numel(), 1) if reduction == _MEAN else 2) * (a - target)


def _soft_margin_backward(grad: Any, a: Any, target: Any, reduction: int) -> Any:
    slope = -1 / max(a.numel(), 1) if reduction == _MEAN else -1.0
    z = torch.exp(-target * a)  # torch's decomposition has sigmoid - 1: of a slope of 1e-16 no digit is left
    return target * z * slope / (z + 1) * grad


_A_SIXTH = float(np.float32(1 / 6))
"""As torch's kernel has it, in double, too."""

_MEAN = 1
"""What torch calls the reduction "mean" in C++."""


def _shifted(a: torch.Tensor, dim: int) -> torch.Tensor:
    return a - a.amax(dim, keepdim=True) if a.numel() else a


def _softmax(a: torch.Tensor, dim: int) -> torch.Tensor:
    """As torch's own, which imports sympy to ask for its sizes; so does the next."""
    exponentials = _shifted(a, dim).exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def _log_softmax(a: torch.Tensor, dim: int) -> torch.Tensor:
    shifted = _shifted(a, dim)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


OURS: dict[str, Callable[..., Any]] = {
    "_is_all_true": lambda a: a.all(),
    "_is_any_true": lambda a: a.any(),  # torch takes these apart into what is no ATen operation
    "var": lambda *arguments: _variance(*arguments)[0],
    "var_mean": _variance,
    "split": lambda a, size, dim=0: [
        a.narrow(dim, start, min(size, a.shape[dim] - start)) for start in range(0, a.shape[dim], size)
    ],
    "split_with_sizes": lambda a, sizes, dim=0: [a.narrow(dim, sum(sizes[:i]), size) for i, size in enumerate(sizes)],
    "unsafe_split": lambda a, size, dim=0: list(a.split(size, dim)),
    "argmax": lambda a, dim=None, keep=False: _place_of_extreme(a, dim, keep, largest=True),
    "argmin": lambda a, dim=None, keep=False: _place_of_extreme(a, dim, keep, largest=False),
    "_has_same_storage_numel": lambda a, b: a.numel() == b.numel(),
    "_new_zeros_with_same_feature_meta": lambda *arguments, **named: _zeros_in_memory_as(*arguments, **named),
    "_weight_norm_interface_backward": lambda *arguments: _weight_norm_backward(*arguments),
    "_softmax": lambda a, dim, _: _softmax(a, dim),
    "_log_softmax": lambda a, dim, _: _log_softmax(a, dim),
    "slice_backward": lambda *arguments: _unsliced(*arguments),
    "elu_backward": lambda *arguments: _elu_backward(*arguments),
    "hardtanh_backward": lambda grad, a, low, high: torch.where((a > low) & (a < high), grad, 0.0),
    "hardsigmoid_backward": lambda grad, a: torch.where((a > -3) & (a < 3), grad * _A_SIXTH, 0.0),
    "hardswish_backward": lambda grad, a: torch.where(a >= 3, 1.0, torch.where(a <= -3, 0.0, a / 3 + 0.5)) * grad,
    "smooth_l1_loss_backward": lambda *arguments: _smooth_l1_backward(*arguments),
    "mse_loss_backward": lambda *arguments: _mse_backward(*arguments),
    "soft_margin_loss_backward": lambda *arguments: _soft_margin_backward(*arguments),
    "index_add": lambda *arguments: _added(*arguments),
    "roll": lambda *arguments: _rolled(*arguments),
    "constant_pad_nd": lambda *arguments: _padded(*arguments),
    **factorizations.APART,
    **spectra.APART,
    **special_apart.APART,
    **orders.APART,
    **picks.OURS,
    **windows.OURS,
    **separable.OURS,
    **distances.OURS,
    **losses.OURS,
    **segments.OURS,
    **attention.OURS,
    "as_strided_scatter": lambda *arguments: _scattered_with_strides(*arguments),
    "addbmm": lambda a, one, other, beta, alpha: _product_and_sum(a, one, other, beta, alpha),
    "_trilinear": lambda *arguments: _trilinear(*arguments),
}

INDICES = picks.INDICES | segments.INDICES
"""Which arguments of these operations must be the same in every step."""

ROW_BY_ROW = frozenset({"log_sigmoid_forward", "repeat", "index_add", "tril", "triu", "diag_embed", "index_select"})
"""Whose results lie so in memory, however their operands do."""


def laid_out(name: str, result: Any) -> Any:
    """What an operation gives, as its own result lies in memory."""
    if name not in ROW_BY_ROW:
        return result
    return tuple(map(torch.Tensor.contiguous, result)) if isinstance(result, tuple) else result.contiguous()
