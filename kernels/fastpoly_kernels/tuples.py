"""The algebra of polynomial descent on tuples: one entry a power of x, written out when the kernel is compiled.

A kernel's degree is the length of its weights, a tuple. Each entry becomes a value of its own, which LLVM keeps in a
register; an array of accumulators would live in memory. Entry k belongs to x**k. Entries are scalars or vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

from .emitter import Format, Number, fma
from .vectors import Array, splat

Entries = Sequence[Number]


def horner(weights: Entries, x: Number) -> Number:
    """The polynomial sum_k weights[k] x**k by Horner's rule: one fma a degree."""
    *rest, value = weights
    for weight in reversed(rest):
        value = fma(value, x, weight)
    return value


def add_powers(sums: Entries, r: Number, x: Number) -> Entries:
    """sums[k] + r x**k.

    The powers are made by multiplying r on and added with plain additions. That is one instruction more a degree than
    an fma with a stored power, and no slower where adders stand beside the multipliers (Zen 4: 49 against 50 ns a step
    on the post's problem): horner keeps the multipliers busy, this the adders, and only x and y are loaded.
    """
    powers = [r]
    while len(powers) < len(sums):
        powers.append(powers[-1] * x)
    return add_each(sums, powers)


def add_each(a: Entries, b: Entries) -> Entries:
    """a[k] + b[k]."""
    return tuple(one + other for one, other in zip(a, b, strict=True))


def round_each(w: Entries, storage: Format) -> Entries:
    """w rounded to what is stored in this format (the `mixed` precision)."""
    return tuple(entry.to(storage).to(entry.format) for entry in w)


def affine_each(table: Array, w: Entries) -> Entries:
    """table[k, 0] + sum_j table[k, j + 1] w[j]; table is (len(w), len(w) + 1).

    Each sum runs in two chains side by side: half the latency, which is what a step waits for.
    """
    half = len(w) // 2
    result = []
    for k in range(len(w)):
        start, *row = _row(table, k, w)
        result.append(_chain(row[:half], w[:half], start) + _chain(row[half:], w[half:]))
    return tuple(result)


def constants(table: Array, like: Entries) -> Entries:
    """table[k, 0] of a table for `affine_each`."""
    return tuple(table[k, 0] for k in range(len(like)))


def dot(a: Entries, b: Entries) -> Number:
    """sum_k a[k] b[k]."""
    return _chain(a, b)


def quadratic(table: Array, w: Entries) -> Number:
    """sum_k w[k] (table[k, 0] + sum_{j >= k} table[k, j + 1] w[j]): a quadratic form by its upper triangle."""
    inner = []
    for k in range(len(w)):
        start, *row = _row(table, k, w)
        inner.append(_chain(row[k:], w[k:], start))
    return _chain(inner, w)


def _row(table: Array, k: int, like: Entries) -> list[Number]:
    """Row k of a table: scalars, or each in every lane if `like` are vectors."""
    row = [table[k, j] for j in range(len(like) + 1)]
    return [splat(entry, table) for entry in row] if like[0].lanes else row


def _chain(a: Entries, b: Entries, start: Number | None = None) -> Number:
    """start + sum of a[k] b[k], one fma after the other."""
    for left, right in zip(a, b, strict=True):
        start = left * right if start is None else fma(left, right, start)
    assert start is not None
    return start
