"""SIMD vectors for numba: a value that is one machine register wide, so that kernels do not hope for a vectoriser.

LLVM's loop vectoriser works on scalar loops if fast-math allows it, chooses the width itself and leaves the last
samples to a scalar loop: of 100 float32 samples the last 4 to 36, at 16 times the price. Code that says `Vector` gets
packed instructions always, and the samples after the last whole vector in one masked load.

    at = load(array, i)             lanes array[i], array[i + 1], ...
    store(array, i, at)             writes them
    at = load_first(array, i, m)    the same for the lanes in mask m, zero in the others, which are not read
    a + b, a - b, a * b             lane by lane
    fma(a, b, c)                    a * b + c, rounded once where the CPU can (scalars too)
    nonnegative(a)                  a, or zero where it is below (scalars too)
    masked(m, a)                    a in the lanes of m, zero in the others
    splat(s, array)                 the scalar s in every lane
    total(a)                        the sum of the lanes, as a tree

Shapes follow the machine: a Vector holds `lanes(array)` elements, 512 bits where the CPU has AVX-512, 256 with AVX,
else 128. A wider vector than the machine's would still be right (LLVM splits it), only not in registers.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.registry import cpu_target
from numba.extending import intrinsic, lower_builtin, register_model, type_callable

INDEX = ir.IntType(32)


class Vector(types.Type):
    """`lanes` elements of the float type `dtype` in one register."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


class Mask(types.Type):
    """One bit for each of `lanes` lanes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), kind.lanes))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), kind.lanes))


def register_bits() -> int:
    """Bits of the widest vector register that numba compiles for (it heeds NUMBA_CPU_NAME and NUMBA_CPU_FEATURES)."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return 512 if "+avx512f" in features else 256 if "+avx" in features else 128


def vector_of(array: types.Array) -> Vector:
    """The Vector that holds elements of `array`."""
    return Vector(array.dtype, register_bits() // array.dtype.bitwidth)


# -- emitting LLVM IR
# ---------------------------------------------------------------------------------------------------


def emit_fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c for scalars and vectors: with one rounding where the CPU has that instruction, else with two.

    (`llvm.fma` would insist on the one rounding and call the C library for it, 13 times slower.)
    """
    return _call(builder, "fmuladd", a.type, [a, b, c], overloaded=a.type)


def emit_splat(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    """A vector with `scalar` in each lane."""
    kind = ir.VectorType(scalar.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INDEX, lanes), [0] * lanes))


def emit_total(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The sum of the lanes; `reassoc` makes it a tree of log2(lanes) additions instead of a chain."""
    element = vector.type.element
    start = ir.Constant(element, -0.0)  # the neutral element of IEEE addition
    arguments = [start, vector]
    return _call(builder, "vector.reduce.fadd", element, arguments, overloaded=vector.type, fastmath=("reassoc",))


def zero(kind: ir.Type) -> ir.Constant:
    """Positive zero in each lane of `kind`."""
    return ir.Constant(kind, [0.0] * kind.count)


def _call(
    builder: ir.IRBuilder,
    name: str,
    result: ir.Type,
    arguments: list[ir.Value],
    overloaded: ir.Type,
    fastmath: tuple[str, ...] = (),
) -> ir.Value:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.{_suffix(overloaded)}")
    return builder.call(function, arguments, fastmath=fastmath)


def _suffix(kind: ir.Type) -> str:
    """LLVM's name for a type in an overloaded intrinsic: f32, f64, v16f32."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


def _address(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value
) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


# -- loads
# --------------------------------------------------------------------------------------------------------------


@intrinsic
def lanes(typing: Any, array: types.Array) -> tuple[Any, Callable[..., ir.Value]]:
    """How many elements of `array` one Vector holds, as a constant."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return context.get_constant(types.intp, vector_of(array).lanes)

    return types.intp(array), emit


@intrinsic
def load(typing: Any, array: types.Array, index: types.Integer) -> tuple[Any, Callable[..., ir.Value]]:
    """The Vector that starts at array[index]; all of its lanes must lie in the array."""
    vector = vector_of(array)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind = context.get_value_type(vector)
        address = _address(context, builder, array, *arguments)
        value = builder.load(builder.bitcast(address, kind.as_pointer()))
        value.align = array.dtype.bitwidth // 8  # numpy promises no more; unaligned loads cost nothing within a line
        return value

    return vector(array, types.intp), emit


@intrinsic
def load_first(
    typing: Any, array: types.Array, index: types.Integer, mask: Mask
) -> tuple[Any, Callable[..., ir.Value]]:
    """The Vector that starts at array[index] in the lanes of `mask`; zero in the others, which are not read."""
    vector = vector_of(array)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind = context.get_value_type(vector)
        address = builder.bitcast(_address(context, builder, array, *arguments[:2]), kind.as_pointer())
        align = ir.Constant(INDEX, array.dtype.bitwidth // 8)
        signature = ir.FunctionType(kind, [address.type, INDEX, arguments[2].type, kind])
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        function = cgutils.get_or_insert_function(builder.module, signature, name)
        return builder.call(function, [address, align, arguments[2], zero(kind)])

    return vector(array, types.intp, mask), emit


@intrinsic
def first_lanes(typing: Any, array: types.Array, count: types.Integer) -> tuple[Any, Callable[..., ir.Value]]:
    """The Mask of the first `count` lanes of a Vector of `array`."""
    width = vector_of(array).lanes

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        numbers = ir.Constant(ir.VectorType(INDEX, width), list(range(width)))
        return builder.icmp_signed("<", numbers, emit_splat(builder, builder.trunc(arguments[1], INDEX), width))

    return Mask(width)(array, types.intp), emit


# -- arithmetic
# ---------------------------------------------------------------------------------------------------------


@intrinsic
def splat(typing: Any, scalar: types.Float, array: types.Array) -> tuple[Any, Callable[..., ir.Value]]:
    """A Vector of `array` with `scalar` in every lane."""
    vector = vector_of(array)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return emit_splat(builder, arguments[0], vector.lanes)

    return vector(array.dtype, array), emit


@intrinsic
def masked(typing: Any, mask: Mask, vector: Vector) -> tuple[Any, Callable[..., ir.Value]]:
    """`vector` in the lanes of `mask`, zero in the others."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.select(arguments[0], arguments[1], zero(arguments[1].type))

    return vector(mask, vector), emit


@intrinsic
def nonnegative(typing: Any, a: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
    """`a`, or zero where it is below; NaN stays. A Vector or a scalar."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind = arguments[0].type
        nothing = zero(kind) if isinstance(kind, ir.VectorType) else ir.Constant(kind, 0.0)
        return builder.select(builder.fcmp_ordered("<", arguments[0], nothing), nothing, arguments[0])

    return a(a), emit


@intrinsic
def fma(typing: Any, a: types.Type, b: types.Type, c: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
    """a * b + c, fused where the CPU can; Vectors, or scalars of one type."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return emit_fma(builder, *arguments)

    return c(c, c, c), emit


@intrinsic
def store(typing: Any, array: types.Array, index: types.Integer, vector: Vector) -> tuple[Any, Callable[..., ir.Value]]:
    """Write the lanes to array[index], array[index + 1], ..."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address = _address(context, builder, array, *arguments[:2])
        builder.store(
            arguments[2], builder.bitcast(address, arguments[2].type.as_pointer()), align=array.dtype.bitwidth // 8
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic
def total(typing: Any, vector: Vector) -> tuple[Any, Callable[..., ir.Value]]:
    """The sum of the lanes."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return emit_total(builder, arguments[0])

    return vector.dtype(vector), emit


def _define(operation: Callable[..., Any], method: str) -> None:
    @type_callable(operation)
    def type_operation(context: Any) -> Callable[..., Any]:
        def typer(a: types.Type, b: types.Type) -> types.Type | None:
            return a if isinstance(a, Vector) and a == b else None

        return typer

    @lower_builtin(operation, Vector, Vector)
    def lower_operation(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return getattr(builder, method)(*arguments)


for _operation, _method in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_operation, _method)
