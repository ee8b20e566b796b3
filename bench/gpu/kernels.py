"""The kernel of the post's loop alone, between two events; and what the card can do: its fma peak, measured."""

import torch
import triton
import triton.language as tl

from fastpoly._post import STEPS as ALL
from fastpoly._post import samples
from fastpoly_kernels import triton_descent

from . import card

STEPS = card.full(ALL, 3)
DTYPES = {"single": torch.float32, "double": torch.float64}
FMAS, LANES = 32, 1024
"""In a turn of the loop, one after the other; numbers to a program: 8 to each of 128 threads, whose fmas overlap."""


def units():
    return {
        **{f"the post's loop {precision}": lambda p=precision: alone(p) for precision in DTYPES},
        **{f"fma peak {precision}": lambda p=precision: peak(p) for precision in DTYPES},
    }


def alone(precision):
    dtype = DTYPES[precision]
    x, y = (torch.tensor(v.ravel(), dtype=dtype).cuda() for v in samples())
    weights, rates = torch.zeros(1, 5, dtype=dtype).cuda(), torch.tensor([2e-7], dtype=dtype).cuda()
    trace = torch.empty(1, STEPS, dtype=dtype).cuda()
    seconds = card.kernel_seconds(lambda: triton_descent.descend(x, y[None], weights, rates, STEPS, 1, 0, trace))
    mhz = card.clock()
    cycles = seconds / STEPS * mhz * 1e6 if mhz else None
    yield {"kind": "kernel", "precision": precision, "value": seconds * ALL / STEPS, "cycles": cycles, "mhz": mhz}


@triton.jit
def _fmas(numbers, factors, turns, fmas: tl.constexpr, lanes: tl.constexpr):
    at = tl.program_id(0) * lanes + tl.arange(0, lanes)
    value, factor, term = tl.load(numbers + at), tl.load(factors), tl.load(factors + 1)
    for _ in range(turns):
        for _ in tl.static_range(fmas):
            value = tl.fma(value, factor, term)
    tl.store(numbers + at, value)


def peak(precision):
    dtype = DTYPES[precision]
    count = card.full(lambda: torch.cuda.get_device_properties(0).multi_processor_count * 64, lambda: 2)()
    turns = card.full(2000, 2)
    numbers, factors = torch.ones(count * LANES, dtype=dtype).cuda(), torch.tensor([0.5, 0.25], dtype=dtype).cuda()
    seconds = card.kernel_seconds(lambda: _fmas[(count,)](numbers, factors, turns, FMAS, LANES, num_warps=4))
    assert abs(float(numbers[0]) - 0.5) < 1e-6, "the fmas did not converge"  # x = x / 2 + 1 / 4
    yield {"kind": "peak", "precision": precision, "value": count * LANES * turns * FMAS / seconds}
