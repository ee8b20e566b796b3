"""Functions for Triton kernels that neither Triton nor libdevice has: with torch's answers for NaN, and sigmoid.

All others are libdevice's, NVIDIA's own, which are true to 1 or 2 ulp; Triton's tl.exp and tl.sin of a float32 are the
hardware's approximations.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def maximum(a, b):
    """The larger of two, NaN if one of them is NaN."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    """The smaller of two, NaN if one of them is NaN."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def sigmoid(a):
    """1 / (1 + exp(-a)); for large -a the exponential is infinite and the result 0."""
    return 1.0 / (1.0 + libdevice.exp(-a))
