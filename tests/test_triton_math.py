"""Functions for Triton kernels: interpreted, they are true to 2 ulp; compiled, they have no branch.

The interpreter rounds as the GPU does but for three things: its fma rounds twice, and the hardware's exponential and
reciprocal of a float32, which numpy stands in for, are off by up to 2**-22.5 and 2**-23.5.
"""

import math
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from machine_code_gpu import ARCHITECTURES, machine_code, opcodes

from fastpoly_kernels import triton_math

FUNCTIONS = ("tanh", "exp", "sigmoid")
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.1, -1.1, 22.0, 22.5, 100.0, -100.0, 710.5, -746.5, 1e300, -1e300]


@triton.jit
def applied(x_ptr, y_ptr, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + i, FUNCTION(tl.load(x_ptr + i)))


def values(name, x):
    """In the process of the fixture `interpreted`: the function of an array whose size is a power of 2."""
    import interpreted_gpu  # noqa: F401  (numpy in place of libdevice)

    x = torch.from_numpy(x)
    y = torch.empty_like(x)
    with np.errstate(all="ignore"):
        applied[(1,)](x, y, getattr(triton_math, name), x.numel())
    return y.numpy()


EXACT = SimpleNamespace(tanh=mpmath.tanh, exp=mpmath.exp, sigmoid=lambda x: 1 / (1 + mpmath.exp(-x)))
IN_DOUBLE = SimpleNamespace(tanh=np.tanh, exp=np.exp, sigmoid=lambda x: 1 / (1 + np.exp(-x)))


def special(dtype):
    info = np.finfo(dtype)
    with np.errstate(over="ignore"):
        return np.array([*SPECIAL, info.tiny, -info.tiny, 3 * info.smallest_subnormal, info.eps, info.max], dtype)


def padded(x, count):
    return np.concatenate([x, np.zeros(count - len(x), x.dtype)])


def off(got, want):
    """How far the values are off, in ulp of the exact results (as float64, or rests of those taken beside)."""
    return np.abs(got - want) / np.spacing(np.abs(want))


def test_tanh_of_single_in_a_dense_sweep(interpreted):
    """1,900 floats of every octave from 2**-64 to 2**4, of both signs by turns; then the special ones."""
    size = np.exp2(np.linspace(-64, 4, 2**17 - 32)) * np.tile([1, -1], 2**16 - 16)
    x = np.concatenate([size.astype(np.float32), padded(special(np.float32), 32)])
    got = interpreted(values, "tanh", x)
    want = np.tanh(x.astype(float))
    known = np.isfinite(want) & (want != 0)
    gaps = np.spacing(np.abs(want[known]).astype(np.float32)).astype(float)
    assert (np.abs(got[known] - want[known]) / gaps).max() < 2  # 1.85; with an fma that rounds once 1.65
    assert np.isnan(got[~known]).tolist() == np.isnan(want[~known]).tolist()
    assert np.signbit(got).tolist() == np.signbit(x).tolist()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_double_to_2_ulp(interpreted, name):
    rng = np.random.default_rng(0)
    sizes = np.exp2(rng.uniform(-60, 9.5, 1900)) * rng.choice([-1, 1], 1900)
    x = padded(np.concatenate([special(np.float64), sizes, rng.uniform(-2, 2, 100)]), 2048)
    got = interpreted(values, name, x)
    with mpmath.workprec(200):
        for at, value in zip(x, got, strict=True):
            if math.isnan(at):
                assert math.isnan(value)
                continue
            exact = getattr(EXACT, name)(mpmath.mpf(float(at)))
            if math.isinf(float(exact)) or exact == 0:
                assert value == float(exact), at
                assert math.copysign(1, value) == math.copysign(1, at) or name != "tanh"
                continue
            error = abs(mpmath.mpf(float(value)) - exact) / np.spacing(abs(float(exact)))
            assert error < 2, (at, value)


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[pytest.mark.slow] * (arch == 80)) for arch in ARCHITECTURES]
)
@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_branch(name, dtype, arch):
    constants = {"FUNCTION": getattr(triton_math, name), "BLOCK": 32}
    used = opcodes(
        machine_code(applied, dict.fromkeys(("x_ptr", "y_ptr"), f"*{dtype}"), constants, arch=arch).instructions
    )
    assert used["BRA"] == 1  # to itself, beyond the end
    assert not {"BSSY", "BSYNC", "CALL", "RET"} & set(used)
