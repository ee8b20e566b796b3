"""Picking and putting by constant indices: each place's own picks, found once, instead of comparing all with all.

A tensor that is written to is laid out as rows, one for each place that an index can name. What goes to a row is listed
in a constant, so that a sum over what meets at a row reads that alone: the gradient of a lookup costs what the lookup
costs, and not the table times the lookups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten

COMPARED = 1 << 14
"""Up to so many pairs of a place and a pick a sum compares all with all, in registers. Its shapes depend on no values,
so that loops of it can be one operation on rows."""

CROWDED = 4
"""Rows are as long as the longest. If that takes so many times what there is to pick, long ones are cut first."""

NEUTRAL = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -math.inf, "amin": math.inf}
"""What of nothing is, and does nothing to what is there."""

TOGETHER: dict[str, Callable[[Any, Any], Any]] = {
    "sum": torch.add,
    "prod": torch.mul,
    "amax": torch.maximum,
    "amin": torch.minimum,
}


def picked(a: Any, dim: int, places: torch.Tensor) -> Any:
    """The elements of `a` at these places along a dimension, which becomes the dimensions of `places`."""
    return aten.index(a, [*[None] * dim, places])


def _counting(like: torch.Tensor, count: int) -> torch.Tensor:
    """0, 1, 2, ..., where the indices lie."""
    return torch.arange(count, device=like.device)


# -- what meets at a row
# ----------------------------------------------------------------------------------------------


def met(values: Any, at: torch.Tensor, count: int, kind: str, neutral: float | None = None) -> Any:
    """Rows of what goes to each of `count` places: the sum (product, ...) of those of `values` that `at` sends there.

    Args:
        values: of the shape (n, ...).
        at: a constant vector of n places.
        kind: "sum", "prod", "amax" or "amin".
        neutral: what of nothing is, if not what NEUTRAL says.
    """
    rest, neutral = values.shape[1:], NEUTRAL[kind] if neutral is None else neutral
    if not at.numel() or not count:
        return values.new_full((count, *rest), neutral)
    counts = torch.bincount(at, minlength=count)
    longest, fair = int(counts.max()), -(-at.numel() // count)
    order, starts = torch.argsort(at, stable=True), counts.cumsum(0) - counts
    if longest > 2 * fair and longest * count > CROWDED * at.numel():  # most of the list would be padding
        pieces = (counts + 2 * fair - 1) // (2 * fair)
        numbers = torch.empty_like(at).scatter(0, order, _counting(at, at.numel()) - starts[at[order]])
        first = pieces.cumsum(0) - pieces
        cut = met(values, first[at] + numbers // (2 * fair), int(pieces.sum()), kind, neutral)
        return met(cut, torch.repeat_interleave(_counting(at, count), pieces), count, kind, neutral)
    along = _counting(at, longest)
    is_there = along < counts[:, None]
    there = picked(values, 0, order[(starts[:, None] + along).clamp(max=at.numel() - 1)])
    if not bool(is_there.all()):
        is_there = is_there.reshape(count, longest, *[1] * len(rest)).to(values.device)
        there = torch.where(is_there, there, neutral)
    if kind == "sum":
        return there.sum(1)
    return there.prod(1) if kind == "prod" else there.amax(1) if kind == "amax" else there.amin(1)


def reduced_at(rows: Any, at: torch.Tensor, values: Any, kind: str, include_self: bool) -> Any:
    """Rows that are combined with the rows of `values` that `at` sends to them."""
    count, own = rows.shape[0], "sum" if kind == "mean" else kind
    found = met(values, at, count, own)
    shape = (count, *[1] * (rows.ndim - 1))
    counts = torch.bincount(at, minlength=count).reshape(shape).to(rows.device)
    result = TOGETHER[own](rows, found) if include_self else found
    if kind == "mean":
        result = result / (counts + include_self).clamp(min=1).to(rows.dtype)
    return result if include_self else torch.where(counts > 0, result, rows)


def put(rows: Any, at: torch.Tensor, values: Any) -> Any:
    """Rows replaced by the last of the rows of `values` that `at` sends there."""
    if not at.numel():
        return rows.clone()
    last = torch.full((rows.shape[0],), -1, device=at.device).index_put((at,), _counting(at, at.numel()))
    is_there = (last >= 0).reshape(-1, *[1] * (rows.ndim - 1)).to(rows.device)
    new = picked(values, 0, last.clamp(min=0))
    return new if bool(is_there.all()) else torch.where(is_there, new, rows)


# -- tensors as rows
# ------------------------------------------------------------------------------------------------------


class Rows:
    """What several indices name together, as rows of a tensor.

    Args:
        shape: of the tensor.
        indices: for each of its first dimensions constant whole numbers, or None.
    """

    def __init__(self, shape: Sequence[int], indices: Sequence[torch.Tensor | None]) -> None:
        given = [(d, index) for d, index in enumerate(indices) if index is not None]
        dims = [d for d, _ in given]
        self.shape, self.others = tuple(shape), [d for d in range(len(shape)) if d not in dims]
        self.order = [*dims, *self.others]
        self.sizes = [shape[d] for d in self.others]
        self.count = math.prod(shape[d] for d in dims)
        at: Any = 0
        for d, index in given:
            at = at * shape[d] + torch.where(index < 0, index + shape[d], index).long()
        self.index_shape = tuple(at.shape)
        self.at = at.reshape(-1)
        adjacent = dims[-1] - dims[0] == len(dims) - 1
        self.start = dims[0] if adjacent else 0

    def of(self, a: Any) -> Any:
        """The tensor as rows."""
        return a.permute(self.order).reshape(self.count, *self.sizes)

    def back(self, rows: Any) -> Any:
        """Rows as a tensor."""
        moved = rows.reshape([self.shape[d] for d in self.order])
        return moved.permute([self.order.index(d) for d in range(len(self.order))])

    def picked(self, a: Any) -> Any:
        """What the indices name, in the order of torch's indexing."""
        found = picked(self.of(a), 0, self.at.reshape(self.index_shape))
        k = len(self.index_shape)
        rest = range(k, found.ndim)
        return found.permute([*rest[: self.start], *range(k), *rest[self.start :]])

    def values(self, values: Any) -> Any:
        """What is to be put where the indices are, as rows."""
        k = len(self.index_shape)
        shape = [*self.sizes[: self.start], *self.index_shape, *self.sizes[self.start :]]
        spread = values.expand(shape)
        own = range(self.start, self.start + k)
        first = spread.permute([*own, *(d for d in range(len(shape)) if d not in own)])
        return first.reshape(-1, *self.sizes)


def index_put(a: Any, indices: Sequence[torch.Tensor | None], values: Any, accumulate: bool) -> Any:
    """index_put by constant indices; None if the comparing rule has it as well."""
    rows = Rows(a.shape, indices)
    if not accumulate:
        return rows.back(put(rows.of(a), rows.at, rows.values(values)))
    if rows.count * rows.at.numel() <= COMPARED:
        return None
    return a + rows.back(met(rows.values(values), rows.at, rows.count, "sum"))


def index(a: Any, indices: Sequence[torch.Tensor | None]) -> Any:
    """Indexing by several constant indices at once; None if there is one alone, or one that counts along."""
    given = [index for index in indices if index is not None]
    if len(given) < 2 or any(_counts(index, given) for index in given):
        return None
    return Rows(a.shape, indices).picked(a)


def _counts(index: torch.Tensor, given: Sequence[torch.Tensor]) -> bool:
    shape = torch.broadcast_shapes(*(one.shape for one in given))  # type: ignore[no-untyped-call]
    return index.shape == shape and len(shape) == 1 and torch.equal(index, torch.arange(shape[0], device=index.device))


def places_along(a: Any, dim: int, index: torch.Tensor) -> torch.Tensor:
    """Which element of `a`, as a vector, each number of `index` along `dim` names, for gather and scatter."""
    dims = [
        _counting(index, n).reshape([-1 if e == d else 1 for e in range(a.ndim)]) for d, n in enumerate(index.shape)
    ]
    at: Any = 0
    for d in range(a.ndim):
        at = at * a.shape[d] + (index if d == dim else dims[d])
    places: torch.Tensor = at.expand(index.shape).reshape(-1)
    return places


def _narrowed(values: Any, shape: Sequence[int]) -> Any:
    for d, size in enumerate(shape):
        values = values.narrow(d, 0, size)
    return values


def scatter_reduce(a: Any, dim: int, index: torch.Tensor, source: Any, kind: str, include_self: bool = True) -> Any:
    if a.ndim == 0:
        return scatter_reduce(a[None], 0, index.reshape(-1), source.reshape(-1), kind, include_self)[0]
    at = places_along(a, dim % a.ndim, index)
    values = _narrowed(source, index.shape).reshape(-1)
    return reduced_at(a.reshape(-1), at, values, kind, include_self).reshape(a.shape)


def scatter_add(a: Any, dim: int, index: torch.Tensor, source: Any) -> Any:
    """scatter_add by a constant index; None if the comparing rule has it as well."""
    if index.numel() * a.shape[dim] <= COMPARED:
        return None
    at = places_along(a, dim, index)
    return a + met(_narrowed(source, index.shape).reshape(-1), at, a.numel(), "sum").reshape(a.shape)


def index_reduce(a: Any, dim: int, index: torch.Tensor, source: Any, kind: str, include_self: bool = True) -> Any:
    if a.ndim == 0:
        return index_reduce(a[None], 0, index.reshape(-1), source.reshape(1), kind, include_self)[0]
    rows = Rows(a.shape, [*[None] * (dim % a.ndim), index.reshape(-1)])
    return rows.back(reduced_at(rows.of(a), rows.at, rows.values(source), kind, include_self))


def put_flat(a: Any, index: torch.Tensor, source: Any, accumulate: bool = False) -> Any:
    """`put`: the indices count through all elements."""
    flat = aten.index_put(a.reshape(-1), [index.reshape(-1)], source.reshape(-1), accumulate)
    return flat.reshape(a.shape)


def masked_scatter(a: Any, mask: torch.Tensor, source: Any) -> Any:
    shape = torch.broadcast_shapes(a.shape, mask.shape)  # type: ignore[no-untyped-call]
    at = mask.expand(shape).reshape(-1).nonzero()[:, 0]
    flat = a.expand(shape).reshape(-1)
    return aten.index_put(flat, [at], source.reshape(-1)[: at.numel()]).reshape(shape)


def _masked_scatter_backward(grad: Any, mask: torch.Tensor, sizes: Sequence[int]) -> Any:
    found = masked_select(grad, mask)
    zeros = found.new_zeros(math.prod(sizes) - found.numel())
    return torch.cat([found, zeros]).reshape(sizes)


def masked_select(a: Any, mask: torch.Tensor) -> Any:
    shape = torch.broadcast_shapes(a.shape, mask.shape)  # type: ignore[no-untyped-call]
    return picked(a.expand(shape).reshape(-1), 0, mask.expand(shape).reshape(-1).nonzero()[:, 0])


def by_list(arguments: Sequence[Any]) -> Any:
    """index and index_put by constant indices; None where the rule of these has it as well."""
    a, indices, *rest = arguments
    if not any(index is not None for index in indices):
        return a.clone() if not rest else None
    return index_put(a, indices, *rest[:2]) if rest else index(a, indices)


def by_one_that_changes(arguments: Sequence[Any]) -> Any:
    """index, and index_put that adds, by whole numbers along one dimension that change; None if that is not asked."""
    a, indices, *rest = arguments
    dims = [dim for dim, index in enumerate(indices) if index is not None]
    if len(dims) != 1 or indices[dims[0]].dtype == torch.bool or (rest and not rest[1]):
        return None
    (dim,), index = dims, indices[dims[0]]
    places = index.reshape([-1 if d == dim else 1 for d in range(a.ndim)])
    places = places.expand([index.numel() if d == dim else size for d, size in enumerate(a.shape)])
    shape = [*a.shape[:dim], *index.shape, *a.shape[dim + 1 :]]
    if not rest:
        return a.gather(dim, places).reshape(shape)
    return a.scatter_add(dim, places, rest[0].expand(shape).reshape(places.shape))


OURS: dict[str, Callable[..., Any]] = {
    "scatter_reduce": lambda *arguments: scatter_reduce(*arguments),
    "index_reduce": lambda *arguments: index_reduce(*arguments),
    "put": lambda *arguments: put_flat(*arguments),
    "masked_scatter": lambda *arguments: masked_scatter(*arguments),
    "masked_scatter_backward": lambda *arguments: _masked_scatter_backward(*arguments),
}

INDICES = {
    "scatter_reduce": (2,),
    "index_reduce": (2,),
    "put": (1,),
    "masked_scatter": (1,),
    "masked_scatter_backward": (1,),
}
"""Which of their arguments are indices, which must be constants."""
