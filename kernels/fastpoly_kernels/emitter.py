"""Formulas as Python expressions that emit LLVM IR: write once, for both float types, for scalars and vectors.

`formulas` states its algorithms as mathematics, `descent` and others their loops. What that asks for, and what stands
here:

- a `Number` has the operators of a formula, and Python constants beside it take its type;
- one text serves float32 and float64 (`x.format` has what differs), one lane and many;
- no operation depends on the value of a lane, except through `where`;
- `fma` rounds once where the CPU can, and LLVM's `contract` flag, which may stand on every other operation, cannot
  tell: no formula may become wrong when LLVM fuses its `a * b + c`, or when it does not;
- `called` emits each formula once a module, as a function that LLVM inlines, and costs each use one call to compile.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

from llvmlite import ir

from fastpoly_kernels import processor

INDEX = ir.IntType(32)


@dataclass(frozen=True)
class Format:
    """An IEEE 754 binary format."""

    bits: int
    precision: int  # of the significand, with the bit that is not stored
    code: str  # of the struct module
    suffix: str  # of the C library's names
    kind: ir.Type

    @property
    def integer(self) -> ir.IntType:
        """The integer of the same size."""
        return ir.IntType(self.bits)

    @property
    def stored(self) -> int:
        """Bits of the significand that are stored, under the exponent."""
        return self.precision - 1

    @property
    def bias(self) -> int:
        """What the exponent of 1.0 is stored as; also the largest exponent."""
        return (1 << (self.bits - self.precision - 1)) - 1

    @property
    def smallest_normal(self) -> float:
        """Numbers below have fewer significant bits."""
        return 2.0 ** (1 - self.bias)

    def nearest(self, value: Fraction | float) -> float:
        """`value` rounded to this format."""
        return struct.unpack(self.code, struct.pack(self.code, float(value)))[0]

    def encoded(self, value: float) -> int:
        """The bits of `value`, as an integer."""
        return int.from_bytes(struct.pack("<" + self.code, value), "little")

    def parts(self, value: Fraction, count: int, significant: int | None = None) -> list[float]:
        """Floats whose sum is the positive `value`, largest first; all are positive and all but the last cut off."""
        parts = []
        for _ in range(count - 1):
            unit = Fraction(2) ** (math.frexp(value)[1] - (significant or self.precision))
            parts.append(float(value // unit * unit))
            value -= Fraction(parts[-1])
        return [*parts, self.nearest(value)]


SINGLE = Format(32, 24, "f", "f", ir.FloatType())
DOUBLE = Format(64, 53, "d", "", ir.DoubleType())
FORMATS = {"float": SINGLE, "i32": SINGLE, "double": DOUBLE, "i64": DOUBLE}


def format_of(kind: ir.Type) -> Format:
    """The float format for a float or integer type, or for the lanes of a vector type."""
    return FORMATS[str(element_of(kind))]


def element_of(kind: ir.Type) -> ir.Type:
    """The type of a lane."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


# -- expressions
# -------------------------------------------------------------------------------------------------------


class Expression:
    """A value in LLVM IR, of one lane or many, and the builder that its operators write to."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def kind(self) -> ir.Type:
        """The LLVM type."""
        return self.value.type

    @property
    def lanes(self) -> int:
        """How many; 0 for a scalar."""
        return self.kind.count if isinstance(self.kind, ir.VectorType) else 0

    @property
    def format(self) -> Format:
        """Of the lanes: as floats, or as which they can be read."""
        return format_of(self.kind)

    def _filled(self, element: ir.Type, constant: float) -> ir.Constant:
        if self.lanes:
            return ir.Constant(ir.VectorType(element, self.lanes), [constant] * self.lanes)
        return ir.Constant(element, constant)

    def _cast(self, element: ir.Type) -> ir.Value:
        return self.builder.bitcast(self.value, ir.VectorType(element, self.lanes) if self.lanes else element)

    def _operand(self, other: "Expression | float") -> ir.Value:
        if isinstance(other, Expression):
            return other.value
        return self._filled(element_of(self.kind), other)


def operators(*methods: str, **flags: Any) -> list[Callable[[Any, Any], Any]]:
    """Operators of expressions that are these methods of the builder; what comes out is of the left operand's class."""

    def one(method: str) -> Callable[[Any, Any], Any]:
        return lambda a, b: type(a)(a.builder, getattr(a.builder, method)(a.value, a._operand(b), **flags))

    return [one(method) for method in methods]


def comparisons(method: str, *signs: str) -> "list[Callable[[Any, Any], Truth]]":
    """Comparisons of expressions, by this method of the builder."""

    def one(sign: str) -> "Callable[[Any, Any], Truth]":
        return lambda a, b: Truth(a.builder, getattr(a.builder, method)(sign, a.value, a._operand(b)))

    return [one(sign) for sign in signs]


class Truth(Expression):
    """What holds, or not."""

    def where(self, then: "Number", otherwise: "Number | float") -> "Number":
        """`then` in the lanes where this holds, `otherwise` in the others."""
        return Number(self.builder, self.builder.select(self.value, then.value, then._operand(otherwise)))

    __and__, __or__ = operators("and_", "or_")

    def __invert__(self) -> "Truth":
        return Truth(self.builder, self.builder.not_(self.value))

    def __bool__(self) -> bool:
        raise TypeError("only the run knows whether this holds; it decides an `if`, and combines by &, | and ~")

    def any(self) -> ir.Value:
        """Whether it holds in any lane."""
        if not self.lanes:
            return self.value
        together = ir.IntType(self.lanes)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(self.value, together), ir.Constant(together, 0))


class Bits(Expression):
    """Integers, as which the bits of a Number are read. They wrap around."""

    __add__, __sub__, __and__, __or__, __xor__ = operators("add", "sub", "and_", "or_", "xor")
    __lshift__, __rshift__ = operators("shl", "lshr")
    __radd__ = __add__

    def __rsub__(self, other: int) -> "Bits":
        return Bits(self.builder, self._filled(element_of(self.kind), other)) - self

    __lt__, __eq__ = comparisons("icmp_unsigned", "<", "==")

    @property
    def number(self) -> "Number":
        """The float with these bits."""
        return Number(self.builder, self._cast(self.format.kind))


class Number(Expression):
    """Floats."""

    @property
    def bits(self) -> Bits:
        """The bits of the floats, as integers."""
        return Bits(self.builder, self._cast(self.format.integer))

    def constant(self, value: Fraction | float) -> "Number":
        """`value` in every lane, rounded to this format."""
        return Number(self.builder, self._filled(self.format.kind, self.format.nearest(value)))

    def _operand(self, other: "Number | Fraction | float") -> ir.Value:
        return other.value if isinstance(other, Number) else self.constant(other).value

    __add__, __sub__, __mul__, __truediv__ = operators("fadd", "fsub", "fmul", "fdiv")
    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> "Number":
        return self.constant(other) - self

    def __rtruediv__(self, other: float) -> "Number":
        return self.constant(other) / self

    def __neg__(self) -> "Number":
        return Number(self.builder, self.builder.fneg(self.value))

    def __abs__(self) -> "Number":
        return intrinsic("fabs", self)

    # Lane by lane. Comparisons with NaN do not hold; +0 equals -0.
    __lt__, __gt__, __ge__, __eq__ = comparisons("fcmp_ordered", "<", ">", ">=", "==")

    @property
    def is_finite(self) -> Truth:
        """Neither infinite nor NaN."""
        return abs(self) < math.inf

    def to(self, form: Format) -> "Number":
        """The same in another format, rounded if that is the smaller one."""
        if form is self.format:
            return self
        kind = ir.VectorType(form.kind, self.lanes) if self.lanes else form.kind
        method = self.builder.fpext if form is DOUBLE else self.builder.fptrunc
        return Number(self.builder, method(self.value, kind))

    def at_least(self, bound: "Number | float") -> "Number":
        """The larger one; NaN stays."""
        return (self < bound).where(self._like(bound), self)

    def at_most(self, bound: "Number | float") -> "Number":
        """The smaller one; NaN stays."""
        return (self > bound).where(self._like(bound), self)

    def with_sign_of(self, other: "Number") -> "Number":
        """The magnitude of this and the sign of `other`."""
        return intrinsic("copysign", self, other)

    def or_sign_of(self, other: "Number") -> "Number":
        """`with_sign_of` for a number without a sign: one operation less."""
        return (self.bits | other.bits & (1 << (other.format.bits - 1))).number

    def _like(self, other: "Number | float") -> "Number":
        return other if isinstance(other, Number) else self.constant(other)


def declared(module: ir.Module, signature: ir.FunctionType, name: str) -> ir.Function:
    """The function of this name, which is defined elsewhere."""
    known = module.globals.get(name)
    return ir.Function(module, signature, name) if known is None else known


def intrinsic(name: str, *arguments: Number) -> Number:
    """LLVM's intrinsic `name`, whose arguments and result have one type."""
    kind, builder = arguments[0].kind, arguments[0].builder
    signature = ir.FunctionType(kind, [kind] * len(arguments))
    function = declared(builder.module, signature, f"llvm.{name}.{_mangled(kind)}")
    return Number(builder, builder.call(function, [argument.value for argument in arguments]))


def _mangled(kind: ir.Type) -> str:
    lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    return f"{lanes}f{format_of(kind).bits}"


def fma(a: Number, b: Number | float, c: Number | float) -> Number:
    """a * b + c with one rounding where the CPU has that instruction, else with two."""
    return intrinsic("fmuladd", a, a._like(b), a._like(c))


def scales(x: Number) -> bool:
    """Whether `scalef` is there: on the processor, for so many lanes."""
    return processor.has("avx512f") and processor.has("avx512vl") and x.lanes * x.format.bits >= 128


def scalef(x: Number, n: Number) -> Number:
    """x * 2**n for a whole number n, by AVX-512's instruction of that name: rounded once, whatever n is."""
    builder, form = x.builder, x.format
    width = min(x.lanes, 512 // form.bits)
    kind = ir.VectorType(form.kind, width)
    mask = ir.IntType(max(width, 8))
    current_rounding = [ir.Constant(INDEX, 4)] if width * form.bits == 512 else []
    signature = ir.FunctionType(kind, [kind, kind, kind, mask, *(INDEX for _ in current_rounding)])
    name = f"llvm.x86.avx512.mask.scalef.p{'d' if form is DOUBLE else 's'}.{width * form.bits}"
    function = declared(builder.module, signature, name)
    everywhere = ir.Constant(mask, (1 << mask.width) - 1)
    parts = [
        builder.call(function, [part, exponent, part, everywhere, *current_rounding])
        for part, exponent in zip(_registers(x, width), _registers(n, width), strict=True)
    ]
    return Number(builder, _joined(builder, parts))


def _registers(x: Number, width: int) -> list[ir.Value]:
    """The lanes, `width` at a time."""
    if x.lanes == width:
        return [x.value]
    undefined = ir.Constant(x.kind, ir.Undefined)
    orders = (
        ir.Constant(ir.VectorType(INDEX, width), list(range(start, start + width)))
        for start in range(0, x.lanes, width)
    )
    return [x.builder.shuffle_vector(x.value, undefined, order) for order in orders]


def _joined(builder: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
    """The lanes of all parts, a power of two, one after the other."""
    while len(parts) > 1:
        count = 2 * parts[0].type.count
        order = ir.Constant(ir.VectorType(INDEX, count), list(range(count)))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def polynomial(x: Number, coefficients: Sequence[float]) -> Number:
    """Σ coefficients[k] x**k: a short one by Estrin's scheme (pairs, pairs of pairs), a chain of log2(n) steps, not n.

    A long one is the sum of its even and its odd half, each by Horner's rule: the chain is longer, n / 2 + 1 steps, but
    there is one squaring instead of three or four, and loops over samples have other vectors to take meanwhile (a step
    of the zoo's exponential decay in double: 4 % less time).
    """
    if len(coefficients) >= 8:
        square = x * x
        return fma(x, horner(square, coefficients[1::2]), horner(square, coefficients[::2]))
    terms: list[Number | float] = list(coefficients)
    power = x
    while len(terms) > 1:
        pairs = zip(terms[1::2], terms[::2], strict=False)
        tail = terms[-1:] if len(terms) % 2 else []
        terms = [fma(power, odd, even) for odd, even in pairs] + tail
        if len(terms) > 1:
            power = power * power
    return x._like(terms[0])


def horner(x: Number, coefficients: Sequence[float]) -> Number:
    """Σ coefficients[k] x**k by Horner's rule: the fewest operations, each waiting for the one before."""
    *others, last = coefficients
    y = x.constant(last)
    for coefficient in reversed(others):
        y = fma(x, y, coefficient)
    return y


# -- functions
# ---------------------------------------------------------------------------------------------------------


def called(name: str, formula: Callable[..., Number], *arguments: Number, inlined: bool = True) -> Number:
    """Call the LLVM function of a formula, `fastpoly.name`, written at its first use in the module."""
    builder, values = arguments[0].builder, [argument.value for argument in arguments]
    attribute = "alwaysinline" if inlined else "noinline"
    target = written(name, formula, builder.module, [value.type for value in values], attribute)
    return Number(builder, builder.call(target, values))


def unless(rare: Truth, usual: Number, x: Number, name: str) -> Number:
    """`usual`, but the C library's `name` of x in the lanes where `rare` holds: a branch that other vectors pass by."""
    builder = x.builder
    before = builder.block
    with builder.if_then(rare.any(), likely=False):
        slow = rare.where(by_lane(name, x), usual)
        branch = builder.block
    result = builder.phi(x.kind)
    result.add_incoming(usual.value, before)
    result.add_incoming(slow.value, branch)
    return Number(builder, result)


def by_lane(name: str, *arguments: Number) -> Number:
    """The C library's function `name` (`namef` for float32), called for each lane."""
    return called(f"{name}.by_lane", partial(_by_lane, name), *arguments, inlined=False)


def _by_lane(name: str, *arguments: Number) -> Number:
    builder, kind, lanes = arguments[0].builder, arguments[0].kind, arguments[0].lanes
    form = arguments[0].format
    signature = ir.FunctionType(form.kind, [form.kind] * len(arguments))
    callee = declared(builder.module, signature, name + form.suffix)
    if not lanes:
        return Number(builder, builder.call(callee, [argument.value for argument in arguments]))
    result = ir.Constant(kind, ir.Undefined)
    for lane in range(lanes):
        at = ir.Constant(INDEX, lane)
        scalars = [builder.extract_element(argument.value, at) for argument in arguments]
        result = builder.insert_element(result, builder.call(callee, scalars), at)
    return Number(builder, result)


def written(
    name: str, formula: Callable[..., Number], module: ir.Module, kinds: Sequence[ir.Type], attribute: str
) -> ir.Function:
    """The function of a formula for operands of these LLVM types, which are one; written if it is not yet there."""
    kind = kinds[0]
    full_name = f"fastpoly.{name}.{_mangled(kind)}"
    if full_name in module.globals:
        return module.globals[full_name]
    function = ir.Function(module, ir.FunctionType(kind, kinds), full_name)
    function.linkage = "internal"
    function.attributes.add(attribute)
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(formula(*(Number(builder, argument) for argument in function.args)).value)
    return function
