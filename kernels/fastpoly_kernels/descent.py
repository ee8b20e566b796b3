"""Gradient descent on a polynomial's mean squared error: the whole training run in one compiled call.

The method is the post's (section "Wrapped up in one function"): with r = y - p(x), step t records mse_t = mean(r**2)
and then sets w_k += learn_rate * (2/n) * sum_i r_i x_i**k. Everything of a step happens in one pass over the samples: r
stays in a register, and the degree + 2 sums (of r**2 and of r x**k) are accumulated in registers beside it.
"""

import math

from .cache import device, kernel
from .simd import first_lanes, fma, lanes, load, load_first, masked, splat, total
from .tuples import add_each, add_powers, descend_each, horner, splat_each, total_each, zero_each

BLOCK = 16_384
"""Samples summed in registers before their sums join the step's: a power of two, so whole Vectors.

One running sum over n samples is off by up to n/lanes roundings, in float32 visible from about a million samples on. In
blocks it is BLOCK/lanes + n/BLOCK. Larger blocks do not run faster.
"""


@device
def residual_sums(x, y, vectors, start, stop):
    """For samples start to stop, with r = y - p(x): the sums of r x**k for each k, and the sum of r**2."""
    width = lanes(x)
    rest = (stop - start) % width
    sums = zero_each(vectors)
    squares = splat(x.dtype.type(0), x)
    for i in range(start, stop - rest, width):
        at = load(x, i)
        r = load(y, i) - horner(vectors, at)
        squares = fma(r, r, squares)
        sums = add_powers(sums, r, at)
    if rest:
        mask = first_lanes(x, rest)
        at = load_first(x, stop - rest, mask)
        r = masked(mask, load_first(y, stop - rest, mask) - horner(vectors, at))
        squares = fma(r, r, squares)
        sums = add_powers(sums, r, at)
    return total_each(sums), total(squares)


@kernel
def descend(x, y, weights, rate, steps, every, wait, trace):
    """Take `steps` steps of gradient descent from `weights`.

    Args:
        x, y: the samples, contiguous, n of float64 or float32: the type that the arithmetic is done in.
        weights: a tuple of degree + 1 numbers of that type. One kernel is compiled for each length.
        rate: learn_rate * 2 / n in that type.
        steps: how many steps to take.
        every, wait: record the mse after `wait` steps and then every `every` steps. Let wait >= steps to record none.
        trace: where to record, with room for all that is due. Its dtype is what weights and mse are stored as: the
            weights are rounded to it after every step.

    Returns:
        The weights, and the number of steps taken: `steps`, or fewer when the mse left the range of the trace's dtype.
        Then the weights are those that have this mse, and the step is neither recorded nor taken.
    """
    n = x.size
    stored = trace.dtype.type
    row = 0
    for step in range(steps):
        vectors = splat_each(weights, x)
        sums, squares = residual_sums(x, y, vectors, 0, min(BLOCK, n))
        for start in range(BLOCK, n, BLOCK):
            block_sums, block_squares = residual_sums(x, y, vectors, start, min(start + BLOCK, n))
            sums = add_each(sums, block_sums)
            squares += block_squares
        mse = stored(squares / n)
        if not math.isfinite(mse):
            return weights, step
        if wait == 0:
            trace[row] = mse
            row += 1
            wait = every
        wait -= 1
        weights = descend_each(weights, rate, sums, trace)
    return weights, steps
