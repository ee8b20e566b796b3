"""Functions for Triton kernels: what neither Triton nor libdevice has, and what libdevice has with a branch in it.

A branch in a function is paid for even where all threads go the same way: nothing moves across it, so that each of a
thread's elements waits for the one before, some hundred cycles, where without it they would hide each other's
latencies. These are formulas without branches, true to 2 ulp in float32 and float64 for every argument: NaN, infinity,
signed zeros and denormal numbers included.

All other functions are libdevice's, NVIDIA's own, which are true to 1 or 2 ulp; Triton's tl.exp and tl.sin of a float32
are the hardware's approximations.

A number among the arguments of a function becomes a float32: constants have `of` around them there.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from fastpoly_kernels import coefficients, functions

LOG2_E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
LN2_HIGH, LN2_LOW = tl.constexpr(0.6931471805598903), tl.constexpr(5.497923018708371e-14)
"""ln(2): the product of the first part and any exponent is exact."""

EXP, R_COTH = tl.constexpr(coefficients.EXP[64]), tl.constexpr(coefficients.R_COTH[64])

TANH = tl.constexpr(
    (-0.3333322, 0.13330926, -0.053788915, 0.021220477, -0.0075535537, 0.0020174303, -0.00027832497)
)  # fmt: skip
"""(tanh(x) - x) / x**3 as a polynomial in x**2 for |x| <= NEAR: 2**-25.9 of tanh(x)"""

NEAR = tl.constexpr(1.1)
"""Where tanh in float32 goes over to 1 - 2 / (e**2x + 1): from there on the errors of the hardware's exponential
(2**-22.5) and reciprocal (2**-23.5) are less than an ulp and a half of the result together."""


@triton.jit
def rounded(a):
    """The nearest float32."""
    return a.to(tl.float32).to(a.dtype)


PARITY, WORD = tl.constexpr(functions.PARITY), tl.constexpr(functions.WORD)
ROTATIONS = tl.constexpr(functions.ROTATIONS)


@triton.jit
def _drawn(key_low, key_high, site, low, high, place):
    """See `functions._drawn`."""
    parts = site.to(tl.uint32)
    words = high.to(tl.uint32)
    key_0 = key_low.to(tl.uint32) | (parts << WORD)
    key_1 = key_high.to(tl.uint32) | ((parts >> 10) << WORD)
    key_2 = key_0 ^ key_1 ^ PARITY
    x = (place.to(tl.uint32) | ((words >> 12) << WORD)) + key_0
    y = (low.to(tl.uint32) | (words << 20)) + key_1
    for turn in tl.static_range(5):
        for number in tl.static_range(4):
            x = x + y
            y = ((y << ROTATIONS[(4 * turn + number) % 8]) | (y >> (32 - ROTATIONS[(4 * turn + number) % 8]))) ^ x
        if turn % 3 == 0:
            x, y = x + key_1, y + key_2 + (turn + 1)
        elif turn % 3 == 1:
            x, y = x + key_2, y + key_0 + (turn + 1)
        else:
            x, y = x + key_0, y + key_1 + (turn + 1)
    return x, y


@triton.jit
def uniform(key_low, key_high, site, low, high, place):
    """A random number from 0 up to 1, of 23 bits."""
    x, _ = _drawn(key_low, key_high, site, low, high, place)
    return ((x >> 9).to(tl.float32) * 1.1920928955078125e-07).to(place.dtype)


@triton.jit
def uniform_double(key_low, key_high, site, low, high, place):
    """A random number from 0 up to 1, of 52 bits; in float64 alone."""
    x, y = _drawn(key_low, key_high, site, low, high, place)
    return (x.to(tl.float64) * 1048576.0 + (y >> 12).to(tl.float64)) * 2.220446049250313e-16


@triton.jit
def maximum(a, b):
    """The larger of two, NaN if one of them is NaN."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    """The smaller of two, NaN if one of them is NaN."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def exp(a):
    """e**a; 0 and infinity where that is out of range."""
    return libdevice.exp(a) if a.dtype == tl.float32 else _exp_double(a)  # libdevice's has no branch


@triton.jit
def _exp_double(a):
    y, n = _expm1_of_rest(tl.minimum(tl.maximum(a, of(-746.0, a)), of(710.0, a)))
    # 2**n need not be a normal number, its two factors are
    half = n >> 1
    scale = _two_to(half)
    return tl.where(a == a, tl.fma(scale, y, scale) * _two_to(n - half), a)


@triton.jit
def sigmoid(a):
    """1 / (1 + exp(-a)); in float32 the exponential is infinite for large -a, and the result 0."""
    return 1.0 / (1.0 + libdevice.exp(-a)) if a.dtype == tl.float32 else _sigmoid_double(a)


@triton.jit
def _sigmoid_double(a):
    small = _exp_double(tl.abs(a) * -1.0)  # at most 1, so that the divisor is at most 2
    return _quotient(tl.where(a < 0, small, 1.0), 1.0 + small)


@triton.jit
def tanh(a):
    """The hyperbolic tangent."""
    return _tanh_single(a) if a.dtype == tl.float32 else _tanh_double(a)


@triton.jit
def _tanh_single(a):
    size = tl.abs(a)
    square = a * a
    near = tl.fma(square * size, _polynomial(square, TANH, 6), size)
    inverse = libdevice.fast_dividef(of(1.0, a), tl.exp2(size * (2 * LOG2_E)) + 1.0)
    far = tl.fma(inverse, of(-2.0, a), of(1.0, a))
    return _with_sign_of(tl.where(size < NEAR, near, far), a, tl.int32)


@triton.jit
def _tanh_double(a):
    size = tl.abs(a)
    # n is 0 until the result is 1/4
    n, integer = _nearest(tl.fma(size, of(2 * LOG2_E, a), of(0.26 - 0.5, a)))
    r = tl.fma(n, of(-LN2 / 2, a), size)
    square = r * r
    d = tl.fma(square, _polynomial(square, R_COTH, 5), of(1.0, a))
    # With d = r coth(r) and u = 2**-n, the result is (d + r - u (d - r)) / (d + r + u (d - r)). Of that 1 - u is taken
    # off, which is exact; the rest is u times a quotient, and so small that its rounding hardly counts.
    u = _two_to(-integer)
    b, q = tl.fma(u, of(0.5, a), of(-0.5, a)), d - r
    y = tl.fma(u, _quotient(tl.fma(b, q, r), tl.fma(b, q, d)), 1.0 - u)
    return _with_sign_of(tl.where(size > 22.0, 1.0, y), a, tl.int64)


@triton.jit
def of(NUMBER: tl.constexpr, like):
    """A number of the other's type."""
    return tl.full([], NUMBER, like.dtype)


@triton.jit
def _polynomial(x, COEFFICIENTS: tl.constexpr, DEGREE: tl.constexpr):
    """The sum of COEFFICIENTS[k] * x**k."""
    y = of(COEFFICIENTS[DEGREE], x)
    for k in tl.static_range(DEGREE - 1, -1, -1):
        y = tl.fma(y, x, of(COEFFICIENTS[k], x))
    return y


@triton.jit
def _nearest(x):
    """The integer nearest to a float64, as one and as an int64 with the same lowest bits."""
    shifted = x + 6755399441055744.0  # 1.5 * 2**52: no bits are left for a fraction
    return shifted - 6755399441055744.0, shifted.to(tl.int64, bitcast=True)


@triton.jit
def _two_to(n):
    """2**n as a float64, for an int64 whose lowest bits are n, if that is a normal number."""
    return ((n << 52) + (1023 << 52)).to(tl.float64, bitcast=True)


@triton.jit
def _expm1_of_rest(x):
    """(y, n): e**x = (1 + y) * 2**n, where 1 + y lies between sqrt(1/2) and sqrt(2)."""
    n, integer = _nearest(x * LOG2_E)
    r = tl.fma(n, of(-LN2_LOW, x), tl.fma(n, of(-LN2_HIGH, x), x))
    return tl.fma(r * r, _polynomial(r, EXP, 9), r), integer


@triton.jit
def _quotient(a, b):
    """a / b of float64s, where b is in the range of float32; without the branch that takes care of all others."""
    first = libdevice.fast_dividef(tl.full([], 1.0, tl.float32), b.to(tl.float32)).to(tl.float64)
    minus = b * -1.0  # a sign beside an operand; -b would be 0 - b, an instruction of its own
    inverse = tl.fma(tl.fma(minus, first, of(1.0, b)), first, first)
    y = a * first
    return tl.fma(tl.fma(minus, y, a), inverse, y)


@triton.jit
def _with_sign_of(y, x, BITS: tl.constexpr):
    """y, which is not negative, with the sign of x; BITS is the integer of their size."""
    sign = x.to(BITS, bitcast=True) & -(1 << (BITS.primitive_bitwidth - 1))
    return (y.to(BITS, bitcast=True) | sign).to(y.dtype, bitcast=True)
