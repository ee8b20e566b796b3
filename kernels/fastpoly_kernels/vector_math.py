"""The elementary functions of `formulas` for numba kernels, of `simd.Vector`s or of scalar floats of one type."""

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import intrinsic

from fastpoly_kernels import emitter
from fastpoly_kernels.emitter import Number
from fastpoly_kernels.formulas import FORMULAS
from fastpoly_kernels.simd import Vector


def for_numba(formula: Callable[..., Number]) -> Any:
    """Make a formula over Numbers a function for numba kernels, of Vectors or scalars of one type."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emitter.function(formula, builder, arguments)

    def typed(x: types.Type) -> bool:
        return getattr(x, "dtype", x) in (types.float32, types.float64) and isinstance(x, Vector | types.Float)

    if formula.__code__.co_argcount == 1:

        def declare(typing: Any, x: types.Type) -> Any:
            return (x(x), emit) if typed(x) else None
    else:

        def declare(typing: Any, x: types.Type, y: types.Type) -> Any:
            return (x(x, y), emit) if typed(x) and x == y else None

    declare.__name__ = declare.__qualname__ = formula.__name__
    declare.__doc__, declare.__module__ = formula.__doc__, formula.__module__
    return intrinsic(declare)


exp = for_numba(FORMULAS["exp"])
expm1 = for_numba(FORMULAS["expm1"])
tanh = for_numba(FORMULAS["tanh"])
sigmoid = for_numba(FORMULAS["sigmoid"])
log = for_numba(FORMULAS["log"])
log1p = for_numba(FORMULAS["log1p"])
sin = for_numba(FORMULAS["sin"])
cos = for_numba(FORMULAS["cos"])
tan = for_numba(FORMULAS["tan"])
erf = for_numba(FORMULAS["erf"])
sqrt = for_numba(FORMULAS["sqrt"])
pow = for_numba(FORMULAS["pow"])  # noqa: A001 (the C library's name)
fmod = for_numba(FORMULAS["fmod"])
asin = for_numba(FORMULAS["asin"])
acos = for_numba(FORMULAS["acos"])
atan = for_numba(FORMULAS["atan"])
sinh = for_numba(FORMULAS["sinh"])
cosh = for_numba(FORMULAS["cosh"])
asinh = for_numba(FORMULAS["asinh"])
acosh = for_numba(FORMULAS["acosh"])
atanh = for_numba(FORMULAS["atanh"])
log2 = for_numba(FORMULAS["log2"])
log10 = for_numba(FORMULAS["log10"])
exp2 = for_numba(FORMULAS["exp2"])
erfc = for_numba(FORMULAS["erfc"])
lgamma = for_numba(FORMULAS["lgamma"])
