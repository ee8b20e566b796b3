"""Gradient descent from the moments of the samples: a small matrix recurrence, whatever the number of samples.

With H = V^T V and h = V^T y, V the matrix of powers, the sum of squared residuals is y.y + w.(H w - 2 h) and a step is
w += rate (h - H w): (degree + 1)**2 multiplications, and none of them knows how many samples there were.

Where the residuals are small beside y (an offset, a good fit), y.y and w.(H w - 2 h) cancel, and with them their
digits. With R and z from the triangle of a QR decomposition of [V | y], and rho in its corner, the sum of squares is
rho**2 + |z - R w|**2 and a step w += rate R^T (z - R w): each entry of z - R w is off by roundings of its own terms, as
a residual is in the loop over the samples, and nothing cancels after it.

Tables are (degree + 1, degree + 2) float64: a constant, then a row of the matrix. See `affine_each` and `quadratic`.
"""

from .kernel import kernel
from .tuples import add_each, affine_each, constants, dot, quadratic, round_each
from .vectors import load, splat, store


@kernel("weights", "steps", bool)
def descend_moments(change, square, inverse_rate, inverse_n, least, weights, steps, every, wait, trace):
    """Take `steps` steps from `weights`, one after the other.

    Args:
        change: the table of a step: what it adds to w, d = rate (h - H w).
        square: rate y.y. The sum of squared residuals times rate is rate y.y - w.(rate h + d), which takes degree + 1
            multiplications where the quadratic form takes their square.
        inverse_rate, inverse_n: 1 / rate and 1 / n. One after the other, so that the mse overflows where the loop's
            does, when the sum of squares leaves float64.
        least: a sum of squares below which too many of its digits have cancelled.
        weights: a tuple of degree + 1 floats.
        steps, every, wait, trace: as in `descent.descend`.

    Returns:
        As `descent.descend`, and whether it stopped at a sum of squares below `least`: `descend_triangle` goes on.
    """
    offsets = constants(change, weights)
    row = 0
    for step in range(steps):
        difference = affine_each(change, weights)
        squares = (square - dot(weights, add_each(offsets, difference))).at_least(0.0) * inverse_rate
        mse = (squares * inverse_n).to(trace.format)
        if (squares < least) | ~mse.is_finite:  # one branch for both: this runs once a step
            return weights, step, squares < least
        if wait == 0:
            trace[row] = mse
            row += 1
            wait = every
        wait -= 1
        weights = round_each(add_each(weights, difference), trace.format)
    return weights, steps, False


@kernel("weights", "steps")
def descend_triangle(
    change, square, inverse_rate, inverse_n, least, residual, back, rest, weights, steps, every, wait, trace
):
    """As `descend_moments`, but for steps whose sum of squares is below `least`: these are taken by the triangle.

    Which of both takes a step depends on the weights before it alone, so that a run may be cut anywhere.

    Args:
        residual, back: the tables of z - R w, and of rate R^T as what it is applied to.
        rest: rho**2.
        others: as for `descend_moments`.

    Returns:
        As `descent.descend`.
    """
    offsets = constants(change, weights)
    row = 0
    for step in range(steps):
        difference = affine_each(change, weights)
        squares = (square - dot(weights, add_each(offsets, difference))).at_least(0.0) * inverse_rate
        if squares < least:
            outside = affine_each(residual, weights)
            squares = rest + dot(outside, outside)
            difference = affine_each(back, outside)
        mse = (squares * inverse_n).to(trace.format)
        if ~mse.is_finite:
            return weights, step
        if wait == 0:
            trace[row] = mse
            row += 1
            wait = every
        wait -= 1
        weights = round_each(add_each(weights, difference), trace.format)
    return weights, steps


@kernel()
def descend_abreast(change, error, square, scale, state, trace):
    """Record as many mse values as `trace` has, `lanes` at a time, for descent that converges.

    The lanes of the state are the weights of `lanes` recorded steps, one after the other, and `change` takes each of
    them `lanes` recorded steps on: nothing waits for anything.

    Args:
        change: the table of `lanes * every` steps.
        error: the table of w.(H w - 2 h), by its upper triangle.
        square, scale: mse = (square + w.(H w - 2 h)) * scale.
        state: (degree + 1, lanes) float64; left as the weights of the recorded steps that come next.
        trace: (m * lanes,) float64.
    """
    weights = [load(state, (k, 0)) for k in range(change.columns - 1)]
    squares, scales = splat(square, state), splat(scale, state)
    for row in range(0, trace.size, trace.lanes):
        store(trace, row, (squares + quadratic(error, weights)).at_least(0.0) * scales)
        weights = add_each(weights, affine_each(change, weights))
    for k in range(len(weights)):
        store(state, (k, 0), weights[k])
