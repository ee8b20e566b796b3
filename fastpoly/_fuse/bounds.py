"""Bounds of whole numbers, from those of what they are made of: one rule for each kind of operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .._errors import UnsupportedOperationError
from .arguments import leaves
from .graph import Node

Bounds = tuple[float, float]
"""The smallest and the largest value that there may be; whole numbers are ints here, which have all their digits."""

Of = Callable[[Any], Bounds]
"""The bounds of an argument."""

Rule = Callable[[Node, Of], Bounds]


def hull(node: Node, of: Of) -> Bounds:
    """Of all that it is given."""
    found = [of(part) for part in leaves(node.args) if isinstance(part, (Node, int, float))]
    return min(low for low, _ in found), max(high for _, high in found)


def first(node: Node, of: Of) -> Bounds:
    """Of what its elements are taken from."""
    found = [of(part) for part in leaves(node.args[0])]
    return min(low for low, _ in found), max(high for _, high in found)


def sum_of(one: Bounds, other: Bounds, times: float = 1) -> Bounds:
    scaled = sorted(times * value for value in other)
    return one[0] + scaled[0], one[1] + scaled[1]


def product_of(one: Bounds, other: Bounds) -> Bounds:
    products = [a * b for a in one for b in other]
    return min(products), max(products)


def repeated(bounds: Bounds, count: int) -> Bounds:
    """Of a sum of at most so many."""
    return min(0, count * bounds[0]), max(0, count * bounds[1])


def summed(node: Node, of: Of) -> Bounds:
    return repeated(of(node.args[0]), math.prod(node.args[0].shape))


def multiplied(node: Node, of: Of) -> Bounds:
    low, high = of(node.args[0])
    largest = max(abs(low), abs(high), 1)
    power = largest ** min(math.prod(node.args[0].shape), 64)
    return (0 if low >= 0 else -power), power


def power(node: Node, of: Of) -> Bounds:
    base, exponent = of(node.args[0]), of(node.args[1])
    if exponent[0] < 0:
        raise refusal(node, "it takes a whole number to a negative power", "compute with floats")
    largest = max(abs(base[0]), abs(base[1]), 1) ** min(exponent[1], 64)
    return (0 if base[0] >= 0 else -largest), largest


def rest(node: Node, of: Of) -> Bounds:
    low, high = of(node.args[1])
    if low <= 0 <= high:
        raise refusal(node, "it may divide a whole number by 0", "compute with floats")
    largest = max(abs(low), abs(high)) - 1
    return -largest, largest


def remainder(node: Node, of: Of) -> Bounds:
    """Of a remainder that has the sign of the divisor."""
    low, high = rest(node, of)
    return (0 if of(node.args[1])[0] > 0 else low), (0 if of(node.args[1])[1] < 0 else high)


def clamped(low: int, high: int) -> Rule:
    """Of what is kept between two arguments; -1 for one that is not there."""

    def rule(node: Node, of: Of) -> Bounds:
        least, most = of(node.args[0])
        for at, limit in ((low, max), (high, min)):
            if 0 <= at < len(node.args) and node.args[at] is not None:
                bound = of(node.args[at])
                if not node.dtype.is_floating_point and not _has(node.dtype, *bound):
                    raise refusal(node, f"a bound is another number in {node.dtype}", "use one that this has")
                least, most = limit(least, bound[0]), limit(most, bound[1])
        return least, most

    return rule


def _has(dtype: torch.dtype, low: float, high: float) -> bool:
    """Does a dtype of whole numbers have all between these?"""
    return torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max


def quotient(node: Node, of: Of) -> Bounds:
    rest(node, of)
    low, high = of(node.args[0])
    largest = max(abs(low), abs(high)) + 1
    return (0 if low >= 0 and of(node.args[1])[0] > 0 else -largest), largest


def matrix_product(node: Node, of: Of) -> Bounds:
    one, other = node.args[:2]
    return repeated(product_of(of(one), of(other)), one.shape[-1] if one.shape else 1)


def added_at(node: Node, of: Of) -> Bounds:
    values = node.args[3] if node.op in ("scatter_add", "fastpoly::put_add") else node.args[2]
    return sum_of(of(node.args[0]), repeated(of(values), math.prod(values.shape)))


def place(node: Node, of: Of) -> Bounds:  # noqa: ARG001
    """A place along the dimension that is named."""
    size = node.shape[node.args[1] % len(node.shape)]
    return 0, max(size - 1, 0)


def negated(node: Node, of: Of) -> Bounds:
    low, high = of(node.args[0])
    return -high, -low


def _alpha(node: Node) -> float:
    return node.args[2] if len(node.args) > 2 and node.args[2] is not None else 1


def added(node: Node, of: Of) -> Bounds:
    return sum_of(of(node.args[0]), of(node.args[1]), _alpha(node))


def subtracted(node: Node, of: Of) -> Bounds:
    return sum_of(of(node.args[0]), of(node.args[1]), -_alpha(node))


def subtracted_from(node: Node, of: Of) -> Bounds:
    return sum_of(of(node.args[1]), of(node.args[0]), -_alpha(node))


def second(node: Node, of: Of) -> Bounds:
    return of(node.args[1])


def largest(node: Node, of: Of) -> float:
    """The absolute value of the first argument's."""
    return max(map(abs, of(node.args[0])))


def of_both(one: int, other: int) -> Rule:
    """Of either of two arguments."""

    def rule(node: Node, of: Of) -> Bounds:
        (low, high), (least, most) = of(node.args[one]), of(node.args[other])
        return min(low, least), max(high, most)

    return rule


def refusal(node: Node, why: str, way_out: str) -> UnsupportedOperationError:
    place = f" in {node.where} ({node.where.text})" if node.where else ""
    return UnsupportedOperationError(f"{node.op}{place} cannot be fused: {why}. Way out: {way_out}, or backend='eager'")
