"""Kernels of Triton that draw random numbers, to be compiled for a card."""

import triton
import triton.language as tl

from fastpoly_kernels.triton_math import uniform, uniform_double


@triton.jit
def single(out, key, N: tl.constexpr):
    """23 bits in each."""
    i = tl.arange(0, N)
    one = tl.full([], 1.0, tl.float32)
    tl.store(out + i, uniform(key, one, one, one, one, i.to(tl.float32)))


@triton.jit
def double(out, key, N: tl.constexpr):
    """52 bits in each."""
    i = tl.arange(0, N)
    one = tl.full([], 1.0, tl.float64)
    tl.store(out + i, uniform_double(key, one, one, one, one, i.to(tl.float64)))
