"""The power sums of samples, in one pass: all that gradient descent on a polynomial wants to know of them."""

from .emitter import fma
from .kernel import device, kernel
from .tuples import add_powers
from .vectors import first_lanes, load, load_first, masked, splat, total

BLOCK = 512
"""Samples summed in plain additions, 64 to a lane with AVX-512; from block to block the sums are compensated."""


def mapped(at, interval, x):
    """In the variable that is -1 to 1 on the interval, rounded as `fastpoly._domain.mapped` rounds; itself without."""
    if not interval:
        return at
    lower, upper = (splat(end, x) for end in interval)
    return ((at - lower) - (upper - at)) / (upper - lower)


@device
def block_sums(x, y, interval, degree, start, stop):
    """Of samples start to stop: the sums of x**k for k to 2 degree, of y x**k for k to degree, and of y**2."""
    rest = (stop - start) % x.lanes
    one, squares = splat(1.0, x), splat(0.0, x)
    powers, products = [squares] * (2 * degree + 1), [squares] * (degree + 1)
    for i in range(start, stop - rest, x.lanes):
        at, value = mapped(load(x, i), interval, x), load(y, i)
        powers = add_powers(powers, one, at)
        products = add_powers(products, value, at)
        squares = fma(value, value, squares)
    if rest > 0:
        mask = first_lanes(x, rest)
        at, value = load_first(x, stop - rest, mask), load_first(y, stop - rest, mask)
        at = masked(mask, mapped(at, interval, x))
        powers = add_powers(powers, masked(mask, one), at)
        products = add_powers(products, value, at)
        squares = fma(value, value, squares)
    return [total(sums) for sums in (*powers, *products, squares)]


@kernel()
def power_sums(x, y, sums):
    """Add up the samples' powers.

    Within a block of BLOCK samples the lanes are summed plainly and then as a tree; the blocks' sums are added by
    Neumaier's compensated summation. Each sum s of n terms t is off by at most (BLOCK / lanes + log2(lanes) + k + 2)
    eps sum |t|, k roundings of which are the power's own, however large n is.

    Args:
        x, y: contiguous float64 samples.
        sums: (2, 3 degree + 3) float64, filled with the sums of x**k, of y x**k and of y**2, and their compensations.
    """
    add_sums(x, y, (), sums)


@kernel()
def mapped_power_sums(x, y, interval, sums):
    """As `power_sums`, of samples in the variable that is -1 to 1 on an interval: they are mapped in registers.

    Args:
        interval: its ends, two floats, the lower first.
    """
    add_sums(x, y, interval, sums)


@device
def add_sums(x, y, interval, sums):
    """Block by block."""
    degree = sums.columns // 3 - 1
    for start in range(0, x.size, BLOCK):
        block = block_sums(x, y, interval, degree, start, x.size.at_most(start + BLOCK))
        for k in range(len(block)):
            add_compensated(sums, k, block[k])


def add_compensated(sums, k, value):
    """Add a value to the sum sums[0, k], and what is rounded away to sums[1, k]: Neumaier's summation."""
    old = sums[0, k]
    new = old + value
    lost = (abs(old) >= abs(value)).where((old - new) + value, (value - new) + old)
    sums[0, k], sums[1, k] = new, sums[1, k] + lost
