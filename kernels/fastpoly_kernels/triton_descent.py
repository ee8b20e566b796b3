"""Gradient descent on a polynomial's mean squared error in one GPU kernel: a program runs all steps of one problem.

The method is that of `descent`. The requirements that this file meets:

- A step waits for nothing outside its program. Where the samples fit, they, their powers and the weights stay in
  registers, and one warp does it all: its sums go through 5 rounds of shuffles, all degree + 2 of them side by side.
  More samples take more warps, then a loop over blocks of samples, which a step loads anew.
- Every thread has all weights, so that nothing is handed out after the sums.
- The same samples give the same bits, however a run is cut into launches and whatever else is in the batch: every
  product that is added is an explicit fma, so that a compiler has nothing to contract, and tl.reduce keeps its order.
- Whether a step's mse is finite is noted beside the step; nothing waits for it. A run that leaves the floats therefore
  goes on to the end of its launch, and must be launched again for the steps before.

One kernel is compiled for each degree, dtype and Plan.
"""

import linecache
from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl

REGISTERS = 255
"""That a thread may have: all that there are. Left to itself ptxas kept 8 warps to 128, and spilled at degree 4 in
float64."""

UNROLLED = tl.constexpr(4)
"""Blocks to a turn of the loop over blocks: so many loads are under way at a time."""

TURNS = tl.constexpr(64)
"""Turns whose sums are gathered before they join the step's: in float32 one running sum would be off by n / lanes
roundings, this by UNROLLED * TURNS and n / (lanes * UNROLLED * TURNS)."""


MEETING = 400
"""Cycles that a step takes more in several warps than in one, beside its arithmetic."""


@dataclass(frozen=True)
class Plan:
    """How a program holds its samples.

    Attributes:
        warps: of the program.
        lanes: samples to a block, a power of two: one for each thread, or fewer where there are fewer samples.
        blocks: how many blocks the threads keep in registers; 0: none, they are loaded in every step.
    """

    warps: int
    lanes: int
    blocks: int


def plan(n: int, degree: int, itemsize: int) -> Plan:
    """How to run n samples.

    A sample takes degree + 2 numbers in registers: y, x and its powers. 128 of a thread's 255 registers are theirs; the
    weights, the sums and what the shuffles bring need about as many again at degree 16. Barriers and shared memory,
    which share a step out among all 4 schedulers of a multiprocessor, cost 400 cycles (measured on an H200 at degree 4:
    252 cycles in one warp, 640 in four). Below that one warp is faster: up to as many samples for each thread as take
    MEETING cycles, less the quarter that is left of them with four.
    """
    words = itemsize // 4
    most = 128 // ((degree + 2) * words)
    alone = min(most, MEETING * 4 // 3 // ((2 * degree + 3) * words))  # an instruction of float64 takes two cycles
    for warps, blocks in ((1, alone), (4, min(8, most)), (8, min(8, most))):
        lanes = min(32 * warps, triton.next_power_of_2(n))
        if n <= lanes * blocks:
            return Plan(warps, lanes, -(-n // lanes))
    return Plan(8, 256, 0)


def descend(
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor,
    rates: torch.Tensor,
    steps: int | torch.Tensor,
    every: int,
    wait: int,
    trace: torch.Tensor,
    how: Plan | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take steps of gradient descent for each problem of a batch, in one launch that is not waited for.

    Args:
        x: (n,) for all problems, or (batch, n); float64 or float32: the type that the arithmetic is done in.
        y: (batch, n) of that type. All tensors are contiguous and on one device, which is the current one.
        weights: (batch, degree + 1) of the trace's dtype.
        rates: (batch,), learn_rate * 2 / n, of the arithmetic's type.
        steps: how many to take, at most 2**30; or (batch,) int32, a number for each problem.
        every, wait: record the mse after `wait` steps and then every `every` steps. Let wait >= steps to record none.
        trace: (batch, rows), where to record; it may be some columns of a larger one. Its dtype is what weights and mse
            are stored as: the weights are rounded to it after every step.
        how: the plan, if not `plan(n, degree, itemsize)`.
        out: where the results go, if not to tensors of their own. `weights` must lie elsewhere.

    Returns:
        The weights, (batch, degree + 1), and for each problem the number of steps before the first whose mse is not
        finite in the trace's dtype, (batch,) int32. Where that is fewer than `steps` the weights are of no use, nor is
        the trace from there on: take those that are fewer, from the same start.
    """
    batch, n = y.shape
    degree = weights.shape[1] - 1
    how = how or plan(n, degree, y.element_size())
    end, taken = out or (torch.empty_like(weights), torch.empty(batch, dtype=torch.int32, device=y.device))
    own = isinstance(steps, torch.Tensor)
    _descend[(batch,)](
        x,
        y,
        weights,
        end,
        rates,
        steps if own else taken,
        trace,
        taken,
        n,
        n if x.ndim == 2 else 0,
        0 if own else steps,
        min(every, 2**30),
        min(wait, 2**30),
        trace.stride(0),
        degree,
        how.lanes,
        how.blocks,
        own,
        total(degree + 2),
        num_warps=how.warps,
        maxnreg=REGISTERS,
        num_stages=1,
    )
    return end, taken


@cache
def total(count: int) -> triton.JITFunction:
    """A function of `count` tensors in a tuple: their sums, as a tuple, all in one reduction.

    tl.reduce wants a function of 2 * count arguments, and Triton knows no *args; so it is written for each count, into
    a file that exists in `linecache` only, where Triton and tracebacks look for its source.
    """
    left, right = ([f"{side}{i}" for i in range(count)] for side in "ab")
    source = (
        f"def add_{count}({', '.join(left + right)}):\n"
        f"    return ({' '.join(f'{a} + {b},' for a, b in zip(left, right, strict=True))})\n\n\n"
        f"def total_{count}(values):\n"
        f"    return tl.reduce(values, 0, add_{count})\n"
    )
    name = f"<fastpoly: the sum of {count} tensors>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names = {"__name__": __name__, "tl": tl}
    exec(compile(source, name, "exec"), names)
    names[f"add_{count}"] = triton.jit(names[f"add_{count}"])
    return triton.jit(names[f"total_{count}"])


@triton.jit(
    do_not_specialize=["n", "x_stride", "steps", "every", "wait", "trace_stride"],
    do_not_specialize_on_alignment=["trace_ptr"],  # of a part of a larger trace it is any
)
def _descend(
    x_ptr,
    y_ptr,
    start_ptr,
    end_ptr,
    rate_ptr,
    steps_ptr,
    trace_ptr,
    taken_ptr,
    n,
    x_stride,
    steps,
    every,
    wait,
    trace_stride,
    DEGREE: tl.constexpr,
    LANES: tl.constexpr,
    BLOCKS: tl.constexpr,
    OWN_STEPS: tl.constexpr,
    TOTAL: tl.constexpr,
):
    problem = tl.program_id(0).to(tl.int64)
    x_ptr += problem * x_stride
    y_ptr += problem * n
    start_ptr += problem * (DEGREE + 1)
    end_ptr += problem * (DEGREE + 1)
    trace_ptr += problem * trace_stride
    number = x_ptr.dtype.element_ty
    stored = trace_ptr.dtype.element_ty
    rate = -tl.load(rate_ptr + problem)
    inverse = (1.0 / n.to(tl.float64)).to(number)
    if OWN_STEPS:
        steps = tl.load(steps_ptr + problem)

    weights = ()
    for k in tl.static_range(DEGREE + 1):
        weights = weights + (tl.load(start_ptr + k).to(number),)
    samples = ()
    for block in tl.static_range(BLOCKS):
        samples = samples + (_samples(x_ptr, y_ptr, block * LANES, n, block < BLOCKS - 1, DEGREE, LANES),)

    row = 0
    taken = 0
    due = wait
    for step in range(steps):
        sums = _zeros(DEGREE + 2, number, LANES)
        for block in tl.static_range(BLOCKS):
            sums = _added(sums, weights, samples[block], DEGREE)
        if BLOCKS == 0:
            sums = _from_memory(x_ptr, y_ptr, n.to(tl.int64), weights, sums, DEGREE, LANES)
        sums = TOTAL(sums)
        mse = (sums[DEGREE + 1] * inverse).to(stored)
        tl.store(trace_ptr + row, mse, mask=step == due)
        row = tl.where(step == due, row + 1, row)
        due = tl.where(step == due, due + every, due)
        taken = tl.where((mse < float("inf")) & (taken == step), taken + 1, taken)
        changed = ()
        for k in tl.static_range(DEGREE + 1):
            changed = changed + (tl.fma(rate, sums[k], weights[k]).to(stored).to(number),)
        weights = changed

    for k in tl.static_range(DEGREE + 1):
        tl.store(end_ptr + k, weights[k].to(stored))
    tl.store(taken_ptr + problem, taken)


@triton.jit
def _samples(x_ptr, y_ptr, start, n, WHOLE: tl.constexpr, DEGREE: tl.constexpr, LANES: tl.constexpr):
    """A block of samples as (y, x**0, x**1, ...). Beyond n all of them are 0, so that the residual is 0 there."""
    i = start + tl.arange(0, LANES)
    if WHOLE:
        x = tl.load(x_ptr + i)
        y = tl.load(y_ptr + i)
        one = tl.full([LANES], 1.0, x.dtype)
    else:
        x = tl.load(x_ptr + i, mask=i < n, other=0.0)
        y = tl.load(y_ptr + i, mask=i < n, other=0.0)
        one = (i < n).to(x.dtype)
    block = (y, one)
    if DEGREE > 0:
        block = block + (x,)
    for k in tl.static_range(2, DEGREE + 1):
        block = block + (block[1 + k // 2] * block[1 + k - k // 2],)
    return block


@triton.jit
def _added(sums, weights, block, DEGREE: tl.constexpr):
    """sums + (r x**0, r x**1, ..., r**2), with r = p(x) - y."""
    r = _residual(weights, block, DEGREE)
    result = ()
    for k in tl.static_range(DEGREE + 1):
        result = result + (tl.fma(r, block[1 + k], sums[k]),)
    return result + (tl.fma(r, r, sums[DEGREE + 1]),)


@triton.jit
def _residual(weights, block, DEGREE: tl.constexpr):
    """p(x) - y by Estrin's scheme: as many instructions as Horner's rule, and log2(degree) + 1 of them deep."""
    r = tl.fma(weights[0], block[1], -block[0])
    if DEGREE > 0:
        terms = weights[1:]
        for level in tl.static_range(9):  # enough for degree 512
            if len(terms) > 1:
                joined = ()
                for k in tl.static_range(0, len(terms) - 1, 2):
                    joined = joined + (tl.fma(terms[k + 1], block[1 + 2**level], terms[k]),)
                if len(terms) % 2 == 1:
                    joined = joined + (terms[len(terms) - 1],)
                terms = joined
        r = tl.fma(terms[0], block[2], r)
    return r


@triton.jit
def _from_memory(x_ptr, y_ptr, n, weights, sums, DEGREE: tl.constexpr, LANES: tl.constexpr):
    """The sums over all samples, which are loaded block by block."""
    for start in range(0, n, LANES * UNROLLED * TURNS):
        part = _zeros(DEGREE + 2, sums[0].dtype, LANES)
        for turn in range(start, min(start + LANES * UNROLLED * TURNS, n), LANES * UNROLLED):
            for block in tl.static_range(UNROLLED):
                samples = _samples(x_ptr, y_ptr, turn + block * LANES, n, False, DEGREE, LANES)
                part = _added(part, weights, samples, DEGREE)
        joined = ()
        for k in tl.static_range(DEGREE + 2):
            joined = joined + (sums[k] + part[k],)
        sums = joined
    return sums


@triton.jit
def _zeros(COUNT: tl.constexpr, number: tl.constexpr, LANES: tl.constexpr):
    zeros = ()
    for _ in tl.static_range(COUNT):
        zeros = zeros + (tl.full([LANES], 0.0, number),)
    return zeros
