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
