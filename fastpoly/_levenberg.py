"""A step of Levenberg and Marquardt's method, as a function of tensors that can be traced.

Damping as K. Madsen, H. B. Nielsen and O. Tingleff, Methods for Non-Linear Least Squares Problems, 2nd edition (2004),
algorithm 3.16 (Nielsen's rule); parameters scaled by the largest norms that the columns of the Jacobian have had, as J. J.
Moré, The Levenberg-Marquardt algorithm (1978), so that no unit matters. Bounds by projection: a parameter that lies on
a bound and would leave is held there for the step, and what the step takes onto a bound is held there while the others
are solved for again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Scalars = list[torch.Tensor]

RUNS, FTOL, XTOL, BOTH, GTOL, STALLED, NO_JACOBIAN, NOT_FINITE = map(float, (0, 1, 2, 3, 4, 5, 6, 7))
"""How a problem stands: 1 to 4 as MINPACK counts its successes."""

FIRST_DAMPING = 1e-3
"""Of the scaled normal equations, whose diagonal is 1."""

MOST_DAMPING = 1e30


@dataclass(frozen=True)
class Tolerances:
    """See `scipy.optimize.curve_fit`'s of the same names."""

    ftol: float
    xtol: float
    gtol: float


def begin(params: torch.Tensor) -> Scalars:
    """What a problem carries beside its params (p,): see `step`."""
    p, zero = len(params), params.new_zeros(())
    triangle = p * (p + 1) // 2
    big = params.new_full((), torch.finfo(params.dtype).max)
    return [
        params.clone(),
        big,  # the sum of squares
        params.new_zeros((p,)),  # the gradient's half, J' r
        params.new_zeros((triangle,)),  # J' J, row by row up to the diagonal
        params.new_zeros((p,)),  # scales
        params.new_full((), FIRST_DAMPING),
        params.new_full((), 2.0),  # how fast damping grows
        zero,  # evaluations
        zero,  # was the last step a small one?
        zero,  # how it stands
    ]


def step(
    state: Sequence[torch.Tensor],
    sums: Callable[[torch.Tensor], tuple[torch.Tensor, Scalars, list[Scalars], torch.Tensor]],
    tolerances: Tolerances,
    lower: torch.Tensor | None,
    upper: torch.Tensor | None,
) -> list[torch.Tensor]:
    """The state after another evaluation.

    Args:
        state: of `begin`.
        sums: of params (p,): the sum of squares, J' r, J' J (its rows up to the diagonal), and whether J is finite.
        lower, upper: (p,), or None.
    """
    params, squares, gradient, normal, scales, damping, growth, count, calm, end = state
    p = len(params)
    runs = end == RUNS
    is_first = count == 0
    g, a = list(gradient), _rows(normal, p)
    x, d = list(params), [torch.where(scale > 0, scale, 1.0) for scale in scales]
    low = None if lower is None else list(lower)
    high = None if upper is None else list(upper)
    delta = _solved(x, g, a, d, damping, low, high)
    delta = [torch.where(is_first, 0.0, one) for one in delta]
    there = [one + by for one, by in zip(x, delta, strict=True)]
    if low is not None and high is not None:
        there = [one.clamp(lo, hi) for one, lo, hi in zip(there, low, high, strict=True)]
        delta = [new - old for new, old in zip(there, x, strict=True)]
    new_squares, new_g, new_a, has_jacobian = sums(torch.stack(there))
    finite = new_squares.isfinite()
    # what the linear model promised: F is half the sum of squares everywhere
    slope = _sum([one * by for one, by in zip(g, delta, strict=True)])
    curve = _sum([by * _sum([_at(a, i, j) * delta[j] for j in range(p)]) for i, by in enumerate(delta)])
    promised = -2 * slope - curve
    gained = squares - new_squares
    better = finite & ((gained > 0) | is_first)
    rho = torch.where(promised > 0, gained / promised, 0.0)
    shrink = (1 - (2 * rho - 1) ** 3).clamp(1 / 3, 1.0)
    new_damping = torch.where(better, torch.where(is_first, damping, damping * shrink), damping * growth)
    new_growth = torch.where(better, 2.0, growth * 2)
    # is it there? By what a step without damping would gain and how far it would go, in units of the scales
    free = _free(x, g, low, high)
    scaled = [[a[i][j] / (d[i] * d[j]) for j in range(i + 1)] for i in range(p)]
    right = [-one / by for one, by in zip(g, d, strict=True)]
    newton = _damped(scaled, right, params.new_zeros(()), free if low is not None else None)
    open_gain = _sum([one * by for one, by in zip(right, newton, strict=True)])
    length = _sum([one**2 for one in newton]).sqrt()
    norm = _sum([(one * by) ** 2 for one, by in zip(d, x, strict=True)]).sqrt()
    rounding = torch.finfo(params.dtype).eps * squares
    ftol = tolerances.ftol * squares + 4 * rounding
    known = finite & ~is_first
    gains_little = known & (gained.abs() <= ftol) & (open_gain <= ftol)
    goes_little = known & (length <= tolerances.xtol * norm)
    # nothing can be gained any more: what is left to gain is less than what the sum of squares is rounded by
    lost = known & ~better & (open_gain <= 64 * rounding) & (gained >= -64 * rounding)
    twice = (calm > 0) | ~better
    flat, short = lost | (gains_little & twice), goes_little & twice
    after = [torch.where(better, new, old) for new, old in zip(there, x, strict=True)]
    new_scales = [
        torch.where(better, torch.maximum(scale, _at(new_a, i, i).sqrt()), scale) for i, scale in enumerate(scales)
    ]
    kept_squares = torch.where(better, new_squares, squares)
    kept_g = [torch.where(better, new, old) for new, old in zip(new_g, g, strict=True)]
    kept_a = [[torch.where(better, new, old) for new, old in zip(*rows, strict=True)] for rows in zip(new_a, a, strict=True)]
    free = _free(after, kept_g, low, high)
    cosine = params.new_zeros(())
    root = kept_squares.sqrt()
    for i in range(p):
        column = kept_a[i][i].sqrt()
        own = torch.where((column > 0) & (root > 0), kept_g[i].abs() / (column * root), 0.0)
        cosine = torch.maximum(cosine, torch.where(free[i], own, 0.0))
    level = cosine <= tolerances.gtol
    exact = kept_squares == 0
    new_end = torch.where(new_damping > MOST_DAMPING, STALLED, RUNS)
    new_end = torch.where(flat & short, BOTH, torch.where(flat, FTOL, torch.where(short, XTOL, new_end)))
    new_end = torch.where((better | is_first) & (level | exact), GTOL, new_end)
    new_end = torch.where(better & ~has_jacobian, NO_JACOBIAN, new_end)
    new_end = torch.where(is_first & ~finite, NOT_FINITE, new_end)
    new = [
        torch.stack(after),
        kept_squares,
        torch.stack(kept_g),
        torch.stack([one for row in kept_a for one in row]),
        torch.stack(new_scales),
        new_damping,
        new_growth,
        count + 1,
        (gains_little | goes_little).to(params.dtype),
        new_end,
    ]
    return [torch.where(runs, one, old).to(old.dtype) for one, old in zip(new, state, strict=True)]


def _solved(
    x: Scalars, g: Scalars, a: list[Scalars], d: Scalars, damping: torch.Tensor, low: Scalars | None, high: Scalars | None
) -> Scalars:
    """The step that the damped normal equations want, within the bounds."""
    p = len(x)
    # scaled: the diagonal is 1 where the norms of the columns are the largest so far
    scaled = [[a[i][j] / (d[i] * d[j]) for j in range(i + 1)] for i in range(p)]
    right = [-one / by for one, by in zip(g, d, strict=True)]
    free = _free(x, g, low, high)
    found = _damped(scaled, right, damping, free if low is not None else None)
    delta = [one / by for one, by in zip(found, d, strict=True)]
    if low is None or high is None:
        return delta
    for _ in range(2):
        held = [(one + by < lo) | (one + by > hi) for one, by, lo, hi in zip(x, delta, low, high, strict=True)]
        fixed = [
            torch.where(is_held, (one + by).clamp(lo, hi) - one, 0.0) * scale
            for is_held, one, by, lo, hi, scale in zip(held, x, delta, low, high, d, strict=True)
        ]
        free = [one & ~other for one, other in zip(free, held, strict=True)]
        rest = [
            one - _sum([_at(scaled, i, j) * fixed[j] for j in range(p)]) for i, one in enumerate(right)
        ]
        again = _damped(scaled, rest, damping, free)
        delta = [
            torch.where(is_free, new, torch.where(is_held, by, old * scale)) / scale
            for is_free, is_held, new, by, old, scale in zip(free, held, again, fixed, delta, d, strict=True)
        ]
    return delta


def _free(x: Scalars, g: Scalars, low: Scalars | None, high: Scalars | None) -> Scalars:
    """Which parameters may move: those that do not lie on a bound that the gradient pushes them against."""
    if low is None or high is None:
        return [torch.ones_like(one, dtype=torch.bool) for one in x]
    return [
        ~(((one <= lo) & (by >= 0)) | ((one >= hi) & (by <= 0)))
        for one, by, lo, hi in zip(x, g, low, high, strict=True)
    ]


def _damped(a: list[Scalars], right: Scalars, damping: torch.Tensor, free: Scalars | None) -> Scalars:
    """The solution of (a + damping) x = right by Cholesky's factors, 0 for what is not free."""
    p = len(right)
    factor: list[Scalars] = []
    for i in range(p):
        row: Scalars = []
        for j in range(i + 1):
            value = a[i][j] + damping if i == j else a[i][j]
            if free is not None:
                value = torch.where(free[i], value, 1.0) if i == j else torch.where(free[i] & free[j], value, 0.0)
            for k in range(j):
                value = value - row[k] * (factor[j][k] if j < i else row[k])
            # what rounding leaves of a pivot is not below the damping
            row.append(value / factor[j][j] if j < i else value.clamp(min=torch.finfo(value.dtype).eps).sqrt())
        factor.append(row)
    found: Scalars = []
    for i in range(p):
        value = right[i] if free is None else torch.where(free[i], right[i], 0.0)
        for k in range(i):
            value = value - factor[i][k] * found[k]
        found.append(value / factor[i][i])
    for i in reversed(range(p)):
        value = found[i]
        for k in range(i + 1, p):
            value = value - factor[k][i] * found[k]
        found[i] = value / factor[i][i]
    return found


def _rows(triangle: torch.Tensor, p: int) -> list[Scalars]:
    parts = iter(list(triangle))
    return [[next(parts) for _ in range(i + 1)] for i in range(p)]


def _at(rows: list[Scalars], i: int, j: int) -> torch.Tensor:
    return rows[i][j] if j <= i else rows[j][i]


def _sum(values: Sequence[torch.Tensor]) -> Any:
    total: Any = values[0]
    for value in values[1:]:
        total = total + value
    return total
