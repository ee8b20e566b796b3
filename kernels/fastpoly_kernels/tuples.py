"""The algebra of polynomial descent on tuples: one entry a power of x, unrolled when the kernel is compiled.

A kernel's degree is the length of its weights, a tuple. numba specialises on the length, so each entry becomes a value
of its own, which LLVM keeps in a register; an array of accumulators would live in memory. Entry k belongs to x**k.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .simd import Vector, emit_fma, emit_splat, emit_total, vector_of


@intrinsic
def splat_each(typing: Any, scalars: types.UniTuple, array: types.Array) -> tuple[Any, Callable[..., ir.Value]]:
    """The scalars as Vectors of `array`."""
    result = types.UniTuple(vector_of(array), scalars.count)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        entries = cgutils.unpack_tuple(builder, arguments[0])
        return context.make_tuple(builder, result, [emit_splat(builder, s, result.dtype.lanes) for s in entries])

    return result(scalars, array), emit


@intrinsic
def zero_each(typing: Any, like: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """Zeros in the shape of `like`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return ir.Constant(context.get_value_type(like), None)  # zeroinitializer

    return like(like), emit


@intrinsic
def add_each(typing: Any, a: types.UniTuple, b: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """a[k] + b[k]."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pairs = zip(*(cgutils.unpack_tuple(builder, argument) for argument in arguments), strict=True)
        return context.make_tuple(builder, a, [builder.fadd(*pair) for pair in pairs])

    return a(a, a), emit


@intrinsic
def total_each(typing: Any, vectors: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """The sum of the lanes of each Vector."""
    result = types.UniTuple(vectors.dtype.dtype, vectors.count)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        entries = cgutils.unpack_tuple(builder, arguments[0])
        return context.make_tuple(builder, result, [emit_total(builder, entry) for entry in entries])

    return result(vectors), emit


@intrinsic
def horner(typing: Any, weights: types.UniTuple, x: Vector) -> tuple[Any, Callable[..., ir.Value]]:
    """The polynomial sum_k weights[k] x**k by Horner's rule: one fma a degree."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        *rest, value = cgutils.unpack_tuple(builder, arguments[0])
        for weight in reversed(rest):
            value = emit_fma(builder, value, arguments[1], weight)
        return value

    return x(weights, x), emit


@intrinsic
def add_powers(typing: Any, sums: types.UniTuple, r: Vector, x: Vector) -> tuple[Any, Callable[..., ir.Value]]:
    """sums[k] + r x**k.

    The powers are made by multiplying r on and added with plain additions. That is one instruction more a degree than
    an fma with a stored power, and no slower where adders stand beside the multipliers (Zen 4: 49 against 50 ns a step
    on the post's problem): horner keeps the multipliers busy, this the adders, and only x and y are loaded.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        entries = cgutils.unpack_tuple(builder, arguments[0])
        term, x_value = arguments[1:]
        result = []
        for k, entry in enumerate(entries):
            if k:
                term = builder.fmul(term, x_value)
            result.append(builder.fadd(entry, term))
        return context.make_tuple(builder, sums, result)

    return sums(sums, r, x), emit


@intrinsic
def descend_each(
    typing: Any, weights: types.UniTuple, rate: types.Float, sums: types.UniTuple, storage: types.Array
) -> tuple[Any, Callable[..., ir.Value]]:
    """weights[k] + rate * sums[k], rounded to what an element of `storage` can hold (the `mixed` precision)."""
    narrower = storage.dtype.bitwidth < weights.dtype.bitwidth

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        result = []
        for weight, total in zip(*(cgutils.unpack_tuple(builder, arguments[i]) for i in (0, 2)), strict=True):
            value = emit_fma(builder, arguments[1], total, weight)
            if narrower:
                value = builder.fpext(builder.fptrunc(value, ir.FloatType()), value.type)
            result.append(value)
        return context.make_tuple(builder, weights, result)

    return weights(weights, weights.dtype, sums, storage), emit


@intrinsic
def load_each(typing: Any, array: types.Array, like: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """Row k of a contiguous (len(like), lanes) array as Vector k."""
    result = types.UniTuple(vector_of(array), like.count)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind = context.get_value_type(result.dtype)
        rows = []
        for k in range(like.count):
            row = _entry(context, builder, array, arguments[0], k * result.dtype.lanes)
            value = builder.load(builder.bitcast(row, kind.as_pointer()))
            value.align = array.dtype.bitwidth // 8
            rows.append(value)
        return context.make_tuple(builder, result, rows)

    return result(array, like), emit


@intrinsic
def store_each(typing: Any, array: types.Array, vectors: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """Vector k into row k of a contiguous (len(vectors), lanes) array."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        for k, vector in enumerate(cgutils.unpack_tuple(builder, arguments[1])):
            row = _entry(context, builder, array, arguments[0], k * vectors.dtype.lanes)
            builder.store(vector, builder.bitcast(row, vector.type.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, vectors), emit


@intrinsic
def affine_each(typing: Any, table: types.Array, w: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """table[k, 0] + sum_j table[k, j + 1] w[j], for scalars and Vectors alike; table is (len(w), len(w) + 1).

    Each sum runs in two chains side by side: half the latency, which is what a step waits for.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        entries = cgutils.unpack_tuple(builder, arguments[1])
        half = w.count // 2
        result = []
        for k in range(w.count):
            start, *row = _row(context, builder, table, arguments[0], k, entries)
            one = _chain(builder, row[:half], entries[:half], start)
            other = _chain(builder, row[half:], entries[half:])
            result.append(builder.fadd(one, other))
        return context.make_tuple(builder, w, result)

    return w(table, w), emit


@intrinsic
def constants(typing: Any, table: types.Array, like: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """table[k, 0] of a table for `affine_each`, as a tuple of scalars."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        entries = [
            builder.load(_entry(context, builder, table, arguments[0], k * (like.count + 1))) for k in range(like.count)
        ]
        return context.make_tuple(builder, like, entries)

    return like(table, like), emit


@intrinsic
def dot(typing: Any, a: types.UniTuple, b: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """sum_k a[k] b[k]."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return _chain(builder, *(cgutils.unpack_tuple(builder, argument) for argument in arguments))

    return a.dtype(a, b), emit


@intrinsic
def quadratic(typing: Any, table: types.Array, w: types.UniTuple) -> tuple[Any, Callable[..., ir.Value]]:
    """sum_k w[k] (table[k, 0] + sum_{j >= k} table[k, j + 1] w[j]): a quadratic form by its upper triangle."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        entries = cgutils.unpack_tuple(builder, arguments[1])
        inner = []
        for k in range(w.count):
            start, *row = _row(context, builder, table, arguments[0], k, entries)
            inner.append(_chain(builder, row[k:], entries[k:], start))
        return _chain(builder, inner, entries)

    return w.dtype(table, w), emit


@intrinsic
def round_each(typing: Any, w: types.UniTuple, storage: types.Array) -> tuple[Any, Callable[..., ir.Value]]:
    """w rounded to what an element of `storage` can hold (the `mixed` precision)."""
    narrower = storage.dtype.bitwidth < w.dtype.bitwidth

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        entries = cgutils.unpack_tuple(builder, arguments[0])
        if narrower:
            entries = [builder.fpext(builder.fptrunc(e, ir.FloatType()), e.type) for e in entries]
        return context.make_tuple(builder, w, entries)

    return w(w, storage), emit


# -- emitting LLVM IR -------------------------------------------------------------------------------------------------


def _entry(context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, index: int) -> ir.Value:
    """The address of the `index`-th element of a contiguous array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [ir.Constant(ir.IntType(64), index)], inbounds=True)


def _row(
    context: Any, builder: ir.IRBuilder, kind: types.Array, table: ir.Value, k: int, like: list[ir.Value]
) -> list[ir.Value]:
    """Row k of a contiguous (m, m + 1) table, m = len(like): scalars, or each in every lane if `like` are vectors."""
    width = len(like) + 1
    scalars = [builder.load(_entry(context, builder, kind, table, k * width + j)) for j in range(width)]
    if isinstance(like[0].type, ir.VectorType):
        return [emit_splat(builder, scalar, like[0].type.count) for scalar in scalars]
    return scalars


def _chain(builder: ir.IRBuilder, a: list[ir.Value], b: list[ir.Value], start: ir.Value | None = None) -> ir.Value:
    """start + sum of a[k] b[k], one fma after the other."""
    for left, right in zip(a, b, strict=True):
        start = builder.fmul(left, right) if start is None else emit_fma(builder, left, right, start)
    return start
