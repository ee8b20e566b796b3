"""Memory that several tensors share while a step is traced: what one writes, the others read.

A step has no memory, only values. So a write makes a new value of the whole memory, and a tensor that is asked for
its value afterwards reads its own part of that: where its elements lie tells its strides and its offset. A tensor that
is filled row by row, as in a loop, is kept as a list of rows until it is asked for as a whole: each row is what was
written there, and no row is copied when another is written.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .graph import Page
from .plans import Kind

aten = torch.ops.aten


@dataclass(frozen=True)
class Part:
    """Which places along a dimension of the memory a tensor has: `dim` of its own, from `start` on; None for one."""

    start: int
    step: int = 1
    count: int = 1
    dim: int | None = None


def part_of(base: Kind, kind: Kind) -> list[Part] | None:
    """For each dimension of the memory what a tensor has of it; None if there is no such thing.

    Args:
        base: the tensor that has all of the memory.
        kind: of a tensor with a part of it, whose dimensions of stride 0 are left out.
    """
    rest = kind.offset - base.offset
    if rest < 0:
        return None
    order = sorted((d for d, n in enumerate(base.shape) if n > 1), key=lambda d: -base.strides[d])
    starts = [0] * len(base.shape)
    for d in order:
        starts[d] = min(rest // base.strides[d], base.shape[d] - 1)
        rest -= starts[d] * base.strides[d]
    if rest:
        return None
    parts = [Part(start) for start in starts]
    for own, (size, stride) in enumerate(zip(kind.shape, kind.strides, strict=True)):
        if size == 1 or not stride:
            continue
        found = next((d for d in order if stride % base.strides[d] == 0 and parts[d].dim is None), None)
        if found is None:
            return None
        step = stride // base.strides[found]
        if starts[found] + step * (size - 1) >= base.shape[found]:
            return None
        parts[found] = Part(starts[found], step, size, own)
    return parts


class Storage:
    """The value of a memory.

    Attributes:
        kind: of the tensor that has all of it.
        home: the page on which what lies there is written down.
        is_input: do the step's inputs lie there?
        version: how many times it has been written to.
    """

    __slots__ = ("_along", "_rows", "_whole", "home", "is_input", "kind", "version")

    def __init__(self, whole: Any, kind: Kind, home: Page) -> None:
        self.kind, self.home, self.is_input, self.version = kind, home, False, 0
        self._whole, self._along = whole, 0
        self._rows: dict[int, Any] = {}

    # -- reading

    def read(self, kind: Kind, tensor: Callable[[Any], Any]) -> Any:
        """What a tensor of this kind has.

        Args:
            tensor: a tensor of what a node computes, for torch's operations.
        """
        base = self.kind
        if same(kind, base):
            return tensor(self._all(tensor))
        seen = _without_repeats(kind)
        parts = part_of(base, seen)
        if parts is None:
            flat = tensor(self._all(tensor)).reshape(-1)
            return aten.index(flat, [self._places(kind)])
        value = self._row(parts, tensor)
        if value is None:
            value = _narrowed(tensor(self._all(tensor)), parts)
        order = [part.dim for part in parts if part.dim is not None]
        value = _arranged(value, [order.index(d) for d in sorted(order)], seen.shape)
        return value if seen is kind else value.expand(kind.shape)

    def _row(self, parts: Sequence[Part], tensor: Callable[[Any], Any]) -> Any:
        """What lies within one row, if there are rows."""
        if not self._rows or parts[self._along].dim is not None:
            return None
        number, rest = parts[self._along].start, [*parts[: self._along], *parts[self._along + 1 :]]
        if number in self._rows:
            return _narrowed(tensor(self._rows[number]), rest)
        return _narrowed(tensor(self._whole), parts)

    def _all(self, tensor: Callable[[Any], Any]) -> Any:
        """The whole; what was a list of rows is one tensor from here on."""
        if self._rows:
            size = self.kind.shape[self._along]
            pieces: list[Any] = []
            for is_row, group in itertools.groupby(range(size), lambda number: number in self._rows):
                numbers = list(group)
                if is_row:
                    pieces.append(torch.stack([tensor(self._rows[number]) for number in numbers], self._along))
                else:
                    pieces.append(tensor(self._whole).narrow(self._along, numbers[0], len(numbers)))
            whole: Any = torch.cat(pieces, self._along) if len(pieces) > 1 else pieces[0]
            self._whole = whole.node
            self._rows = {}
        return self._whole

    def _places(self, kind: Kind) -> torch.Tensor:
        """Where the elements of a tensor of this kind stand in the whole, as torch counts them there."""
        base = self.kind
        reach = 1 + sum((n - 1) * k for n, k in zip(base.shape, base.strides, strict=True))
        own = kind.offset - base.offset
        last = own + sum((n - 1) * k for n, k in zip(kind.shape, kind.strides, strict=True))
        if own < 0 or last >= reach:
            raise Outside
        numbers = torch.arange(math.prod(base.shape), device=base.device).reshape(base.shape)
        cells = torch.full((reach,), -1, device=base.device)
        cells.as_strided(base.shape, base.strides, 0).copy_(numbers)
        found = cells.as_strided(kind.shape, kind.strides, own).contiguous()
        if found.numel() and int(found.min()) < 0:
            raise Outside
        return found

    # -- writing

    def write(self, kind: Kind, value: Any, tensor: Callable[[Any], Any]) -> None:
        """A tensor of this kind gets a new value."""
        base = self.kind
        self.version += 1
        if math.prod(kind.shape) == 0:
            return
        if same(kind, base):
            self._whole, self._rows = value, {}
            return
        parts = part_of(base, kind)
        if parts is None or any(not k and n > 1 for n, k in zip(kind.shape, kind.strides, strict=True)):
            places = self._places(kind).reshape(-1)
            if torch.unique(places).numel() < places.numel():
                raise Outside
            flat = tensor(self._all(tensor)).reshape(-1)
            put = aten.index_put(flat, [places], tensor(value).reshape(-1))
            self._whole = put.reshape(base.shape).node
            return
        order = [part.dim for part in parts if part.dim is not None]
        all_dims = [*order, *(d for d in range(len(kind.shape)) if d not in order)]
        moved = _arranged(tensor(value), all_dims, [kind.shape[d] for d in order])
        single = [d for d, part in enumerate(parts) if part.dim is None and base.shape[d] > 1]
        if self._rows and self._along not in single:
            self._all(tensor)
        if not single:
            self._whole = _replaced(tensor(self._all(tensor)), parts, moved).node
            return
        along = self._along if self._rows else single[0]
        self._along, number = along, parts[along].start
        rest = [*parts[:along], *parts[along + 1 :]]
        shape = [n for d, n in enumerate(base.shape) if d != along]
        if any(part.count < n for part, n in zip(rest, shape, strict=True)):
            row = self._rows.get(number)
            row = tensor(self._whole).select(along, number) if row is None else tensor(row)
            moved = _replaced(row, rest, moved)
        self._rows[number] = _arranged(moved, range(moved.ndim), shape).node

    def copy(self, other: Storage) -> bool:
        """Take over all of another one, row by row; False if the two are not laid out alike."""
        one, two = self.kind, other.kind
        if (one.shape, one.dtype) != (two.shape, two.dtype) or not other._rows:
            return False
        self.version += 1
        self._whole, self._along, self._rows = other._whole, other._along, dict(other._rows)
        return True

    def has_rows(self, dim: int) -> bool:
        """Is it a list of rows along a dimension?"""
        return bool(self._rows) and self._along == dim

    def with_row_added(self, number: int, value: Any, tensor: Callable[[Any], Any]) -> Storage:
        """Another one, with something added to a row."""
        result = Storage(self._whole, self.kind, self.home)
        result.version, result._along, result._rows = 1, self._along, dict(self._rows)
        number %= self.kind.shape[self._along]
        row = self._rows.get(number)
        before = tensor(self._whole).select(self._along, number) if row is None else tensor(row)
        result._rows[number] = (before + tensor(value)).node
        return result


class Outside(Exception):  # noqa: N818 - the tracer says what is wrong
    """A tensor reaches beyond the memory, or has several elements in one place."""


def same(one: Kind, other: Kind) -> bool:
    """Do two tensors have the same elements of a memory, in the same order?"""
    if one is other:
        return True
    if one.shape != other.shape or one.offset != other.offset:
        return False
    return all(n == 1 or a == b for n, a, b in zip(one.shape, one.strides, other.strides, strict=True))


def _without_repeats(kind: Kind) -> Kind:
    """With one element where a stride of 0 makes many of it."""
    if not any(not stride and size > 1 for size, stride in zip(kind.shape, kind.strides, strict=True)):
        return kind
    shape = tuple(size if stride else 1 for size, stride in zip(kind.shape, kind.strides, strict=True))
    return Kind(shape, kind.strides, kind.dtype, kind.device, kind.offset)


def _arranged(a: Any, order: Sequence[int], shape: Sequence[int]) -> Any:
    """With its dimensions in an order, and then in a shape."""
    a = a if list(order) == list(range(a.ndim)) else a.permute(list(order))
    return a if tuple(a.shape) == tuple(shape) else a.reshape(list(shape))


def _narrowed(a: Any, parts: Sequence[Part]) -> Any:
    """The part of a tensor, with the dimensions that it has several places of."""
    dim = 0
    for part in parts:
        if part.dim is None:
            a = a.select(dim, part.start)
            continue
        if part.count < a.shape[dim] or part.step > 1:
            a = a[(*[slice(None)] * dim, slice(part.start, part.start + part.step * (part.count - 1) + 1, part.step))]
        dim += 1
    return a


def _replaced(a: Any, parts: Sequence[Part], value: Any) -> Any:
    """A tensor with a part of it replaced."""
    short = [(d, part) for d, part in enumerate(parts) if part.count < a.shape[d]]
    shape = [part.count for part in parts]
    if not short:
        return value.reshape(shape)
    if len(short) == 1 and short[0][1].step == 1:
        (d, part), *_ = short
        end = part.start + part.count
        pieces = [a.narrow(d, 0, part.start), value.reshape(shape), a.narrow(d, end, a.shape[d] - end)]
        return torch.cat([piece for piece in pieces if piece.shape[d]], d)
    numbers = torch.arange(a.numel(), device=a.device).reshape(a.shape)
    for d, part in enumerate(parts):
        numbers = numbers.narrow(d, part.start, part.step * (part.count - 1) + 1)
        numbers = numbers[(*[slice(None)] * d, slice(None, None, part.step))]
    flat = aten.index_put(a.reshape(-1), [numbers.reshape(-1)], value.reshape(-1))
    return flat.reshape(a.shape)
