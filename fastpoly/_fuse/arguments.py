"""The arguments of ATen operations: what is in them, and what shape and dtype the result has.

Asking torch for the shapes of most operations, on its meta device, loads its compiler and sympy: a second. So those of
the commonest are computed here; a mistake in them is told as torch tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .._torch_private import schema as schema_of
from .stand_ins import stand_ins


def leaves(*values: Any) -> Iterator[Any]:
    """What is in nested lists, tuples and dicts: an operation's arguments hold nothing else (torch's own does more)."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from leaves(*value)
        elif isinstance(value, dict):
            yield from leaves(*value.values())
        else:
            yield value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The same with `function` of everything in them."""
    if isinstance(value, (list, tuple)):
        return [mapped(function, part) for part in value]
    if isinstance(value, dict):
        return {key: mapped(function, part) for key, part in value.items()}
    return function(value)


def substituted(function: Callable[[Any], Any], value: Any) -> Any:
    """The same of what a function of Python is called with: tuples are tuples, as an index must be, and have names."""
    if isinstance(value, tuple):
        parts = [substituted(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [substituted(function, part) for part in value]
    if isinstance(value, dict):
        return {key: substituted(function, part) for key, part in value.items()}
    return function(value)


_VIEWS = frozenset({"_unsafe_view", "unsafe_split", "unsafe_split_with_sizes"})
"""What shares memory with its operand, too, though its schema does not say so."""


class Operation:
    """What is asked of an ATen operation.

    Attributes:
        names, defaults: of its arguments, as its schema lists them.
        written: whether it writes to them.
        launch: what torch's launch of it is, as its record says; None if it has none.
        loose: "signs" if of the numbers that it is called with the result's shape and dtype depend on the signs alone;
            "index" if the last argument is a place along a dimension, which must exist; "" otherwise.
    """

    def __init__(self, func: Any, operations: Mapping[str, Any]) -> None:
        schema = schema_of(func)
        self.func, self.name = func, schema.name.removeprefix("aten::")
        self.overload = schema.overload_name
        self.names = [argument.name for argument in schema.arguments]
        self.defaults = [argument.default_value for argument in schema.arguments]
        self.written = [a.alias_info is not None and a.alias_info.is_write for a in schema.arguments]
        self.is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        self.is_view |= self.name in _VIEWS
        self.is_mutable = schema.is_mutable
        self.is_random = torch.Tag.nondeterministic_seeded in func.tags
        record: Any = operations.get(self.name.rstrip("_"))
        self.launch: str | None = record and record.launch
        self.is_elementwise = self.name in operations and record.is_elementwise
        self.loose = "index" if self.name in _BY_INDEX else ""
        if self.is_elementwise and self.name != "pow":  # what torch launches for a power depends on its exponent
            self.loose = "signs"

    def in_order(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The arguments as the schema lists them, defaults where nothing was given."""
        rest = zip(self.names[len(args) :], self.defaults[len(args) :], strict=True)
        return [*args, *(kwargs.get(name, default) for name, default in rest)]

    def targets(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
        """The tensors among its arguments that it writes to."""
        given = self.in_order(args, kwargs)
        if self.name in _KEEPS_STATISTICS:  # of which its schema says nothing
            return [given[i] for i in (3, 4) if given[5] and given[i] is not None]
        if not self.is_mutable:
            return []
        written = [value for is_written, value in zip(self.written, given, strict=True) if is_written]
        return [leaf for leaf in leaves(written) if leaf is not None]

    def loose_places(self, args: Sequence[Any]) -> list[int]:
        """Where among the arguments the numbers stand whose values do not matter."""
        if self.loose == "index":
            return [len(args) - 1] if self.has_place(args) else []
        return [i for i, value in enumerate(args) if self.loose and is_loose(value)]

    def has_place(self, args: Sequence[Any]) -> bool:
        """Is the last argument, of what is loose by "index", the place of an element?"""
        try:
            size = _BY_INDEX[self.name](*args)
            return bool(-size <= args[-1] < size)
        except (TypeError, IndexError):  # torch will say what is wrong
            return False


def is_loose(value: Any) -> bool:
    """Is it a number that is like others of its sign?"""
    return type(value) in (int, float) and (value > 0 or value < 0)


_KEEPS_STATISTICS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
"""Their fourth and fifth arguments are running statistics; the sixth says whether these learn."""

_BY_INDEX: dict[str, Callable[..., int]] = {
    "select": lambda a, dim, _: a.shape[dim],
    "select_backward": lambda _, sizes, dim, __: sizes[dim],
}


def array_of(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor's numbers for numpy, which has no bfloat16: all of those are float32, too; nor signs to be turned."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def result_like(operation: Operation, args: Any, kwargs: Any) -> Any:
    """A tensor without memory, of the shape, strides and dtype of the result."""
    func, name = operation.func, operation.name
    # most of these have an answer without torch's own, which takes 30 us and more
    if name in _REDUCTIONS and not kwargs:
        counts = name == "sum" and not args[0].dtype.is_floating_point
        dtype = torch.int64 if counts else args[0].dtype
        return torch.empty(_reduced(args[0].shape, *args[1:3]), dtype=dtype, device="meta")
    if name in _PRODUCTS:
        shapes = [tuple(tensor.shape) for tensor in args]
        if not _fit(*shapes):
            raise RuntimeError(f"{name}: shapes {shapes[0]} and {shapes[1]} cannot be multiplied")
        return torch.empty(_PRODUCTS[name](*shapes), dtype=args[0].dtype, device="meta")
    if name in _GRADIENTS_OF_VIEWS:
        return torch.empty(args[1], dtype=args[0].dtype, device="meta")
    if name in _WRITTEN_INTO:
        return torch.empty(args[0].shape, dtype=args[0].dtype, device="meta")
    if operation.is_elementwise:
        tensors = [a for a in leaves(args, kwargs) if isinstance(a, torch.Tensor)]
        shapes = [tuple(tensor.shape) for tensor in tensors]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise RuntimeError(f"{name}: shapes {' and '.join(map(str, shapes))} cannot be broadcast") from None
        with stand_ins():
            of_nothing = func(*mapped(_emptied, args), **mapped(_emptied, kwargs))
        is_plain = all(tensor.is_contiguous() and tensor.shape in (shape, ()) for tensor in tensors)
        if is_plain or name == "masked_fill" or (name == "pow" and operation.overload == "Scalar"):
            return torch.empty(shape, dtype=of_nothing.dtype, device="meta")
        return torch.empty_strided(shape, result_strides(shape, tensors), dtype=of_nothing.dtype, device="meta")
    with stand_ins():
        return func(*mapped(_shapes_only, args), **mapped(_shapes_only, kwargs))


def result_strides(shape: Sequence[int], operands: Sequence[torch.Tensor]) -> list[int]:
    """Of the result of an elementwise operation: without gaps, its dimensions in the order of those of its operands.

    As torch's TensorIterator has it: of two dimensions the first operand decides in which both have strides.
    """
    count = len(shape)
    given = []
    for tensor in operands:
        own = [
            0 if n == 1 != size else k
            for n, k, size in zip(tensor.shape, tensor.stride(), shape[count - tensor.ndim :], strict=True)
        ]
        given.append([0] * (count - tensor.ndim) + own)

    def order(one: int, other: int) -> int:
        for strides in given:
            if strides[one] and strides[other]:
                if strides[one] != strides[other]:
                    return strides[one] - strides[other]
                if shape[one] > shape[other]:
                    return 1
        return 0

    inwards = list(range(count))[::-1]  # the innermost first
    for start in range(1, count):
        at = start
        for before in range(start - 1, -1, -1):
            found = order(inwards[before], inwards[at])
            if found < 0:
                break
            if found > 0:
                inwards[before], inwards[at] = inwards[at], inwards[before]
                at = before
    strides, stride = [0] * count, 1
    for dim in inwards:
        strides[dim] = stride
        stride *= max(shape[dim], 1)
    return strides


def copied_like(operation: Operation, args: Any, kwargs: Any) -> torch.Tensor:
    """A tensor without memory that lies as a copy does: as the original if that has no gaps, or as it is asked for."""
    a = args[0]
    asked = dict(zip(operation.names, operation.in_order(args, kwargs), strict=True)).get("memory_format")
    if not isinstance(asked, torch.memory_format):  # a default, as a number
        asked = torch.contiguous_format if operation.name == "contiguous" else torch.preserve_format
    if asked != torch.preserve_format or a.is_contiguous():
        kept = torch.contiguous_format if asked == torch.preserve_format else asked
        return torch.empty(a.shape, dtype=a.dtype, device="meta", memory_format=kept)
    return torch.empty_strided(a.shape, result_strides(a.shape, [a]), dtype=a.dtype, device="meta")


def device_of(operation: Operation, args: Any, kwargs: Any) -> torch.device:
    """Where the result lies.

    Raises:
        RuntimeError: torch does not take tensors on these devices together. As in torch, a number of the CPU may stand
            beside tensors of a GPU in what is elementwise, and places of the CPU may pick elements of a GPU's tensor.
    """
    given = dict(zip(operation.names, operation.in_order(args, kwargs), strict=True))
    asked = given.get("device")
    if asked is not None:
        return torch.empty(0, device=asked).device  # "cuda" is one with a number
    name = operation.name
    read = (args[0], *args[2:]) if name in BY_LIST else (args[0],) if name in _ANYWHERE else (args, kwargs)
    tensors = [leaf for leaf in leaves(read) if isinstance(leaf, torch.Tensor)]
    is_number = [operation.is_elementwise and tensor.ndim == 0 and tensor.device.type == "cpu" for tensor in tensors]
    devices = {tensor.device for tensor, alone in zip(tensors, is_number, strict=True) if not alone}
    if len(devices) > 1:
        found = " and ".join(sorted(map(str, devices), reverse=True))
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found {found}")
    return next(iter(devices), tensors[0].device)


_WRITTEN_INTO = ("slice_scatter", "select_scatter", "diagonal_scatter")
"""What gives its first tensor with some elements replaced."""

_ANYWHERE = ("_to_copy", "copy", "clone", "lift_fresh", "lift_fresh_copy", "contiguous", "_conj")
"""What takes its elements from wherever they lie."""


def _reduced(shape: Sequence[int], dims: int | Sequence[int] | None = None, keep: bool = False) -> list[int]:
    """The shape that is left when `dims` (all where none are given) are summed over."""
    dims = [dims] if isinstance(dims, int) else list(dims or range(len(shape)))
    rank = max(len(shape), 1)
    for dim in dims:
        if not -rank <= dim < rank:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but got {dim})"
            )
    gone = {dim % rank for dim in dims}
    if len(gone) < len(dims):
        raise RuntimeError(f"dims {dims} name a dimension twice")
    return [1 if i in gone else size for i, size in enumerate(shape) if keep or i not in gone]


def _fit(one: Sequence[int], other: Sequence[int]) -> bool:
    """Can these be multiplied as matrices (or vectors, or batches of matrices)?"""
    return one[-1] == other[-2 if len(other) > 1 else 0] and one[:-2] == other[:-2]


def refuse_out_of_range(name: str, args: Any, is_traced: Callable[[Any], bool]) -> None:
    """Indices are data, known before the first step: raise IndexError for one that is not there."""
    source, *rest = args
    indices = rest[0] if name in BY_LIST else [None] * (rest[0] % max(source.ndim, 1)) + [rest[1]]
    for dim, index in enumerate(indices):
        if index is None or is_traced(index) or not index.numel():
            continue
        size = source.shape[dim] if source.ndim else 1
        low, high = int(index.min()), int(index.max())
        if high >= size or low < (-size if name in BY_LIST else 0):
            bad = high if high >= size else low
            raise IndexError(f"{name}: index {bad} is out of bounds for dimension {dim} with size {size}")


def without_masks(indices: Any, is_traced: Callable[[Any], bool]) -> list[Any]:
    """A mask that does not change picks places that do not change."""
    result: list[Any] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8) and not is_traced(index):
            result.extend(index.nonzero().unbind(1))
        else:
            result.append(index)
    return result


BY_LIST = ("index", "index_put", "_unsafe_index", "_unsafe_index_put")
BY_DIMENSION = ("gather", "scatter", "scatter_add")
_REDUCTIONS = ("sum", "mean", "amax", "amin")
_GRADIENTS_OF_VIEWS = ("select_backward", "slice_backward")
_PRODUCTS: dict[str, Callable[..., tuple[int, ...]]] = {
    "mm": lambda a, b: (a[0], b[1]),
    "mv": lambda a, _: (a[0],),
    "dot": lambda *_: (),
    "bmm": lambda a, b: (a[0], a[1], b[2]),
}


def _shapes_only(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _emptied(value: Any) -> Any:
    return torch.empty((0,) * value.ndim, dtype=value.dtype) if isinstance(value, torch.Tensor) else value
