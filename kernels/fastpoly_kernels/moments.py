"""The power sums of samples, in one pass: all that gradient descent on a polynomial wants to know of them."""

from .cache import device, kernel
from .simd import first_lanes, fma, lanes, load, load_first, masked, splat, total
from .tuples import add_powers, splat_each, total_each, zero_each

BLOCK = 512
"""Samples summed in plain additions, 64 to a lane with AVX-512; from block to block the sums are compensated."""


@device
def block_sums(x, y, powers, products, start, stop):
    """Of samples start to stop: the sums of x**k, of y x**k, and of y**2; tuples as long as `powers` and `products`."""
    width = lanes(x)
    rest = (stop - start) % width
    one = splat(1.0, x)
    squares = splat(0.0, x)
    powers, products = zero_each(powers), zero_each(products)
    for i in range(start, stop - rest, width):
        at, value = load(x, i), load(y, i)
        powers = add_powers(powers, one, at)
        products = add_powers(products, value, at)
        squares = fma(value, value, squares)
    if rest:
        mask = first_lanes(x, rest)
        at, value = load_first(x, stop - rest, mask), load_first(y, stop - rest, mask)
        powers = add_powers(powers, masked(mask, one), at)
        products = add_powers(products, value, at)
        squares = fma(value, value, squares)
    return total_each(powers), total_each(products), total(squares)


@kernel
def power_sums(x, y, like_powers, like_products, sums):
    """Add up the samples' powers.

    Within a block of BLOCK samples the lanes are summed plainly and then as a tree; the blocks' sums are added by
    Neumaier's compensated summation. Each sum s of n terms t is off by at most (BLOCK / lanes + log2(lanes) + k + 2)
    eps sum |t|, k roundings of which are the power's own, however large n is.

    Args:
        x, y: contiguous float64 samples.
        like_powers, like_products: tuples of 2 degree + 1 and degree + 1 floats, for their lengths.
        sums: (3 degree + 3, 2) float64, filled with the sums of x**k, of y x**k and of y**2, as (sum, compensation).
    """
    powers, products = splat_each(like_powers, x), splat_each(like_products, x)
    for start in range(0, x.size, BLOCK):
        a, b, c = block_sums(x, y, powers, products, start, min(start + BLOCK, x.size))
        add_compensated(sums, 0, a)
        add_compensated(sums, len(a), b)
        add_compensated(sums, len(a) + len(b), (c,))


@device
def add_compensated(sums, at, values):
    """Add values[k] to row at + k of (sum, compensation), by Neumaier's summation."""
    for k in range(len(values)):
        value, old = values[k], sums[at + k, 0]
        new = old + value
        if abs(old) >= abs(value):
            sums[at + k, 1] += (old - new) + value
        else:
            sums[at + k, 1] += (value - new) + old
        sums[at + k, 0] = new
