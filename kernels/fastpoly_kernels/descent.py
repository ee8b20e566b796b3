"""Gradient descent on a polynomial's mean squared error: the whole training run in one compiled call.

The method is the post's (section "Wrapped up in one function"): with r = y - p(x), step t records mse_t = mean(r**2)
and then sets w_k += learn_rate * (2/n) * sum_i r_i x_i**k. Everything of a step happens in one pass over the samples: r
stays in a register, and the degree + 2 sums (of r**2 and of r x**k) are accumulated in registers beside it.
"""

from .emitter import DOUBLE, fma
from .kernel import device, kernel
from .tuples import add_each, add_powers, horner, round_each
from .vectors import first_lanes, load, load_first, masked, splat, total

BLOCK = 16_384
"""Samples summed in registers before their sums join the step's: a power of two, so whole Vectors.

One running sum over n samples is off by up to n/lanes roundings, in float32 visible from about a million samples on. In
blocks it is BLOCK/lanes + n/BLOCK. Larger blocks do not run faster.
"""


@device
def residual_sums(x, y, weights, start, stop):
    """For samples start to stop, with r = y - p(x): the sums of r x**k for each k, and the sum of r**2."""
    rest = (stop - start) % x.lanes
    vectors = [splat(weight, x) for weight in weights]
    squares, sums = splat(0, x), [splat(0, x) for _ in weights]
    for i in range(start, stop - rest, x.lanes):
        at = load(x, i)
        r = load(y, i) - horner(vectors, at)
        squares = fma(r, r, squares)
        sums = add_powers(sums, r, at)
    if rest > 0:
        mask = first_lanes(x, rest)
        at = load_first(x, stop - rest, mask)
        r = masked(mask, load_first(y, stop - rest, mask) - horner(vectors, at))
        squares = fma(r, r, squares)
        sums = add_powers(sums, r, at)
    return [total(lanes) for lanes in sums], total(squares)


@kernel("weights", "steps")
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
    row = 0
    for step in range(steps):
        sums, squares = residual_sums(x, y, weights, 0, x.size.at_most(BLOCK))
        for start in range(BLOCK, x.size, BLOCK):
            block_sums, block_squares = residual_sums(x, y, weights, start, x.size.at_most(start + BLOCK))
            sums = add_each(sums, block_sums)
            squares += block_squares
        mse = (squares.to(DOUBLE) / x.size.to(DOUBLE)).to(trace.format)
        if ~mse.is_finite:
            return weights, step
        if wait == 0:
            trace[row] = mse
            row += 1
            wait = every
        wait -= 1
        moved = [fma(rate, slope, weight) for slope, weight in zip(sums, weights, strict=True)]
        weights = round_each(moved, trace.format)
    return weights, steps
