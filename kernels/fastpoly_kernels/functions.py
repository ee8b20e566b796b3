"""The elementary functions of numbers: a row for each, with what every target makes of it.

Whoever emits LLVM, runs a page of Python or writes one of Triton, and whoever asks what a function costs, reads this
table. A new function is a row, and a formula in `formulas` if no processor has an instruction for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FORMULA = "formula"
"""By the function of its name in `formulas`, which emits LLVM for one lane or many."""

LIBRARY = "library"
"""By the C library, called for each lane: right, but slow."""

OWN = "own"
"""By the function of its name in `triton_math`."""


@dataclass(frozen=True)
class Function:
    """What there is to know of a function.

    Attributes:
        llvm: FORMULA, LIBRARY, or the name of LLVM's intrinsic.
        numpy: a function of one number, or an array, for each operand: it gives the same, in the operands' dtype.
        triton: OWN, or what Triton calls it, with its module.
        cost: about how many additions take as long.
        operands: how many.
    """

    llvm: str
    numpy: Callable[..., Any]
    triton: str
    cost: int = 20
    operands: int = 1


def one_by_one(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A function of one number as one of arrays; where it has no value, infinity, or NaN of NaN."""

    def of_one(number: float) -> float:
        try:
            return function(number)
        except (ValueError, OverflowError):
            return math.inf if number == number else math.nan

    def of_all(numbers: Any) -> Any:
        return np.vectorize(of_one, otypes=[float])(numbers).astype(np.asarray(numbers).dtype)[()]

    return of_all


def _sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def _rounded(a: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.asarray(a, np.float32).astype(np.asarray(a).dtype)[()]


def _erfcx(x: float) -> float:
    """e**(x**2) * erfc(x)."""
    if x > 25:  # erfc has few digits left; the asymptotic series has 2**-56 of the result after 9 terms
        term = total = 1.0
        for k in range(1, 9):
            term *= -(2 * k - 1) / (2 * x * x)
            total += term
        return total / (x * math.sqrt(math.pi))
    high = float(np.float32(x))  # whose square is exact; e**(x**2) would lose the digits that rounding x**2 does
    return math.exp(high * high) * math.exp((x - high) * (x + high)) * math.erfc(x)


ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
ROUNDS = 20
WORD = 22
"""Bits of a whole number that every float holds, with the two that `formulas.in_low_bits` needs."""


def threefry(key: tuple[Any, Any], count: tuple[Any, Any]) -> tuple[Any, Any]:
    """Threefry-2x32 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011), of uint32.

    A counter-based generator: what it draws is a function of a key and of a counter alone, so that nothing has to be
    kept between draws, and those of a step can be computed in any order, on any target, in any number of threads.
    """
    keys = (*key, key[0] ^ key[1] ^ np.uint32(PARITY))
    x, y = count[0] + keys[0], count[1] + keys[1]
    for number in range(ROUNDS):
        x = x + y
        left = ROTATIONS[number % 8]
        y = (y << np.uint32(left) | y >> np.uint32(32 - left)) ^ x
        if number % 4 == 3:
            turn = number // 4 + 1
            x, y = x + keys[turn % 3], y + keys[(turn + 1) % 3] + np.uint32(turn)
    return x, y


def _drawn(key_low: Any, key_high: Any, site: Any, low: Any, high: Any, place: Any) -> tuple[Any, Any]:
    """Two words of 32 random bits. All arguments are whole numbers of up to WORD bits, and `low` of 20."""
    words = (
        np.asarray(one).astype(np.uint32).reshape(np.shape(one) or 1)
        for one in (key_low, key_high, site, low, high, place)
    )
    key_low, key_high, site, low, high, place = words
    key = key_low | site << np.uint32(WORD), key_high | site >> np.uint32(10) << np.uint32(WORD)
    return threefry(key, (place | high >> np.uint32(12) << np.uint32(WORD), low | high << np.uint32(20)))


def _like(result: Any, arguments: tuple[Any, ...]) -> Any:
    shape = np.broadcast_shapes(*map(np.shape, arguments))
    return result.reshape(shape).astype(np.asarray(arguments[-1]).dtype)[()]


def _uniform(*arguments: Any) -> Any:
    return _like((_drawn(*arguments)[0] >> np.uint32(9)) * 2.0**-23, arguments)


def _uniform_double(*arguments: Any) -> Any:
    x, y = (word.astype(np.uint64) for word in _drawn(*arguments))
    return _like((x << np.uint64(20) | y >> np.uint64(12)) * 2.0**-52, arguments)


FUNCTIONS: dict[str, Function] = {
    # instructions
    "absolute": Function("fabs", np.absolute, "tl.abs", 1),
    "floor": Function("floor", np.floor, "libdevice.floor"),
    "ceil": Function("ceil", np.ceil, "libdevice.ceil"),
    "trunc": Function("trunc", np.trunc, "libdevice.trunc"),
    "nearest": Function("roundeven", np.rint, "libdevice.rint"),
    "maximum": Function("maximum", np.maximum, OWN, 1, 2),
    "minimum": Function("minimum", np.minimum, OWN, 1, 2),
    "copysign": Function("copysign", np.copysign, "libdevice.copysign", 1, 2),
    "sqrt": Function(FORMULA, np.sqrt, "libdevice.sqrt", 1),
    "rounded": Function(FORMULA, _rounded, OWN, 1),
    # formulas
    "exp": Function(FORMULA, np.exp, OWN),
    "expm1": Function(FORMULA, np.expm1, "libdevice.expm1"),
    "log": Function(FORMULA, np.log, "libdevice.log"),
    "log1p": Function(FORMULA, np.log1p, "libdevice.log1p"),
    "sin": Function(FORMULA, np.sin, "libdevice.sin"),
    "cos": Function(FORMULA, np.cos, "libdevice.cos"),
    "tan": Function(FORMULA, np.tan, "libdevice.tan"),
    "tanh": Function(FORMULA, np.tanh, OWN),
    "sigmoid": Function(FORMULA, _sigmoid, OWN),
    "erf": Function(FORMULA, one_by_one(math.erf), "libdevice.erf"),
    "erfcx": Function(FORMULA, one_by_one(_erfcx), "libdevice.erfcx"),
    # random numbers from 0 up to 1, with the digits of a float32 (on every target, in either width) and of a float64
    "uniform": Function(FORMULA, _uniform, OWN, 110, 6),
    "uniform_double": Function(FORMULA, _uniform_double, OWN, 130, 6),
    # the C library's
    "exp2": Function(LIBRARY, np.exp2, "libdevice.exp2"),
    "log2": Function(LIBRARY, np.log2, "libdevice.log2"),
    "log10": Function(LIBRARY, np.log10, "libdevice.log10"),
    "asin": Function(LIBRARY, np.arcsin, "libdevice.asin"),
    "acos": Function(LIBRARY, np.arccos, "libdevice.acos"),
    "atan": Function(LIBRARY, np.arctan, "libdevice.atan"),
    "sinh": Function(LIBRARY, np.sinh, "libdevice.sinh"),
    "cosh": Function(LIBRARY, np.cosh, "libdevice.cosh"),
    "asinh": Function(LIBRARY, np.arcsinh, "libdevice.asinh"),
    "acosh": Function(LIBRARY, np.arccosh, "libdevice.acosh"),
    "atanh": Function(LIBRARY, np.arctanh, "libdevice.atanh"),
    "erfc": Function(LIBRARY, one_by_one(math.erfc), "libdevice.erfc"),
    "lgamma": Function(LIBRARY, one_by_one(math.lgamma), "libdevice.lgamma"),
    "pow": Function(LIBRARY, np.power, "libdevice.pow", operands=2),
    "atan2": Function(LIBRARY, np.arctan2, "libdevice.atan2", operands=2),
    "fmod": Function(LIBRARY, np.fmod, "libdevice.fmod", operands=2),
}
"""By the name that kernels have for it."""


def is_called(name: str) -> bool:
    """Is it an elementary function that is called, or written out, where others are one instruction?"""
    return name in FUNCTIONS and FUNCTIONS[name].llvm in (FORMULA, LIBRARY)
