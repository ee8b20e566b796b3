"""Whole numbers, arrays in memory, and vectors of their elements: what kernels are written in, beside `emitter`.

LLVM's loop vectoriser works on scalar loops if fast-math allows it, chooses the width itself and leaves the last
samples to a scalar loop: of 100 float32 samples the last 4 to 36, at 16 times the price. A vector is one machine
register wide (512 bits where the CPU has AVX-512, 256 with AVX, else 128), gets packed instructions always, and takes
the samples after the last whole vector in one masked load.
"""

from __future__ import annotations

from llvmlite import ir

from . import processor
from .emitter import INDEX, Expression, Format, Number, Truth, comparisons, declared, format_of, operators

INTEGER = ir.IntType(64)


class Index(Expression):
    """A whole number of 64 bits that only the run knows: a count, a place. It must not overflow."""

    __add__, __sub__, __mul__ = operators("add", "sub", "mul", flags=("nsw",))
    __radd__, __rmul__ = __add__, __mul__

    def __mod__(self, other: int) -> Index:
        """What is left of this, which is not below 0."""
        return Index(self.builder, self.builder.urem(self.value, self._operand(other)))

    __lt__, __gt__, __eq__ = comparisons("icmp_signed", "<", ">", "==")  # type: ignore[assignment]

    def at_most(self, bound: Index | int) -> Index:
        """The smaller one."""
        smaller = self < bound
        return Index(self.builder, self.builder.select(smaller.value, self.value, self._operand(bound)))

    def to(self, form: Format) -> Number:
        """As a float, rounded if it is large."""
        return Number(self.builder, self.builder.sitofp(self.value, form.kind))


class Array:
    """Rows of floats, one after the other in memory.

    Attributes:
        size: how many rows.
        columns: how many elements each has, which is known when the kernel is compiled.
        lanes: how many elements a vector of them has.
    """

    def __init__(self, builder: ir.IRBuilder, data: ir.Value, size: Index, columns: int) -> None:
        self.builder, self.data, self.size, self.columns = builder, data, size, columns
        self.format = format_of(data.type.pointee)
        self.lanes = processor.register_bits() // self.format.bits

    def __getitem__(self, place: Index | int | tuple[Index | int, ...]) -> Number:
        return Number(self.builder, self.builder.load(self._address(place)))

    def __setitem__(self, place: Index | int | tuple[Index | int, ...], value: Number) -> None:
        self.builder.store(value.value, self._address(place))

    def _address(self, place: Index | int | tuple[Index | int, ...]) -> ir.Value:
        row, column = place if isinstance(place, tuple) else (place, 0)
        at = row * self.columns + column
        return self.builder.gep(self.data, [at.value if isinstance(at, Index) else INTEGER(at)], inbounds=True)

    def _vector(self, place: Index | int | tuple[Index | int, ...]) -> ir.Value:
        return self.builder.bitcast(self._address(place), ir.VectorType(self.format.kind, self.lanes).as_pointer())

    @property
    def alignment(self) -> int:
        """Bytes: numpy promises no more than an element's, and unaligned loads cost nothing within a cache line."""
        return self.format.bits // 8


def load(array: Array, place: Index | tuple[int, int]) -> Number:
    """The vector that starts there; all of its lanes must lie in the array."""
    return Number(array.builder, array.builder.load(array._vector(place), align=array.alignment))


def store(array: Array, place: Index | tuple[int, int], vector: Number) -> None:
    """Write the lanes there."""
    array.builder.store(vector.value, array._vector(place), align=array.alignment)


def load_first(array: Array, place: Index, mask: Truth) -> Number:
    """The vector that starts there in the lanes of `mask`; zero in the others, which are not read."""
    address, align = array._vector(place), ir.Constant(INDEX, array.alignment)
    kind = address.type.pointee
    arguments = [address, align, mask.value, ir.Constant(kind, None)]
    signature = ir.FunctionType(kind, [argument.type for argument in arguments])
    name = f"llvm.masked.load.v{kind.count}f{array.format.bits}.p0"
    return Number(array.builder, array.builder.call(declared(array.builder.module, signature, name), arguments))


def first_lanes(array: Array, count: Index) -> Truth:
    """Which lanes of a vector of `array` are the first `count`."""
    builder = array.builder
    numbers = ir.Constant(ir.VectorType(INDEX, array.lanes), list(range(array.lanes)))
    counts = _in_every_lane(builder, builder.trunc(count.value, INDEX), array.lanes)
    return Truth(builder, builder.icmp_signed("<", numbers, counts))


def splat(scalar: Number | float, array: Array) -> Number:
    """A number in every lane of a vector of `array`."""
    if not isinstance(scalar, Number):
        kind = ir.VectorType(array.format.kind, array.lanes)
        return Number(array.builder, ir.Constant(kind, [float(scalar)] * array.lanes))
    return Number(array.builder, _in_every_lane(array.builder, scalar.value, array.lanes))


def masked(mask: Truth, vector: Number) -> Number:
    """`vector` in the lanes of `mask`, zero in the others."""
    return mask.where(vector, 0.0)


def total(vector: Number) -> Number:
    """The sum of the lanes, one half added to the other until one is left.

    (LLVM's own `vector.reduce.fadd` keeps the width, and an addition in 512 bits takes 3 cycles, in 256 it takes 2.)
    """
    builder, value, count = vector.builder, vector.value, vector.lanes
    while count > 1:
        undefined = ir.Constant(value.type, ir.Undefined)
        count //= 2
        orders = (ir.Constant(ir.VectorType(INDEX, count), list(range(at, at + count))) for at in (0, count))
        value = builder.fadd(*(builder.shuffle_vector(value, undefined, order) for order in orders))
    return Number(builder, builder.extract_element(value, ir.Constant(INDEX, 0)))


def _in_every_lane(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INDEX, lanes), [0] * lanes))
