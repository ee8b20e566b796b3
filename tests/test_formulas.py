"""The elementary functions for kernels: every one within 2 ulp of the exact result, everywhere, however compiled."""

import ctypes
import functools
import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
from llvmlite import ir

from fastpoly_kernels import emitter, machine_code, stage
from fastpoly_kernels.formulas import formula
from fastpoly_kernels.functions import FUNCTIONS as TABLE
from fastpoly_kernels.vectors import first_lanes, load, load_first, store

LIMIT = 2.0
"""Largest error, in gaps between floats at the exact result."""

FUNCTIONS = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "erfcx": lambda x: erfcx(x),
}


def erfcx(x):
    """e**(x**2) * erfc(x), by a continued fraction where erfc is too small: 60 levels, true to 2**-130."""
    if x < -30:
        return mpmath.inf
    if x < 20:
        with mpmath.workprec(1500):
            return mpmath.exp(x * x) * mpmath.erfc(x)
    rest = mpmath.mpf(0)
    for k in range(60, 0, -1):
        rest = mpmath.mpf(k) / 2 / (x + rest)
    return 1 / ((x + rest) * mpmath.sqrt(mpmath.pi))


BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
CONTRACT = pytest.mark.parametrize("contract", [False, True], ids=["exact", "contract"])
ALL = pytest.mark.parametrize("name", FUNCTIONS)


@functools.cache
def compiled(name, contract, dtype):
    """A function of arrays and their lengths: of operands, and of the two results, by vectors and by scalars."""
    count = TABLE[name].operands

    def function(*operands):
        return emitter.called(name, formula(name), *operands)

    def both(x, y, by_vector, by_scalar):
        rest = x.size % x.lanes
        for i in range(0, x.size - rest, x.lanes):
            store(by_vector, i, function(*[load(operand, i) for operand in (x, y)[:count]]))
        mask = first_lanes(x, rest)
        last = x.size - rest
        store(by_vector, last, function(*[load_first(operand, last, mask) for operand in (x, y)[:count]]))
        for i in range(x.size):
            by_scalar[i] = function(*[operand[i] for operand in (x, y)[:count]])

    symbol = f"{name}_{contract}_{np.dtype(dtype).char}"
    module = stage.staged(both, (("array", np.dtype(dtype).char, ()),) * 4, symbol)
    if contract:
        text = re.sub(r" = (fadd|fsub|fmul|fdiv|fneg) ", r" = \1 contract ", str(module))
        module = llvm.parse_assembly(text)
        assert "contract" in str(module)
    code = machine_code.target(3).emit_object(machine_code.optimised(module, symbol))
    linked = machine_code.Linked(symbol, code)
    function_of_addresses = linked.function(None, *[ctypes.c_void_p, ctypes.c_int64] * 4, ctypes.c_void_p)
    function_of_addresses.linked = linked
    return function_of_addresses


def applied(name, x, contract=False, y=None):
    """What `name` makes of x, or of x and y: by vectors, by scalars."""
    by_vector, by_scalar = np.empty(x.size + 64, x.dtype), np.empty_like(x)
    arrays = [x, x if y is None else y, by_vector, by_scalar]
    compiled(name, contract, x.dtype.type)(*(part for a in arrays for part in (a.ctypes.data, a.size)), None)
    return by_vector[: x.size], by_scalar


# -- where to look
# ---------------------------------------------------------------------------------------------------------


def turns(name, dtype):
    """Where a formula turns into another one, or its result into zero, one or infinity."""
    single = dtype == np.float32
    steps = (np.arange(-40, 40) + 0.5) * math.log(2)  # where exp rounds to the next power of two
    exponents = 2.0 ** np.arange(-30, 31)
    if name in ("sin", "cos", "tan"):
        rng = np.random.default_rng(1)
        edge = 2.0**15 if single else 2.0**30
        quarters = np.concatenate([np.arange(64), rng.integers(0, int(2 * edge / math.pi), 500)])
        return np.concatenate([quarters * (math.pi / 4), quarters * (math.pi / 2), edge * exponents])
    if name in ("log", "log1p"):
        edges = np.array([1e-37, 1.1754944e-38, 1e38] if single else [1e-307, 2.2250738585072014e-308, 1e308])
        return np.concatenate([exponents, exponents * 0.5**0.5, exponents - 1, exponents * 0.5**0.5 - 1, edges])
    if name == "tanh":  # the next multiple of ln(2) / 2, and results whose gaps are the smallest of their size
        starts = (np.arange(1, 60) - 0.26) * (math.log(2) / 2)
        return np.concatenate([starts, np.arctanh(exponents[exponents < 1]), [9.0, 10.0, 19.0, 20.0, 40.0]])
    ends = {
        "exp": [-104.0, -103.3, -87.3, 88.7, 89.0] if single else [-746.0, -745.1, -708.4, 709.78, 710.0],
        "expm1": [-20.0, -17.0, 88.7, 89.0] if single else [-40.0, -37.0, 709.78, 710.0],
        "sigmoid": [-104.0, -87.3, -16.6, 16.6, 20.0] if single else [-746.0, -708.4, -36.7, 36.7, 40.0],
        "erfcx": [-9.38, -1.0, 3.0, 1e6, 1e12] if single else [-26.6, -1.0, 4.0, 1e9, 1e20],
        "erf": [1.0, 3.9, 4.0] if single else [1.0, 5.9, 6.0],
    }
    return np.concatenate([steps, steps / 2, ends[name]])


def neighbours(values, dtype):
    """Each of `values`, and floats just beside it and near it."""
    values = values.astype(dtype)
    above, below = np.nextafter(values, dtype(np.inf)), np.nextafter(values, dtype(-np.inf))
    around = np.multiply.outer(values, 1 + np.array([-1e-2, -1e-4, 1e-4, 1e-2])).astype(dtype)
    return np.concatenate([values, above, below, around.ravel()])


def points(name, dtype):
    """Arguments of all sizes, denormal ones too, dense near 0 and near the turns, in no order; none is special."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    sizes = 2.0 ** rng.uniform(math.log2(float(info.smallest_subnormal)), math.log2(float(info.max)), 600)
    x = np.concatenate([
        neighbours(turns(name, dtype), dtype),
        *(rng.uniform(-size, size, 400).astype(dtype) for size in (0.5, 1, 2, 8, 100, 750)),
        (sizes * rng.choice([-1, 1], sizes.size)).astype(dtype),
    ])  # fmt: skip
    x = x[x != 0]
    if name == "log":
        x = np.abs(x)
    if name == "log1p":
        x = np.where(x <= -1, -x, x)
    return rng.permutation(x)


@functools.cache
def reference(name, dtype):
    """Points, the results rounded to dtype, and what rounding left, in gaps between floats."""
    x = points(name, dtype)
    with mpmath.workprec(120):
        exact = [FUNCTIONS[name](mpmath.mpf(value)) for value in x.tolist()]
        with np.errstate(over="ignore"):
            rounded = np.array([float(value) for value in exact]).astype(dtype)
        gaps = np.where(np.isfinite(rounded), np.spacing(np.abs(np.nan_to_num(rounded, posinf=0))), 1)
        left = [
            float((value - mpmath.mpf(near)) / mpmath.mpf(gap)) if math.isfinite(near) else 0.0
            for value, near, gap in zip(exact, rounded.tolist(), gaps.tolist(), strict=True)
        ]
    return x, rounded, gaps, np.array(left)


def errors(got, rounded, gaps, left):
    """How far `got` is from the exact results, in gaps between floats; one infinite and one not is infinitely far."""
    finite = np.isfinite(rounded) & np.isfinite(got)
    difference = np.subtract(got, rounded, where=finite, out=np.zeros_like(got)) / gaps
    return np.where(finite, np.abs(difference - left), np.where(got == rounded, 0, np.inf))


# -- what holds
# ------------------------------------------------------------------------------------------------------------


@ALL
@BOTH
@CONTRACT
def test_every_result_is_within_two_ulp_of_the_exact_one(name, dtype, contract):
    x, *truth = reference(name, dtype)
    error = errors(applied(name, x, contract)[0], *truth)
    worst = int(np.argmax(error))
    assert error[worst] <= LIMIT, f"{name}({x[worst]!r}) is {error[worst]:.2f} ulp off"


@ALL
@BOTH
@CONTRACT
def test_scalars_and_vectors_give_the_same_bits(name, dtype, contract):
    by_vector, by_scalar = applied(name, points(name, dtype), contract)
    np.testing.assert_array_equal(by_vector.view(f"u{by_vector.itemsize}"), by_scalar.view(f"u{by_scalar.itemsize}"))


INFINITY, NAN = math.inf, math.nan
SPECIAL = {
    "exp": [(-INFINITY, 0.0), (INFINITY, INFINITY), (-0.0, 1.0), (0.0, 1.0), (1e4, INFINITY), (-1e4, 0.0)],
    "expm1": [(-INFINITY, -1.0), (INFINITY, INFINITY), (-0.0, -0.0), (0.0, 0.0), (1e4, INFINITY), (-1e4, -1.0)],
    "log": [(-INFINITY, NAN), (INFINITY, INFINITY), (-0.0, -INFINITY), (0.0, -INFINITY), (1.0, 0.0), (-1e-40, NAN)],
    "log1p": [(-INFINITY, NAN), (INFINITY, INFINITY), (-0.0, -0.0), (0.0, 0.0), (-1.0, -INFINITY), (-1.5, NAN)],
    "sin": [(-INFINITY, NAN), (INFINITY, NAN), (-0.0, -0.0), (0.0, 0.0)],
    "cos": [(-INFINITY, NAN), (INFINITY, NAN), (-0.0, 1.0), (0.0, 1.0)],
    "tan": [(-INFINITY, NAN), (INFINITY, NAN), (-0.0, -0.0), (0.0, 0.0)],
    "tanh": [(-INFINITY, -1.0), (INFINITY, 1.0), (-0.0, -0.0), (0.0, 0.0), (1e4, 1.0), (-1e4, -1.0)],
    "sigmoid": [(-INFINITY, 0.0), (INFINITY, 1.0), (-0.0, 0.5), (0.0, 0.5), (1e4, 1.0), (-1e4, 0.0)],
    "erfcx": [(-INFINITY, INFINITY), (INFINITY, 0.0), (-0.0, 1.0), (0.0, 1.0), (-1e4, INFINITY)],
    "erf": [(-INFINITY, -1.0), (INFINITY, 1.0), (-0.0, -0.0), (0.0, 0.0), (1e4, 1.0), (-1e4, -1.0)],
}


@ALL
@BOTH
@CONTRACT
def test_special_values_are_those_of_c99(name, dtype, contract):
    for value, expected in [*SPECIAL[name], (NAN, NAN)]:
        for got in applied(name, np.array([value], dtype), contract):
            np.testing.assert_array_equal(got, dtype(expected), err_msg=f"{name}({value})")
            assert math.isnan(expected) or np.signbit(got[0]) == np.signbit(expected), f"sign of {name}({value})"


@BOTH
def test_one_lane_of_any_size_leaves_the_others_alone(dtype):
    near = np.linspace(-3, 3, 64).astype(dtype)
    for name in ("sin", "cos", "tan"):
        far = near.copy()
        far[5] = dtype(1e30)
        np.testing.assert_array_equal(np.delete(applied(name, far)[0], 5), np.delete(applied(name, near)[0], 5))


@BOTH
def test_square_roots_are_rounded_correctly(dtype):
    x = np.concatenate([points("log", dtype), np.array([0.0, -0.0, np.inf, np.nan], dtype)])
    for got in applied("sqrt", x):
        np.testing.assert_array_equal(got, np.sqrt(x))


# What the C library gives: math calls the same functions in float64.
FROM_C = {
    "asin": math.asin, "acos": math.acos, "atan": math.atan, "sinh": math.sinh, "cosh": math.cosh,
    "asinh": math.asinh, "acosh": lambda x: math.acosh(x) if x >= 1 else math.nan, "atanh": math.atanh,
    "log2": math.log2, "log10": math.log10, "exp2": lambda x: 2.0**x, "erfc": math.erfc, "lgamma": math.lgamma,
}  # fmt: skip


@pytest.mark.parametrize("name", FROM_C)
@BOTH
def test_functions_of_the_c_library_are_what_it_gives(name, dtype):
    x = np.linspace(0.01, 0.99, 37).astype(dtype) + dtype(name == "acosh")
    expected = np.array([FROM_C[name](value) for value in x.tolist()]).astype(dtype)
    for got in applied(name, x):
        np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@BOTH
def test_powers_are_right_in_the_special_cases_too(dtype):
    values = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0, 1e30, 1e-30, 2.5, -2.5, np.inf, -np.inf, np.nan, -7.0]
    x, y = (side.ravel() for side in np.meshgrid(np.array(values, dtype), np.array(values, dtype)))
    by_vector, by_scalar = applied("pow", x, y=y)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(by_vector, np.power(x, y), rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(by_vector, by_scalar)


def test_a_formula_is_written_once_in_a_module():
    double = ir.DoubleType()
    module = ir.Module()
    caller = ir.Function(module, ir.FunctionType(double, [double]), "caller")
    builder = ir.IRBuilder(caller.append_basic_block())
    value = emitter.Number(builder, caller.args[0])
    for _ in range(50):
        value = emitter.called("twice", twice, value)
    builder.ret(value.value)
    assert [function.name for function in module.functions] == ["caller", "fastpoly.twice.f64"]


def twice(x):
    return x + x


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="every other CPU has FMA")
def test_cpus_without_fma_get_right_results():
    script = """
import math, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_formulas import applied
x = np.random.default_rng(0).uniform(-30, 30, 999)
for name in ("sin", "tan", "exp", "tanh"):
    expected = np.array([getattr(math, name)(value) for value in x.tolist()])
    np.testing.assert_allclose(applied(name, x)[0], expected, rtol=4 * 2.0**-53 * 2, atol=0, err_msg=name)
"""
    old = dict(os.environ, FASTPOLY_CPU="nehalem", FASTPOLY_CPU_FEATURES="+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2")
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script, here], env=old, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
