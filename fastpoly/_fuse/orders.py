"""Sorting and what needs an order.

Short axes are counted: an element's place is how many others stand before it. That is as many comparisons as there are
pairs, all at once, where sorting takes turns. So are all axes on a GPU, in loops that fill registers. A CPU's kernel
sorts longer ones (`in_turns`). Equal elements keep their order, as in torch's stable sort, and NaN is
larger than all numbers. Where torch's own order of equals is left open, as topk's, so are its places here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from .factorizations import NotTakenApart, numbers
from .graph import Node
from .own_operations import are_had, order

Turns: TypeAlias = "Callable[[Callable[..., list[Any]], list[Any], list[Any], int, bool], list[Any]]"
"""Of a step, what it begins with, rows, how many, and whether the last row is taken first."""


def _last(a: Any, dim: int) -> Any:
    """The dimension moved to the end; a number is a vector of one."""
    return a.movedim(dim, -1) if a.ndim else a.reshape(1)


def _back(a: Any, dim: int, like: Any) -> Any:
    return a.movedim(-1, dim) if like.ndim else a.reshape(())


def _is_before(one: Any, other: Any, descending: bool) -> Any:
    """Must one stand before the other?"""
    one, other = (other, one) if descending else (one, other)
    return (one < other) | ((other != other) & (one == one))


PAIRS = 16
"""Elements along an axis up to which a CPU counts, too: such axes have no loops, and problems can share registers. 24
numbers that move a little from step to step are sorted in 0.6 of the time, 100 in a quarter."""

MOST_IN_SINGLE = 2**23
"""Elements of an axis in float32 that are sorted: what is no number has a place beyond all others meanwhile."""

LONGEST = 2048
"""Elements along the axis that are counted: torch sorts more of them sooner than all are compared."""


def _is_counted(a: Any) -> bool:
    """Are the elements along the last dimension to be compared, all with each other?"""
    return bool(a.shape[-1] <= PAIRS or not are_had(a))


def _ranks(a: Any, descending: bool = False) -> Any:
    """How many stand before each element along the last dimension."""
    _refuse_long(a)
    places = numbers(a.shape[-1], a)
    one, other = a[..., :, None], a[..., None, :]
    is_before = _is_before(other, one, descending)
    is_after = _is_before(one, other, descending)
    return (is_before | (~is_after & (places < places[:, None]))).sum(-1)


def _refuse_long(a: Any) -> None:
    size = a.shape[-1]
    if size > LONGEST:
        raise NotTakenApart(f"it would compare all {size:,} elements of an axis with each other", "sort fewer")


def _order(a: Any, descending: bool = False) -> Any:
    if a.shape[-1] > MOST_IN_SINGLE and a.dtype == torch.float32:
        raise NotTakenApart(f"twice its {a.shape[-1]:,} places are not all whole numbers in float32", "use float64")
    return order(a, -1, descending)


def places_in_order(a: Any, descending: bool = False) -> Any:
    """Where, along the last dimension, each element of the sorted tensor comes from."""
    if not _is_counted(a):
        return _order(a, descending)
    places = numbers(a.shape[-1], a)
    return torch.where(_ranks(a, descending)[..., None, :] == places[:, None], places, 0).amax(-1)


def _place_of_rank(a: Any, rank: int) -> Any:
    """Where the element is before which so many stand."""
    if not _is_counted(a):
        return _order(a).select(-1, rank)
    return torch.where(_ranks(a) == rank, numbers(a.shape[-1], a), 0).amax(-1)


def _sort(a: Any, *rest: Any) -> Any:
    dim, descending = rest[-2:]  # before them may stand whether it is to be stable: it is
    if not a.numel():
        return a.clone(), torch.zeros_like(a, dtype=torch.int64)
    values = _last(a, dim)
    order = places_in_order(values, descending)
    return _back(values.gather(-1, order), dim, a), _back(order, dim, a)


def _topk(a: Any, k: int, dim: int, largest: bool, is_sorted: bool) -> Any:
    if not is_sorted:
        raise NotTakenApart("in which order it gives them is left open", "let it sort them")
    return tuple(part.narrow(dim, 0, k) if a.ndim else part for part in _sort(a, dim, largest))


def _picked(a: Any, dim: int, keep: bool, place: Any) -> Any:
    """(values, places) of one element along a dimension; `place` is what gives it, of what has the dimension last."""
    values = _last(a, dim)
    at = place(values)[..., None]
    found = (_back(part, dim, a) for part in (values.gather(-1, at), at))
    return tuple(part if keep or not a.ndim else part.squeeze(dim) for part in found)


def _kth_value(a: Any, k: int, dim: int, keep: bool) -> Any:
    return _picked(a, dim, keep, lambda values: _place_of_rank(values, k - 1))


def _median_place(values: Any) -> Any:
    """Of the lower median; of the first NaN, if there is one."""
    size, is_nan = values.shape[-1], values != values
    first = torch.where(is_nan, numbers(size, values), size - 1).amin(-1)
    return torch.where(is_nan.any(-1), first, _place_of_rank(values, (size - 1) // 2))


def _nanmedian_place(values: Any) -> Any:
    """Of the lower median of all that is a number: NaN stands behind."""
    count = (values == values).sum(-1, keepdim=True)
    if not _is_counted(values):
        middle = torch.div(count - 1, 2, rounding_mode="floor").clamp(0, values.shape[-1] - 1)
        return _order(values).gather(-1, middle)[..., 0]
    ranks = _ranks(values)
    is_middle = (2 * ranks + 1 == count) | (2 * ranks + 2 == count) | ((count == 0) & (ranks == 0))
    return torch.where(is_middle, numbers(values.shape[-1], values), 0).amax(-1)


def _of_all_or_along(place: Callable[[Any], Any]) -> Callable[..., Any]:
    """Of all elements, a value; or along a dimension, values and places."""

    def median(a: Any, *along: Any) -> Any:
        if along:
            return _picked(a, along[0], along[1], place)
        return _picked(a.reshape(-1), 0, False, place)[0]

    return median


def _mode_place(values: Any) -> Any:
    """Of the last of what there is most of; of the least, where there is as much of several."""
    _refuse_long(values)
    count = (values[..., :, None] == values[..., None, :]).sum(-1)
    is_most = (count == count.amax(-1, keepdim=True)) & (values == values)
    least = torch.where(is_most, values, math.inf).amin(-1, keepdim=True)
    return torch.where(values == least, numbers(values.shape[-1], values), 0).amax(-1)


def _mode(turns: Turns, _: Node, a: Any, dim: int, keep: bool) -> Any:
    if not a.ndim or _is_counted(_last(a, dim)):
        return _picked(a, dim, keep, _mode_place)
    return _picked(a, dim, keep, lambda values: _mode_in_order(turns, values))


def _mode_in_order(turns: Turns, values: Any) -> Any:
    """The same of sorted elements, by how long they have been equal; equal ones stand in the order of their places."""
    places = _order(values)
    rows = [part.to(_floats(values)).movedim(-1, 0) for part in (values.gather(-1, places), places)]

    def step(before: Sequence[Any], row: Sequence[Any]) -> list[Any]:
        (last, length, most, found), (x, place) = before, row
        length = torch.where(x == last, length + 1, 1.0)
        is_more = (length > most) & (x == x)
        return [x, length, torch.where(is_more, length, most), torch.where(is_more, place, found)]

    zeros = torch.zeros_like(rows[0][0])
    found = turns(step, [torch.full_like(zeros, math.nan), zeros, zeros, zeros], rows, values.shape[-1], False)
    return _known_places(found[3], values.shape[-1])


INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(
    a: Any,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    out: Any = None,
    of_numbers: bool = False,
) -> Any:
    """torch.quantile; with `of_numbers` nanquantile. Levels may change from step to step; NaN where one leaves [0, 1].

    What torch refuses for its kind is NotImplemented.
    """
    is_number = isinstance(q, (int, float))
    levels = torch.as_tensor(q, dtype=a.dtype, device=a.device) if is_number else q
    if out is not None or levels.ndim > 1 or levels.dtype != a.dtype or not (a.is_floating_point() and a.numel()):
        return NotImplemented
    if interpolation not in INTERPOLATIONS or (is_number and not 0 <= q <= 1):
        return NotImplemented
    values = torch.sort(a.reshape(-1) if dim is None else _last(a, dim), -1)[0]
    size, is_nan = values.shape[-1], values.isnan()
    if of_numbers:
        ranks = levels * (is_nan.logical_not().sum(-1, keepdim=True) - 1)
        ranks = ranks.masked_fill(ranks < 0, 0.0)
    else:
        ranks = (levels * (size - 1)).expand(*values.shape[:-1], max(levels.numel(), 1))
        ranks = ranks.masked_fill(is_nan.any(-1, keepdim=True), size - 1)
    at = ranks.detach()
    whole = {"higher": torch.ceil, "nearest": torch.round}.get(interpolation, torch.floor)(at)
    found = values.gather(-1, _known_places(whole, size))
    if interpolation in ("linear", "midpoint"):
        above = values.gather(-1, _known_places(at.ceil(), size))
        found = torch.lerp(found, above, ranks - whole if interpolation == "linear" else torch.full_like(ranks, 0.5))
    found = torch.where((levels >= 0) & (levels <= 1), found, math.nan)
    found = found.movedim(-1, 0) if levels.ndim else found[..., 0]
    if not (keepdim and a.ndim):
        return found
    return found.reshape((*levels.shape, *[1] * a.ndim)) if dim is None else found.unsqueeze(dim % a.ndim + levels.ndim)


# -- running along an axis
# -----------------------------------------------------------------------------------------------


def _floats(values: Any) -> torch.dtype:
    """What a loop carries values as: of whole numbers that it hands on nobody knows the bounds."""
    return values.dtype if values.is_floating_point() else torch.float64


def _known_places(at: Any, size: int) -> Any:
    """Places along an axis, of which a loop has made floats, as whole numbers whose bounds can be seen."""
    whole = at.round()
    return whole.masked_fill(whole.isnan(), 0).clamp(0, size - 1).long()


def _running_extreme(largest: bool) -> Callable[..., Any]:
    """cummax and cummin: values, and the last places where they stand."""

    def rule(turns: Turns, _: Node, a: Any, dim: int) -> Any:
        if not a.ndim or not a.numel():
            return a.clone(), torch.zeros_like(a, dtype=torch.int64)
        values = a.movedim(dim, 0)
        size, dtype = len(values), _floats(values)
        places = torch.arange(size, dtype=dtype, device=a.device)

        def step(before: Sequence[Any], row: Sequence[Any]) -> list[Any]:
            (most, at), (x, place) = before, row
            takes = ((x >= most) if largest else (x <= most)) | (x != x)  # NaN stays, until another one comes
            most, at = torch.where(takes, x, most), torch.where(takes, place, at)
            return [most, at, most, at]

        first = values.new_full(values.shape[1:], -math.inf if largest else math.inf, dtype=dtype)
        most, at = turns(step, [first, torch.zeros_like(first)], [values.to(dtype), places], size, False)[-2:]
        at = _known_places(at, size)
        most = most if values.is_floating_point() else values.gather(0, at)
        return most.movedim(0, dim), at.movedim(0, dim)

    return rule


def _log_sums(turns: Turns, node: Node, a: Any, dim: int) -> Any:
    """logcumsumexp, carrying the largest so far and a sum of exponentials relative to that.

    All but a maximum, a product and a sum is of rows then, which are vectors. What was flipped, as it is for a
    gradient, is gone through from behind, so that nothing is read backwards.
    """
    if not a.ndim or not a.shape[dim]:
        return a.clone()
    is_flipped = node.op == "flip" and [flipped % a.ndim for flipped in node.args[1]] == [dim % a.ndim]
    values = (a.flip(dim) if is_flipped else a).movedim(dim, 0)

    def step(before: Sequence[Any], row: Sequence[Any]) -> list[Any]:
        (most, total), (x,) = before, row
        top = torch.maximum(most, x)
        level = torch.where(top.abs() == math.inf, 0.0, top)  # what the exponentials are relative to
        old = torch.where(most.abs() == math.inf, 0.0, most)
        kept = torch.where(most == -math.inf, 0.0, torch.exp(old - level))
        total = total * kept + torch.exp(x - level)
        return [top, total, level + torch.log(total)]

    start = [values.new_full(values.shape[1:], -math.inf), values.new_zeros(values.shape[1:])]
    found = turns(step, start, [values], len(values), is_flipped)[-1].movedim(0, dim)
    return found.flip(dim) if is_flipped else found


IN_TURNS: dict[str, Callable[..., Any]] = {
    "logcumsumexp": _log_sums,
    "_logcumsumexp": _log_sums,
    "cummax": _running_extreme(largest=True),
    "cummin": _running_extreme(largest=False),
    "mode": _mode,
}
"""Those that are loops: of what takes turns (see `written_loops.loop`), the node of the first operand, and operands."""


def _unique(*_: Any) -> Any:
    raise NotTakenApart(
        "how many different elements there are is a shape, and changes from step to step",
        "sort, and compare neighbours, or ask the data alone",
    )


APART: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("_unique2", "unique_consecutive", "unique_dim"), _unique),
    "sort": _sort,
    "topk": _topk,
    "kthvalue": _kth_value,
    "median": _of_all_or_along(_median_place),
    "nanmedian": _of_all_or_along(_nanmedian_place),
}
