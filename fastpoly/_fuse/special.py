"""Special functions that torch has and no C library: formulas of elements that every target evaluates as they stand.

They are those of torch's kernels, mostly of the Cephes library, where their roundings count: what torch has to eight
digits, as trigamma, is the same here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .expressions import Expr, call, compare, logical, where

# -- modified Bessel functions
# ---------------------------------------------------------------------------------------------

# fmt: off
I0_NEAR = (
    0.33839763720473803, -0.3046826723431984, 0.17162090152220877, -0.09490109704804764,
    0.04930528423967071, -0.02373741480589947, 0.010546460394594998, -0.004324309995050576,
    0.0016394756169413357, -0.0005763755745385824, 0.00018850288509584165, -5.754195010082104e-05,
    1.6448448070728896e-05, -4.4167383584587505e-06, 1.1173875391201037e-06, -2.670793853940612e-07,
    6.046995022541919e-08, -1.300025009986248e-08, 2.6598237246823866e-09, -5.189795601635263e-10,
    9.675809035373237e-11, -1.726826291441556e-11, 2.95505266312964e-12, -4.856446783111929e-13,
    7.676185498604936e-14, -1.1685332877993451e-14, 1.715391285555133e-15, -2.431279846547955e-16,
    3.3307945188222384e-17, -4.4153416464793395e-18,
)
"""Chebyshev's series of e**-x I0(x) for x up to 8, in x / 4 - 1."""

I0_FAR = (
    0.4022452055070544, 0.0033691164782556943, 6.889758346916825e-05, 2.8913705208347567e-06,
    2.0489185894690638e-07, 2.266668990498178e-08, 3.3962320257083865e-09, 4.94060238822497e-10,
    1.1889147107846439e-11, -3.1499165279632416e-11, -1.3215811840447713e-11, -1.7941785315068062e-12,
    7.180124451383666e-13, 3.8527783827421426e-13, 1.54008621752141e-14, -4.150569347287222e-14,
    -9.554846698828307e-15, 3.8116806693526224e-15, 1.7725601330565263e-15, -3.425485619677219e-16,
    -2.8276239805165836e-16, 3.461222867697461e-17, 4.46562142029676e-17, -4.830504485944182e-18,
    -7.233180487874754e-18,
)
"""Chebyshev's series of e**-x I0(x) sqrt(x) from there on, in 16 / x - 1."""

I1_NEAR = (
    0.12629359322181682, -0.17641651835783406, 0.1026436586898471, -0.05294598120809499,
    0.024726449030626516, -0.010564084894626197, 0.004156422944312888, -0.0015135724506312532,
    0.0005122859561685758, -0.00016176081582589674, 4.781565107550054e-05, -1.3273163656039436e-05,
    3.4702513081376785e-06, -8.568720264695455e-07, 2.0032947535521353e-07, -4.445059128796328e-08,
    9.381537386495773e-09, -1.8872497517228294e-09, 3.625590281552117e-10, -6.663489723502027e-11,
    1.1736186298890901e-11, -1.9839743977649436e-12, 3.223793365945575e-13, -5.042185504727912e-14,
    7.600684294735408e-15, -1.1055969477353862e-15, 1.5536319577362005e-16, -2.111421214358166e-17,
    2.7779141127610464e-18,
)
"""Chebyshev's series of e**-x I1(x) / x for x up to 8, in x / 4 - 1."""

I1_FAR = (
    0.38928811750914005, -0.009761097491361469, -0.00011058893876262371, -3.882564808877691e-06,
    -2.512236237870209e-07, -2.6314688468895196e-08, -3.835380385964237e-09, -5.589743462196584e-10,
    -1.8974958123505413e-11, 3.2526035830154884e-11, 1.4125807436613782e-11, 2.0356285441470896e-12,
    -7.198551776245908e-13, -4.0835511110921974e-13, -2.1015418427726643e-14, 4.272440016711951e-14,
    1.0420276984128802e-14, -3.8144030724370075e-15, -1.8803547755107825e-15, 3.3082023109209285e-16,
    2.96262899764595e-16, -3.209525921993424e-17, -4.6503053684893586e-17, 4.414348323071708e-18,
    7.517296310842105e-18,
)
"""Chebyshev's series of e**-x I1(x) sqrt(x) from there on, in 16 / x - 1."""
# fmt: on


def _series(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The sum of coefficients[k] * T_k(x), by Clenshaw's recurrence."""
    one, two = Expr.of(0.0), Expr.of(0.0)
    for c in coefficients[:0:-1]:
        one, two = 2 * x * one - two + c, one
    return x * one - two + coefficients[0]


def _bessel(near: Sequence[float], far: Sequence[float], size: Expr) -> tuple[Expr, Expr]:
    """Both series, each where it holds; elsewhere of an argument that it takes."""
    far_from = call("maximum", size, 8.0)
    return _series(call("minimum", size, 8.0) / 4 - 1, near), _series(16 / far_from - 1, far) / call("sqrt", far_from)


def i0e(x: Expr) -> Expr:
    """I0(x) * e**-|x|."""
    size = call("absolute", x)
    near, far = _bessel(I0_NEAR, I0_FAR, size)
    return where(compare("gt", size, 8.0), far, near)


def i0(x: Expr) -> Expr:
    """The modified Bessel function of order 0."""
    return call("exp", call("absolute", x)) * i0e(x)


def i1e(x: Expr) -> Expr:
    """I1(x) * e**-|x|."""
    size = call("absolute", x)
    near, far = _bessel(I1_NEAR, I1_FAR, size)
    return where(compare("gt", size, 8.0), where(compare("lt", x, 0), -far, far), near * x)


def i1(x: Expr) -> Expr:
    """The modified Bessel function of order 1."""
    return call("exp", call("absolute", x)) * i1e(x)


# -- the gamma function's logarithmic derivative
# ---------------------------------------------------------------------------

DIGAMMA = (
    8.33333333333333333333e-2,
    -8.33333333333333333333e-3,
    3.96825396825396825397e-3,
    -4.16666666666666666667e-3,
    7.57575757575757575758e-3,
    -2.10927960927960927961e-2,
    8.33333333333333333333e-2,
)
"""Of the asymptotic series in 1 / x**2."""


def digamma(x: Expr) -> Expr:
    """The derivative of lgamma; below 0 by reflection, up to 10 by recurrence."""
    is_left = compare("lt", x, 0)
    y = where(is_left, 1 - x, x)
    total = Expr.of(0.0)
    for _ in range(10):
        is_small = compare("lt", y, 10.0)
        total = total - where(is_small, 1 / y, 0.0)
        y = where(is_small, y + 1, y)
    z = 1 / (y * y)
    series = Expr.of(DIGAMMA[-1])
    for c in DIGAMMA[-2::-1]:
        series = series * z + c
    right = total + call("log", y) - 0.5 / y - z * series
    rest = x - call("trunc", x)
    left = right - math.pi / call("tan", math.pi * rest)
    at_pole = where(compare("eq", x, 0), call("copysign", math.inf, -x), math.nan)
    is_pole = compare("le", x, 0).as_float() * compare("eq", rest, 0).as_float()
    return where(is_pole, at_pole, where(is_left, left, right))


# -- Hurwitz's zeta function
# ---------------------------------------------------------------------------------------------

ZETA = (
    12.0,
    -720.0,
    30240.0,
    -1209600.0,
    47900160.0,
    -1.8924375803183791606e9,
    7.47242496e10,
    -2.950130727918164224e12,
    1.1646782814350067249e14,
    -4.5979787224074726105e15,
    1.8152105401943546773e17,
    -7.1661652561756670113e18,
)
"""(2 k)! / B_2k, of Euler and Maclaurin's sum."""

TERMS = 9
"""As many are added up before that sum takes the others."""


def _others(x: Expr, w: Expr, power: Expr) -> Expr:
    """The sum of (w + k) ** -x over k = 0, 1, ...; of w from TERMS - 1 on, and w ** (1 - x)."""
    inverse = 1 / w
    last = power * inverse
    parts = [power / (x - 1), 0.5 * last]
    for k, divisor in enumerate(ZETA):
        last = last * ((x + 2 * k) * inverse)
        parts.append(last / divisor)
        last = last * ((x + 2 * k + 1) * inverse)
    total = parts.pop()
    for part in parts[::-1]:  # the small ones first
        total = total + part
    return total


def _halves(x: Expr, q: Expr, count: Expr | None = None) -> tuple[Expr, Expr]:
    """The sum of (q + k) ** -x over the first k, TERMS or (q from 1 on) one less, and over the others, for q > 0.

    Args:
        count: how many of the first ones to take, if there are so many; all of them without.

    What rounding q + k loses, (q + k) ** -x would lose x times. So each is a power of `base` times
    (1 + k / base) ** -x, which counts the less the more a rounding in it does.
    """
    is_small = compare("lt", q, 1)
    base = where(is_small, q + 1, q)  # q ** -x need not be a finite number
    power = call("pow", base, 1 - x)
    total = Expr.of(0.0)
    for k in range(TERMS - 2, -1, -1):
        term = call("exp", -(x * call("log1p", k / base))) if k else Expr.of(1.0)
        total = total + (term if count is None else where(compare("gt", count, k + 1), term, 0.0))
    first = where(is_small, call("pow", q, -x), 0.0) + power / base * total
    far = power * call("exp", -((x - 1) * call("log1p", (TERMS - 1) / base)))
    return first, _others(x, base + (TERMS - 1), far)


def zeta(x: Any, q: Any) -> Expr:
    """The sum of (q + k) ** -x over k = 0, 1, ..., for x > 1; for q < 0 of whole x alone.

    For q < 0 there are two sums: of what is above 0, and of (-k - q) ** -x below it, with the sign of (-1) ** x.
    """
    x, q = Expr.of(x).as_float(), Expr.of(q).as_float()
    whole, half = call("floor", q), x * 0.5
    is_left = compare("lt", q, 0)
    first, others = _halves(x, where(is_left, q - whole, q))
    first_below, others_below = _halves(x, call("ceil", q) - q, -whole)
    beyond = _others(x, 1 - q, call("pow", 1 - q, 1 - x))
    others_below = where(compare("lt", whole, -TERMS), others_below - beyond, 0.0)
    is_odd = compare("ne", call("floor", half), half)
    left = (first + where(is_odd, -first_below, first_below)) + (others + where(is_odd, -others_below, others_below))
    left = where(compare("eq", call("floor", x), x), left, math.nan)
    right = where(compare("lt", q, math.inf), first + others, math.nan)  # what torch's kernel gives at both infinities
    at_end = where(compare("lt", q, 1), math.inf, where(compare("eq", q, 1), 1.0, math.nan))
    value = where(compare("eq", x, math.inf), at_end, where(is_left, left, right))
    is_pole = logical("and", compare("le", q, 0), compare("eq", q, whole))
    value = where(is_pole, math.inf, value)
    return where(compare("eq", x, 1), math.inf, where(compare("lt", x, 1), math.nan, value))


# -- inverses of the error function and of the normal distribution
# ----------------------------------------------------------

ERFINV_NEAR = (
    (0.886226899, -1.645349621, 0.914624893, -0.140543331),
    (1.0, -2.118377725, 1.442710462, -0.329097515, 0.012229801),
)
ERFINV_FAR = ((-1.970840454, -1.624906493, 3.429567803, 1.641345311), (1.0, 3.543889200, 1.637067800))


def _ratio(x: Expr, coefficients: tuple[Sequence[float], Sequence[float]]) -> Expr:
    above, below = (_polynomial(x, part) for part in coefficients)
    return above / below


def _polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The sum of coefficients[k] * x**k."""
    result = Expr.of(coefficients[-1])
    for c in coefficients[-2::-1]:
        result = result * x + c
    return result


def erfinv(y: Expr) -> Expr:
    """Of which y is the error function: a quotient of polynomials, and two steps of Newton's."""
    size = call("absolute", y)
    near = y * _ratio(y * y, ERFINV_NEAR)
    far = _ratio(call("sqrt", -call("log", (1 - size) / 2)), ERFINV_FAR)
    x = where(compare("le", size, 0.7), near, where(compare("lt", y, 0), -far, far))
    for _ in range(2):
        x = x - (call("erf", x) - y) / (2 / math.sqrt(math.pi) * call("exp", -(x * x)))
    at_end = where(compare("eq", size, 1.0), call("copysign", math.inf, y), math.nan)
    return where(compare("lt", size, 1.0), x, at_end)


NDTRI_NEAR = (
    (
        2.506628277459239, -30.66479806614716, 138.3577518672690, -275.9285104469687, 220.9460984245205,
        -39.69683028665376,
    ),
    (1.0, -13.28068155288572, 66.80131188771972, -155.6989798598866, 161.5858368580409, -54.47609879822406),
)  # fmt: skip
NDTRI_FAR = (
    (
        2.938163982698783, 4.374664141464968, -2.549732539343734, -2.400758277161838, -3.223964580411365e-1,
        -7.784894002430293e-3,
    ),
    (1.0, 3.754408661907416, 2.445134137142996, 3.224671290700398e-1, 7.784695709041462e-3),
)  # fmt: skip
"""Acklam's quotients, for the middle in (p - 1/2)**2 and for the left end in sqrt(-2 log p): nine digits."""


def ndtri(p: Expr) -> Expr:
    """Where the normal distribution is p; the right half mirrored, and a step of Newton's on log p."""
    is_right = compare("gt", p, 0.5)
    q = where(is_right, 1 - p, p)
    off = q - 0.5
    far = _ratio(call("sqrt", -2 * call("log", q)), NDTRI_FAR)
    x = where(compare("lt", q, 0.02425), far, off * _ratio(off * off, NDTRI_NEAR))
    scaled = call("erfcx", x * -math.sqrt(0.5))  # twice the distribution's value times e**(x * x / 2)
    x = x + (call("log", 2 * q / scaled) + 0.5 * x * x) * scaled * math.sqrt(math.pi / 2)
    x = where(is_right, -x, x)
    at_end = where(compare("eq", p, 0), -math.inf, where(compare("eq", p, 1), math.inf, math.nan))
    return where(compare("gt", p, 0), where(compare("lt", p, 1), x, at_end), at_end)


SPECIAL: dict[str, Callable[..., Expr]] = {
    "i0": i0,
    "special_i0e": i0e,
    "special_i1": i1,
    "special_i1e": i1e,
    "digamma": digamma,
    "erfinv": erfinv,
    "special_ndtri": ndtri,
    "special_zeta": zeta,
}
"""By ATen's name."""
