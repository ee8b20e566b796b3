"""SIMD vectors for numba: a value that is one machine register wide, so that kernels do not hope for a vectoriser.

LLVM's loop vectoriser works on scalar loops if fast-math allows it, chooses the width itself and leaves the last
samples to a scalar loop: of 100 float32 samples the last 4 to 36, at 16 times the price. Code that says `Vector` gets
packed instructions always, and the samples after the last whole vector in one masked load.

    at = load(array, i)             lanes array[i], array[i + 1], ...
    store(array, i, at)             writes them
    at = load_first(array, i, m)    the same for the lanes in mask m, zero in the others, which are not read
    a + b, a - b, a * b, a / b, -a  lane by lane; a number stands for itself in every lane
    a < b, <=, >, >=, ==, !=        lane by lane, a Mask; masks combine by &, |, ^ and inverse(m)
    where(m, a, b)                  a in the lanes of m, b in the others (scalars too)
    maximum(a, b), minimum(a, b)    lane by lane; NaN where one of them is (scalars too)
    absolute(a), floor(a), ceil(a), trunc(a), nearest(a)  lane by lane (scalars too)
    fma(a, b, c)                    a * b + c, rounded once where the CPU can (scalars too)
    nonnegative(a)                  a, or zero where it is below (scalars too)
    masked(m, a)                    a in the lanes of m, zero in the others
    splat(s, array)                 the scalar s in every lane
    narrow(array)                   the pointer `array`, of whose elements a Vector holds one register and no more
    widened(a, array)               a as the first lanes of a Vector of `array`, zero in the others
    total(a)                        the sum of the lanes, as a tree
    product(a), largest(a), smallest(a)  likewise; NaN if a lane is

    meet(counter, count)            wait for the other threads
    aligned_stack()                 let registers that are kept in memory for a while lie aligned

`array` is a numba array or a C pointer (`types.CPointer`, or `Lanes` to choose the width).

Shapes follow the machine: a Vector holds `lanes(array)` elements, 512 bits where the CPU has AVX-512, 256 with AVX,
else 128. A wider vector than the machine's would still be right (LLVM splits it), only not in registers.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, lower_builtin, register_model, type_callable

from fastpoly_kernels.processor import register_bits

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


class Lanes(types.CPointer):
    """A C pointer whose Vectors have `lanes` elements: several registers' worth where a loop is short of work."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        super().__init__(dtype)
        self.lanes = lanes
        self.name = f"Lanes({dtype}, {lanes})"

    @property
    def key(self) -> Any:
        """What tells it from others: numba keeps one type for each key."""
        return super().key, self.lanes


@register_model(Lanes)
class _LanesModel(models.PointerModel):
    pass


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), kind.lanes))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), kind.lanes))


def vector_of(array: types.Array | types.CPointer) -> Vector:
    """The Vector that holds elements of `array`."""
    if isinstance(array, Lanes):
        return Vector(array.dtype, array.lanes)
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
    """The sum of the lanes, one half added to the other until one is left.

    (LLVM's own `vector.reduce.fadd` keeps the width, and an addition in 512 bits takes 3 cycles, in 256 it takes 2.)
    """
    count = vector.type.count
    undefined = ir.Constant(vector.type, ir.Undefined)
    while count > 1:
        count //= 2
        kind = ir.VectorType(INDEX, count)
        low, high = (ir.Constant(kind, list(range(start, start + count))) for start in (0, count))
        halves = (builder.shuffle_vector(vector, undefined, order) for order in (low, high))
        vector = builder.fadd(*halves)
        undefined = ir.Constant(vector.type, ir.Undefined)
    return builder.extract_element(vector, ir.Constant(INDEX, 0))


def zero(kind: ir.Type) -> ir.Constant:
    """Positive zero in each lane of `kind`."""
    return ir.Constant(kind, [0.0] * kind.count)


def _call(
    builder: ir.IRBuilder,
    name: str,
    result: ir.Type,
    arguments: list[ir.Value],
    overloaded: ir.Type,
) -> ir.Value:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.{_suffix(overloaded)}")
    return builder.call(function, arguments)


def _suffix(kind: ir.Type) -> str:
    """LLVM's name for a type in an overloaded intrinsic: f32, f64, v16f32."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


def _address(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value
) -> ir.Value:
    is_pointer = isinstance(array_type, types.CPointer)
    data = array if is_pointer else context.make_array(array_type)(context, builder, array).data
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
def narrow(typing: Any, array: Lanes) -> tuple[Any, Callable[..., ir.Value]]:
    """The same pointer, whose Vectors are one register."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return arguments[0]

    return Lanes(array.dtype, register_bits() // array.dtype.bitwidth)(array), emit


@intrinsic
def widened(typing: Any, vector: Vector, array: types.CPointer) -> tuple[Any, Callable[..., ir.Value]]:
    """`vector` as the first lanes of a Vector of `array`, zero in the others."""
    result = vector_of(array)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        order = [min(lane, vector.lanes) for lane in range(result.lanes)]
        return builder.shuffle_vector(
            arguments[0], zero(arguments[0].type), ir.Constant(ir.VectorType(INDEX, result.lanes), order)
        )

    return result(vector, array), emit


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
def store(
    typing: Any, array: types.Array, index: types.Integer, vector: Vector
) -> tuple[Any, Callable[..., ir.Value]] | None:
    """Write the lanes to array[index], array[index + 1], ...; a number alone does not compile, it would fill one."""
    if vector != vector_of(array):
        return None

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


def _lane_reduction(name: str, combine: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value], doc: str) -> Any:
    """An intrinsic that combines the lanes of a Vector in a tree: one half with the other until one lane is left."""

    def reduction(typing: Any, vector: Vector) -> tuple[Any, Callable[..., ir.Value]]:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            value = arguments[0]
            undefined = ir.Constant(value.type, ir.Undefined)
            half = vector.lanes // 2
            while half:
                moved = [*range(half, 2 * half), *[0] * (vector.lanes - half)]
                order = ir.Constant(ir.VectorType(INDEX, vector.lanes), moved)
                value = combine(builder, value, builder.shuffle_vector(value, undefined, order))
                half //= 2
            return builder.extract_element(value, ir.Constant(INDEX, 0))

        return vector.dtype(vector), emit

    reduction.__name__, reduction.__doc__ = name, doc
    return intrinsic(reduction)


def _propagating(name: str) -> Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]:
    """llvm.maximum or llvm.minimum, which give NaN where one side is NaN."""
    return lambda builder, a, b: _call(builder, name, a.type, [a, b], overloaded=a.type)


product = _lane_reduction("product", lambda builder, a, b: builder.fmul(a, b), "The product of the lanes.")
largest = _lane_reduction("largest", _propagating("maximum"), "The largest lane; NaN if one is.")
smallest = _lane_reduction("smallest", _propagating("minimum"), "The smallest lane; NaN if one is.")


# -- operators: a Vector with a Vector, or with a number, which then stands in every lane
# ---------------------------------------------------------------------------------------------------


def _widened(context: Any, builder: ir.IRBuilder, value: ir.Value, given: types.Type, wanted: types.Type) -> ir.Value:
    """`value` of type `given` as a `wanted`: itself, a cast number, or a number or bool in every lane."""
    if given == wanted:
        return value
    if isinstance(wanted, Vector):
        return emit_splat(builder, context.cast(builder, value, given, wanted.dtype), wanted.lanes)
    if isinstance(wanted, Mask):
        return emit_splat(builder, context.cast(builder, value, given, types.boolean), wanted.lanes)
    return context.cast(builder, value, given, wanted)


def _common(*kinds: types.Type) -> types.Type | None:
    """The type that values of these types meet in: their Vector, or the widest float."""
    vectors = {kind for kind in kinds if isinstance(kind, Vector)}
    numbers = [kind for kind in kinds if isinstance(kind, types.Number)]
    if len(vectors) > 1 or len(vectors) + len(numbers) < min(len(kinds), 1):
        return None
    if vectors:
        return vectors.pop() if len(numbers) + sum(isinstance(k, Vector) for k in kinds) == len(kinds) else None
    return max(numbers, key=lambda kind: kind.bitwidth) if len(numbers) == len(kinds) else None


def _define(operation: Callable[..., Any], emit: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]) -> None:
    """Give two Vectors, or a Vector and a number, the operator; `emit` makes a Vector, or a Mask of a comparison."""
    compares = operation in _COMPARISONS

    @type_callable(operation)
    def type_operation(context: Any) -> Callable[..., Any]:
        def typer(a: types.Type, b: types.Type) -> types.Type | None:
            if not isinstance(a, Vector) and not isinstance(b, Vector):
                return None
            kind = _common(a, b)
            return Mask(kind.lanes) if compares and kind is not None else kind

        return typer

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind = _common(*signature.args)
        sides = (_widened(context, builder, *side, kind) for side in zip(arguments, signature.args, strict=True))
        return emit(builder, *sides)

    for left, right in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operation, left, right)(lower)


_COMPARISONS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}
for _operation, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operation, lambda builder, a, b, method=_method: getattr(builder, method)(a, b))
for _operation, _sign in _COMPARISONS.items():
    # NaN differs from everything, itself included
    _compare = "fcmp_unordered" if _sign == "!=" else "fcmp_ordered"
    _define(_operation, lambda builder, a, b, how=_compare, sign=_sign: getattr(builder, how)(sign, a, b))


@type_callable(operator.neg)
def _type_negative(context: Any) -> Callable[..., Any]:
    return lambda a: a if isinstance(a, Vector) else None


@lower_builtin(operator.neg, Vector)
def _lower_negative(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
    return builder.fneg(arguments[0])


def _define_logic(operation: Callable[..., Any], method: str) -> None:
    @type_callable(operation)
    def type_operation(context: Any) -> Callable[..., Any]:
        def typer(a: types.Type, b: types.Type) -> types.Type | None:
            masks = [kind for kind in (a, b) if isinstance(kind, Mask)]
            return masks[0] if masks and all(isinstance(k, Mask | types.Boolean) for k in (a, b)) else None

        return typer

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind = signature.return_type
        sides = (_widened(context, builder, *side, kind) for side in zip(arguments, signature.args, strict=True))
        return getattr(builder, method)(*sides)

    for left, right in ((Mask, Mask), (Mask, types.Boolean), (types.Boolean, Mask)):
        lower_builtin(operation, left, right)(lower)


for _operation, _method in ((operator.and_, "and_"), (operator.or_, "or_"), (operator.xor, "xor")):
    _define_logic(_operation, _method)


@intrinsic
def inverse(typing: Any, mask: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
    """The lanes that are not in `mask`; of a bool, the other one."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.not_(arguments[0])

    return mask(mask), emit


@intrinsic
def where(typing: Any, mask: types.Type, a: types.Type, b: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
    """`a` in the lanes of `mask`, `b` in the others; both sides are computed. `mask` may be a bool, a and b numbers."""
    kind = _common(a, b)
    if isinstance(mask, Mask) and not isinstance(kind, Vector):
        kind = Vector(kind, mask.lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        condition, *sides = arguments
        sides = [_widened(context, builder, *side, kind) for side in zip(sides, signature.args[1:], strict=True)]
        return builder.select(condition, *sides)

    return kind(mask, a, b), emit


def _pairwise(name: str, doc: str) -> Any:
    def pairwise(typing: Any, a: types.Type, b: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
        kind = _common(a, b)

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            sides = (_widened(context, builder, *side, kind) for side in zip(arguments, signature.args, strict=True))
            return _propagating(name)(builder, *sides)

        return kind(a, b), emit

    pairwise.__name__, pairwise.__doc__ = name, doc
    return intrinsic(pairwise)


maximum = _pairwise("maximum", "The larger of a and b, lane by lane; NaN where one of them is. Scalars too.")
minimum = _pairwise("minimum", "The smaller of a and b, lane by lane; NaN where one of them is. Scalars too.")


def _unary(name: str, llvm_name: str, doc: str) -> Any:
    def unary(typing: Any, a: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            return _call(builder, llvm_name, arguments[0].type, [arguments[0]], overloaded=arguments[0].type)

        return a(a), emit

    unary.__name__, unary.__doc__ = name, doc
    return intrinsic(unary)


absolute = _unary("absolute", "fabs", "|a|; a Vector or a scalar.")
floor = _unary("floor", "floor", "The largest whole number that is not above a; a Vector or a scalar.")
ceil = _unary("ceil", "ceil", "The smallest whole number that is not below a; a Vector or a scalar.")
trunc = _unary("trunc", "trunc", "a without its fraction; a Vector or a scalar.")
nearest = _unary("nearest", "roundeven", "The nearest whole number, the even one of two; a Vector or a scalar.")


# -- the stack
# -----------------------------------------------------------------------------------------------------------


@intrinsic
def aligned_stack(typing: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Align the function's stack to registers; call it where the function begins.

    LLVM keeps there what does not fit into registers, at whatever address the caller has left. A register of 512 bits
    then lies across two cache lines and costs two accesses (the post's loop in single: up to a third more time). It
    aligns the stack only for what it knows beforehand: here, an empty variable whose address is asked for.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        with builder.goto_entry_block():
            variable = builder.alloca(ir.IntType(8))
        variable.align = register_bits() // 8
        wants_address = ir.InlineAsm(ir.FunctionType(ir.VoidType(), [variable.type]), "", "r", side_effect=True)
        builder.call(wants_address, [variable])
        return context.get_dummy_value()

    return types.void(), emit


# -- threads
# -------------------------------------------------------------------------------------------------------------


@intrinsic
def meet(typing: Any, counter: types.CPointer, count: types.Integer) -> tuple[Any, Callable[..., ir.Value]]:
    """Add one to counter[0], then wait until it is at least `count`: until so many threads have come.

    What a thread wrote before, all others read after. A thread waits a little in a loop, then lets others run.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        address, wanted = arguments
        number = address.type.pointee
        builder.atomic_rmw("add", address, ir.Constant(number, 1), "acq_rel")
        turns = cgutils.alloca_once_value(builder, ir.Constant(number, 0))
        again, done, patience, wait = (builder.append_basic_block(n) for n in ("again", "met", "patience", "wait"))
        builder.branch(again)
        builder.position_at_end(again)
        come = builder.load_atomic(address, "acquire", 8)
        builder.cbranch(builder.icmp_signed(">=", come, wanted), done, patience)
        builder.position_at_end(patience)
        turn = builder.add(builder.load(turns), ir.Constant(number, 1))
        builder.store(turn, turns)
        builder.cbranch(builder.icmp_signed("<", turn, ir.Constant(number, PATIENCE)), again, wait)
        builder.position_at_end(wait)
        give_way = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
        builder.call(give_way, [])
        builder.branch(again)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(counter, types.intp), emit


PATIENCE = 4000
"""Looks at the counter before a waiting thread offers its core to others: some microseconds."""
