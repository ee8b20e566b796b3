"""Elementary functions of whole registers, as formulas that emit LLVM IR.

LLVM comes without a vector C library: an `exp` in a loop over samples is one call a sample, and the loop stays scalar
around it. Here each function is a formula without branches that works on all lanes of a vector at once; a scalar float
gives the same bits. What they meet:

- at most 2 ulp from the exact result (measured: below 1.8; 1 ulp is the gap between neighbouring floats), in float32
  and float64, for every float, with and without LLVM's `contract` flag;
- the special cases of C99's annex F: NaN, infinities, signed zeros, and gradual underflow of arguments and results;
- few instructions: no tables, no gathers, and at most one division (`erfcx`: two).

`sqrt` is the CPU's. The table `FUNCTIONS` says which functions have no formula: they call the C library for each lane.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

from fastpoly_kernels import emitter, processor
from fastpoly_kernels.coefficients import ERF, ERFCX, ERFCX_START, EXP, LOG, LOG_ERFC, R_COTH, SIN, TAN
from fastpoly_kernels.emitter import Bits, Number, Truth, fma, polynomial, unless
from fastpoly_kernels.functions import FORMULA, FUNCTIONS, PARITY, ROTATIONS, ROUNDS, WORD

LN2 = Fraction(0xB17217F7D1CF79ABC9E3B39803F2F6AF40F343267298B62D8A0D175B8BAAFA2B, 2**256)
PI = Fraction(0x3243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C8, 2**252)


def fitted(x: Number, coefficients: dict[int, Sequence[float]]) -> Number:
    """The polynomial in x whose coefficients stand in one of the tables of `coefficients`."""
    return polynomial(x, coefficients[x.format.bits])


# -- exponentials
# ------------------------------------------------------------------------------------------------------


def nearest(x: Number, factor: Fraction, offset: float = 0.0) -> tuple[Number, Bits]:
    """The integer n nearest to x * factor + offset; the second value has n in its low bits.

    Adding 1.5 * 2**stored leaves no bits for a fraction and the integer in the lowest ones. Conversions of float64 to
    integers would need AVX-512.
    """
    shift = 1.5 * 2.0**x.format.stored
    scale = x.constant(factor)
    shifted = fma(x, scale, offset) + shift if offset else fma(x, scale, shift)
    return shifted - shift, shifted.bits


def in_low_bits(n: Number) -> Bits:
    """The integer n, as an integer in the low bits: see `nearest`."""
    return (n + 1.5 * 2.0**n.format.stored).bits


def from_low_bits(n: Bits) -> Number:
    """The integer in the low bits, as a number: see `nearest`."""
    return n.number - 1.5 * 2.0**n.format.stored


def two_to(n: Bits) -> Number:
    """2**n for the integer n in the low bits, if that is a normal number."""
    form = n.format
    return ((n << form.stored) + form.encoded(1.0)).number


def ln2(x: Number) -> list[float]:
    """ln(2) in two parts; the product of the first one and any exponent is exact."""
    return x.format.parts(LN2, 2, significant=x.format.precision - 11)


def expm1_of_rest(x: Number) -> tuple[Number, Bits]:
    """(y, n): e**x = (1 + y) * 2**n, where 1 + y lies between sqrt(1/2) and sqrt(2)."""
    n, integer = nearest(x, 1 / LN2)
    high, low = ln2(x)
    r = fma(-n, low, fma(-n, high, x))
    return fma(r * r, fitted(r, EXP), r), integer


def expm1_of_rest_in_parts(x: Number) -> tuple[Number, Number, Bits]:
    """`expm1_of_rest` as a sum: the first part is the larger one, and exact."""
    n, integer = nearest(x, 1 / LN2)
    high, low = ln2(x)
    exact = fma(-n, high, x)
    rest = -n * low
    r = exact + rest
    return exact, fma(r * r, fitted(r, EXP), rest), integer


def exp(x: Number) -> Number:
    """e**x; 0 and infinity where that is out of range."""
    low, high = {32: (-104.5, 89.0), 64: (-746.0, 710.0)}[x.format.bits]  # the results are 0 and infinity
    y, n = expm1_of_rest(x.at_least(low).at_most(high))
    if emitter.scales(x):
        return emitter.scalef(1 + y, from_low_bits(n))
    # 2**n need not be a normal number, its two factors are. The first one is exact: what rounds is 1 + y, and once more
    # a denormal result.
    half = n >> 1
    scale = two_to(half)
    return fma(scale, y, scale) * two_to(n - half)


def expm1(x: Number) -> Number:
    """e**x - 1, with all its digits near 0."""
    low, high = {32: (-20.0, 89.0), 64: (-40.0, 710.0)}[x.format.bits]  # the results are -1 and infinity
    r, s, n = expm1_of_rest_in_parts(x.at_least(low).at_most(high))
    half = two_to(n - 1)  # 2**n may be too large
    y = fma(half, s, fma(half, r, half - 0.5))
    # Half of a denormal number may not be one, and -0 became 0 in the sums; there the result is x.
    return (abs(x) < x.format.smallest_normal).where(x, y + y)


def tanh(x: Number) -> Number:
    """The hyperbolic tangent."""
    limit = {32: 20.0, 64: 40.0}[x.format.bits]  # the result is 1
    size = abs(x).at_most(limit)
    # n is 0 until the result is 1/4. `nearest` is an operation less, but holds a register more, and in float32 LLVM has
    # none of AVX2's 16 to spare (in the loop of a network: 10 % more time; in float64, with `nearest`, 5 % less).
    if x.format is emitter.DOUBLE:
        n, integer = nearest(size, 2 / LN2, 0.26 - 0.5)
    else:
        n = emitter.intrinsic("floor", fma(size, size.constant(2 / LN2), 0.26))
        integer = in_low_bits(n)
    r = fma(-n, size.constant(LN2 / 2), size)
    square = r * r
    d = fma(square, fitted(square, R_COTH), 1.0)
    # With d = r coth(r) and u = 2**-n, the result is (d + r - u (d - r)) / (d + r + u (d - r)). Of that 1 - u is taken
    # off, which is exact; the rest is u times a quotient, and so small that its rounding hardly counts.
    u = (x.format.encoded(1.0) - (integer << x.format.stored)).number
    b, q = fma(u, 0.5, -0.5), d - r
    return fma(u, fma(b, q, r) / fma(b, q, d), 1.0 - u).or_sign_of(x)


def sigmoid(x: Number) -> Number:
    """1 / (1 + e**-x), with all its digits where it is near 0."""
    low, high, unit = {32: (-104.5, 20.0, -32), 64: (-746.0, 40.0, -64)}[x.format.bits]  # the results are 0 and 1
    y, n = expm1_of_rest(-x.at_least(low).at_most(high))
    one, scale = x.constant(2.0**unit), two_to(n + unit)  # both times 2**unit, as 2**n may be too large
    # one + scale + scale * y, summed so that neither one + scale nor scale * y loses what counts
    large = scale > one
    total = fma(scale, y, large.where(one, one + scale))
    return one / large.where(total + scale, total)


# -- logarithms
# --------------------------------------------------------------------------------------------------------


def split(x: Number) -> tuple[Number, Number, Number]:
    """(m, n, 2**-n), the last only if it is normal: x = m * 2**n, where sqrt(1/2) <= m < sqrt(2), for normal x > 0."""
    form = x.format
    lowest = form.encoded(0.5**0.5)
    shifted = x.bits + (form.encoded(1.0) - lowest)
    m = ((shifted & ((1 << form.stored) - 1)) + lowest).number
    large = 2.0**form.stored  # the lowest bits of a float of this size are an integer
    exponent = shifted >> form.stored
    n = (exponent | form.encoded(large)).number - (large + form.bias)
    return m, n, ((2 * form.bias - exponent) << form.stored).number


def log_of(f: Number, n: Number) -> Number:
    """ln((1 + f) * 2**n)."""
    high, low = ln2(f)
    # With s = f / (f + 2), ln(1 + f) = 2 artanh(s) = 2 s + s * rest, where 2 s = f - f**2 / 2 + s * f**2 / 2.
    s = f / (f + 2)
    square = s * s
    rest = square * fitted(square, LOG)
    half = f * f * 0.5
    return fma(n, high, f - (half - fma(s, half + rest, n * low)))


def unless_singular(y: Number, x: Number, pole: float) -> Number:
    """y, but infinity and NaN as x is, -infinity at the pole, NaN below."""
    infinity = float("inf")
    return (x < infinity).where((x > pole).where(y, (x == pole).where(x.constant(-infinity), float("nan"))), x)


def log(x: Number) -> Number:
    """The natural logarithm: -infinity of 0, NaN of what is negative."""
    form = x.format
    denormal = x < form.smallest_normal
    m, n, _ = split(denormal.where(x * 2.0**form.precision, x))
    return unless_singular(log_of(m - 1, n - denormal.where(x.constant(form.precision), 0.0)), x, 0.0)


def log1p(x: Number) -> Number:
    """The natural logarithm of 1 + x, with all its digits near 0: -infinity of -1, NaN below."""
    form = x.format
    high, low = x.at_least(1.0), x.at_most(1.0)
    whole = high + low
    rest = low - (whole - high)  # what 1 + x rounded away
    m, n, scale = split(whole)
    scale = (x < 2.0 ** (form.precision + 2)).where(scale, 0.0)  # beyond, the rest counts for nothing
    f = (m - 1) + rest * scale
    return unless_singular(log_of(f, n).with_sign_of(x), x, -1.0)


# -- circular functions
# ------------------------------------------------------------------------------------------------


def far(x: Number) -> Truth:
    """Whether x is finite and too large to subtract multiples of pi from it in floats."""
    form = x.format
    limit = form.encoded({32: 2.0**15, 64: 2.0**30}[form.bits]) if processor.has_fma() else 0
    return abs(x).bits - limit < form.encoded(float("inf")) - limit


def sin_of_reduced(x: Number, n: Number, integer: Bits) -> Number:
    """sin(x - n * pi) * (-1)**integer, where |x - n * pi| is at most pi / 2."""
    r = x  # the first subtraction is exact for |x| >= 1, so that the second has all digits however small r becomes
    for part in x.format.parts(PI, 3):
        r = fma(-n, part, r)
    square = r * r
    first, *others = SIN[x.format.bits]
    y = fma(square * r, fma(square, polynomial(square, others), first), r)  # near pi / 2 each rounding here counts
    return y.with_sign_of((r.bits ^ (integer << (x.format.bits - 1))).number)


def sin(x: Number) -> Number:
    """The sine. From 2**30 (float32: 2**15) on, and on CPUs without FMA, it is the C library's."""
    n, integer = nearest(x, 1 / PI)
    return unless(far(x), sin_of_reduced(x, n, integer), x, "sin")


def cos(x: Number) -> Number:
    """The cosine. From 2**30 (float32: 2**15) on, and on CPUs without FMA, it is the C library's."""
    n, integer = nearest(x, 1 / PI, 0.5)  # cos(x) = sin(x + pi / 2)
    return unless(far(x), sin_of_reduced(x, n - 0.5, integer), x, "cos")


def tan(x: Number) -> Number:
    """The tangent. From 2**30 (float32: 2**15) on, and on CPUs without FMA, it is the C library's."""
    n, integer = nearest(x, 2 / PI)
    first, second, third = x.format.parts(PI / 2, 3)
    exact = fma(-n, first, x)
    r = fma(-n, second, exact)
    # Rounding errors of r would count twice in the tangent: this is what r has too much. The second line is what the
    # first one rounds away where r is small.
    change = r - exact
    lost = r - (exact + change)
    excess = fma(n, third, fma(n, second, change) + lost)
    square = r * r
    y = r + fma(square * r, fitted(square, TAN), -fma(square, excess, excess))
    return unless(far(x), ((integer & 1) == 0).where(y, -1.0 / y), x, "tan")


# -- others
# ------------------------------------------------------------------------------------------------------------


def erf(x: Number) -> Number:
    """The error function."""
    size = abs(x)
    square = size * size
    near = fma(size, fitted(square, ERF), size)
    bound = {32: 4.0, 64: 6.0}[x.format.bits]  # the result is 1
    y, n = expm1_of_rest(fitted(size.at_most(bound), LOG_ERFC))
    return (size < 1).where(near, 1 - (1 + y) * two_to(n)).with_sign_of(x)


def erfcx(x: Number) -> Number:
    """e**(x**2) * erfc(x): a polynomial in (x - K) / (x + K), as Shepherd and Laframboise (1981) have it, over x + 1/2.

    Below 0 it is 2 e**(x**2) - erfcx(-x).
    """
    form = x.format
    scale, start, rest = ERFCX_START[form.bits]
    size = abs(x)
    near = size.at_most(2.0**form.precision * 16)  # beyond, q is 1
    inverse = 1.0 / (near + scale)
    q = (near - scale) * inverse
    change = fma(q, fitted(q, ERFCX), rest)
    dividend, divisor = start + change, size + 0.5
    y = dividend / divisor
    # What both were rounded by, to a tenth, and what the dividend lacks as q was rounded, which counts near x = 0: the
    # polynomial's slope there is about q**4 * scale / 5, the dividend 0.56.
    fourth = (q * q) * (q * q)
    slope = (q < 0).where(fourth * (scale * 0.2), 0.0)
    missing = fma(slope * inverse, fma(-q, near, fma(q + 1, -scale, near)), change - (dividend - start))
    below = (size < 1).where(size - (divisor - 0.5), 0.0)
    right = fma(fma(-y, below, missing), y * (1 / 0.56), y)
    # Below 0: the square as a sum of two, of which the first one is exact.
    low = {32: -9.5, 64: -27.0}[form.bits]  # the result is infinite
    left = x.at_least(low)
    high = (left.bits & -(1 << (form.precision // 2 + 1))).number
    square, small = high * high, (left - high) * (left + high)
    n, integer = nearest(square + small, 1 / LN2)
    first, second = ln2(x)
    exact = fma(-n, first, square)
    part = fma(-n, second, small)
    r = exact + part
    y = exact + fma(r * r, fitted(r, EXP), part)
    # (1 + y) * 2**(n + 1) - right, in which 2**(n + 1) need not be a normal number
    half = (integer + 1) >> 1
    by = two_to(integer + 1 - half)
    unit = two_to(half)
    return (x < 0).where(by * fma(unit, y, unit - right / by), right)


def sqrt(x: Number) -> Number:
    """The square root."""
    return emitter.intrinsic("sqrt", x)


def rounded(x: Number) -> Number:
    """The nearest float32."""
    return x.to(emitter.SINGLE).to(x.format)


def threefry(key: Sequence[Bits], count: Sequence[Bits]) -> tuple[Bits, Bits]:
    """See `functions.threefry`; lanes of 64 bits hold 32."""
    wide = key[0].format is emitter.DOUBLE

    def word(bits: Bits) -> Bits:
        return bits & 0xFFFFFFFF if wide else bits

    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = word(count[0] + keys[0]), word(count[1] + keys[1])
    for number in range(ROUNDS):
        x = word(x + y)
        left = ROTATIONS[number % 8]
        y = word(y << left | y >> 32 - left) ^ x
        if number % 4 == 3:
            turn = number // 4 + 1
            x, y = word(x + keys[turn % 3]), word(y + keys[(turn + 1) % 3] + turn)
    return x, y


def _drawn(*arguments: Number) -> tuple[Bits, Bits]:
    """See `functions._drawn`."""
    key_low, key_high, site, low, high, place = (in_low_bits(one) & (1 << WORD) - 1 for one in arguments)
    key = key_low | (site & 1023) << WORD, key_high | site >> 10 << WORD
    return threefry(key, (place | high >> 12 << WORD, low | (high & 4095) << 20))


def uniform(*arguments: Number) -> Number:
    """A random number from 0 up to 1, of 23 bits."""
    form = arguments[0].format
    return (_drawn(*arguments)[0] >> 9 << form.stored - 23 | form.encoded(1.0)).number - 1.0


def uniform_double(*arguments: Number) -> Number:
    """A random number from 0 up to 1, of 52 bits; in float64 alone."""
    x, y = _drawn(*arguments)
    return (x << 20 | y >> 12 | arguments[0].format.encoded(1.0)).number - 1.0


def formula(name: str) -> Callable[..., Number]:
    """How a function of the table `FUNCTIONS` that machine code calls is written."""
    if FUNCTIONS[name].llvm == FORMULA:
        return globals()[name]
    return partial(emitter.by_lane, name)
