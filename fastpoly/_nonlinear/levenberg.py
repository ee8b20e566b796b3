"""A step of Levenberg and Marquardt's method, as a function of tensors that can be traced.

Damping as K. Madsen, H. B. Nielsen and O. Tingleff, Methods for Non-Linear Least Squares Problems, 2nd edition (2004),
algorithm 3.16 (Nielsen's rule). Parameters are scaled by the largest norms that their columns of the Jacobian have had,
as J. J. Moré, The Levenberg-Marquardt algorithm (1978), so that no unit matters. Bounds are kept by projection: a
parameter that lies on a bound and would leave is held there for the step, and what a step takes onto a bound is held
there while the others are solved for again.

A problem has converged when a step without any damping would gain and move as little as its tolerances say, twice in a
row: steps that are small because they are damped say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch

Scalars: TypeAlias = "list[torch.Tensor]"

RUNS, FTOL, XTOL, BOTH, GTOL, STALLED, NO_JACOBIAN, NOT_FINITE = range(8)
"""How a problem stands. 1 to 4 are successes, as MINPACK counts them: by the sum of squares, by the params, by both, by
the gradient. STALLED: no step gains anything, though the gradient is not small. NO_JACOBIAN: it is not finite.
NOT_FINITE: the residuals are not, at the start."""

MOST_DAMPING = 1e30

SETTLED, LAST_DIGITS = 1e-4, 1e-12
"""Params that are far from 0, as times since 1970, move little in proportion on any step: a short one says that the
minimum is near if there is as little to gain, or if only the last digits change."""

HALF_THE_DIGITS = 1e-8
"""Where residuals are little more than rounding, no step may gain anything though the params could still move by this
part of them: that is a minimum, too."""

ROUNDING = 64
"""Times the spacing of floats that a sum of squares may be off by."""


@dataclass(frozen=True)
class Tolerances:
    """What is small: see `scipy.optimize.curve_fit` on the options of these names."""

    ftol: float
    xtol: float
    gtol: float


class Sums(NamedTuple):
    """What a step asks of the params: the sum of squares, J' r, and J' J, its rows up to the diagonal."""

    squares: torch.Tensor
    gradient: Scalars
    normal: list[Scalars]


class State(NamedTuple):
    """What a problem carries.

    Attributes:
        params: (p,), the best until now.
        squares, gradient, normal: their `Sums`; (), (p,) and (p (p + 1) / 2,).
        scales: (p,), the largest norms of the Jacobian's columns.
        damping: relative to the diagonal of the scaled normal equations.
        growth: by how much it grows if the next step gains nothing.
        evaluations: how often the residuals were computed.
        calm: was the last step one of those that end a run if the next one is, too?
        end: how it stands.
    """

    params: torch.Tensor
    squares: torch.Tensor
    gradient: torch.Tensor
    normal: torch.Tensor
    scales: torch.Tensor
    damping: torch.Tensor
    growth: torch.Tensor
    evaluations: torch.Tensor
    calm: torch.Tensor
    end: torch.Tensor


def begin(params: torch.Tensor, damping: float) -> State:
    """The state before the first evaluation; of params (p,), or of (problems, p) what differs between problems."""
    p = params.shape[-1]
    zero, zeros = params.new_zeros(()), params.new_zeros((p,))
    most = params.new_full((), torch.finfo(params.dtype).max)
    triangle = params.new_zeros((p * (p + 1) // 2,))
    return State(params, most, zeros, triangle, zeros, params.new_full((), damping), zero + 2, zero, zero, zero)


def step(
    state: State,
    sums: Callable[[torch.Tensor], Sums],
    tolerances: Tolerances,
    lower: torch.Tensor | None,
    upper: torch.Tensor | None,
) -> State:
    """The state after one more evaluation; the same once the problem has ended.

    Args:
        state: of one problem.
        sums: of params.
        lower, upper: (p,), or None if there are no bounds.
    """
    box = None if lower is None or upper is None else (list(lower), list(upper))
    x, g = list(state.params), list(state.gradient)
    p = len(x)
    a = _rows(state.normal, p)
    scales = [torch.where(scale > 0, scale, 1.0) for scale in state.scales]
    is_first = state.evaluations == 0
    equations = _Equations(x, g, a, scales, box)
    delta = [torch.where(is_first, 0.0, one) for one in equations.damped_step(state.damping)]
    there = [one + by for one, by in zip(x, delta, strict=True)]
    if box is not None:
        there = [one.clamp(low, high) for one, low, high in zip(there, *box, strict=True)]
        delta = [new - old for new, old in zip(there, x, strict=True)]
    new = sums(torch.stack(there))
    finite = _are_finite([new.squares])
    gained = state.squares - new.squares
    better = finite & ((gained > 0) | is_first)

    def chosen(after: Scalars, before: Scalars) -> Scalars:
        return [torch.where(better, one, other) for one, other in zip(after, before, strict=True)]

    # how much of what the linear model promised came true decides on the damping
    slope = _dot(g, delta)
    curve = _dot(delta, [_dot([_at(a, i, j) for j in range(p)], delta) for i in range(p)])
    promised = -2 * slope - curve
    rho = torch.where(promised > 0, gained / promised, 0.0)
    less = torch.where(is_first, 1.0, (1 - (2 * rho - 1) ** 3).clamp(1 / 3, 1.0))
    damping = state.damping * torch.where(better, less, state.growth)

    # is it there? By what a step without damping would gain, and how far it would go in units of the scales
    left, length = equations.undamped()
    rounding = torch.finfo(x[0].dtype).eps * state.squares
    ftol = tolerances.ftol * state.squares + 4 * rounding
    known = finite & ~is_first
    gains_little = known & (gained.abs() <= ftol) & (left <= ftol)
    norm = _norm([one * by for one, by in zip(scales, x, strict=True)])
    settled = (left <= SETTLED * state.squares) | (length <= LAST_DIGITS * norm)
    goes_little = known & settled & (length <= tolerances.xtol * norm)
    lost = known & ~better & (left <= ROUNDING * rounding) & (gained >= -ROUNDING * rounding)
    twice = (state.calm > 0) | ~better
    flat, short = lost | (gains_little & twice), goes_little & twice

    params, gradient = chosen(there, x), chosen(new.gradient, g)
    normal = [chosen(*rows) for rows in zip(new.normal, a, strict=True)]
    squares = torch.where(better, new.squares, state.squares)
    free = _free(params, gradient, box)
    level = _steepest(gradient, normal, squares, free) <= tolerances.gtol
    stalled = damping > MOST_DAMPING
    end = _number(
        torch.where(stalled & (length <= HALF_THE_DIGITS * norm), XTOL, torch.where(stalled, STALLED, RUNS)), x[0]
    )
    end = torch.where(short, XTOL, end)
    end = torch.where(flat, torch.where(short, BOTH, FTOL), end)
    end = torch.where(better & (level | (squares == 0)), GTOL, end)
    end = torch.where(
        better & ~_are_finite([*new.gradient, *(one for row in new.normal for one in row)]), NO_JACOBIAN, end
    )
    end = torch.where(is_first & ~finite, NOT_FINITE, end)
    largest = [torch.maximum(scale, one[-1].sqrt()) for scale, one in zip(state.scales, normal, strict=True)]
    after = State(
        torch.stack(params),
        squares,
        torch.stack(gradient),
        torch.stack([one for row in normal for one in row]),
        torch.stack(largest),
        damping,
        torch.where(better, 2.0, state.growth * 2),
        state.evaluations + 1,
        _number(gains_little | goes_little, x[0]),
        _number(end, x[0]),
    )
    runs = state.end == RUNS
    return State(*(torch.where(runs, one, other) for one, other in zip(after, state, strict=True)))


class _Equations:
    """The normal equations at some params, scaled so that their diagonal is at most 1."""

    def __init__(
        self, x: Scalars, g: Scalars, a: list[Scalars], scales: Scalars, box: tuple[Scalars, Scalars] | None
    ) -> None:
        inverse = [1 / scale for scale in scales]
        self.x, self.inverse, self.box = x, inverse, box
        self.a = [[one * inverse[i] * inverse[j] for j, one in enumerate(row)] for i, row in enumerate(a)]
        self.right = [-one * by for one, by in zip(g, inverse, strict=True)]
        self.free = None if box is None else _free(x, g, box)

    def damped_step(self, damping: torch.Tensor) -> Scalars:
        """What the params change by, within the bounds."""
        found = solved(self.a, self.right, damping, self.free)
        if self.box is None or self.free is None:
            return self._unscaled(found)
        free, p = self.free, len(found)
        held = [torch.zeros_like(one) for one in free]
        fixed = [torch.zeros_like(one) for one in found]
        for _ in range(2):
            for i, by in enumerate(self._unscaled(found)):
                there = self.x[i] + by
                low, high = self.box[0][i], self.box[1][i]
                leaves = free[i] & ~held[i] & ((there < low) | (there > high))
                fixed[i] = torch.where(leaves, (there.clamp(low, high) - self.x[i]) / self.inverse[i], fixed[i])
                held[i] = held[i] | leaves
            others = [one & ~other for one, other in zip(free, held, strict=True)]
            right = [one - _dot([_at(self.a, i, j) for j in range(p)], fixed) for i, one in enumerate(self.right)]
            again = solved(self.a, right, damping, others)
            found = [torch.where(is_held, by, one) for is_held, by, one in zip(held, fixed, again, strict=True)]
        return self._unscaled(found)

    def undamped(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What a step without damping promises to gain, and its length."""
        found = solved(self.a, self.right, None, self.free)
        return _dot(self.right, found), _norm(found)

    def _unscaled(self, found: Scalars) -> Scalars:
        return [one * by for one, by in zip(found, self.inverse, strict=True)]


def solved(a: list[Scalars], right: Scalars, damping: torch.Tensor | None, free: Scalars | None) -> Scalars:
    """The solution of (a + damping) x = right by Cholesky's factors; 0 for what is not free."""
    p = len(right)
    factor: list[Scalars] = []
    inverse: Scalars = []
    for i in range(p):
        row: Scalars = []
        for j in range(i + 1):
            value = a[i][j] + damping if i == j and damping is not None else a[i][j]
            if free is not None:
                value = torch.where(free[i], value, 1.0) if i == j else torch.where(free[i] & free[j], value, 0.0)
            for k in range(j):
                value = value - row[k] * (factor[j][k] if j < i else row[k])
            row.append(value * inverse[j] if j < i else value)
        # what rounding leaves of a pivot is not taken for one
        inverse.append(row[i].clamp(min=torch.finfo(row[i].dtype).eps).rsqrt())
        factor.append(row)
    found: Scalars = []
    for i in range(p):
        value = right[i] if free is None else torch.where(free[i], right[i], 0.0)
        for k in range(i):
            value = value - factor[i][k] * found[k]
        found.append(value * inverse[i])
    for i in reversed(range(p)):
        value = found[i]
        for k in range(i + 1, p):
            value = value - factor[k][i] * found[k]
        found[i] = value * inverse[i]
    return found


def _free(x: Scalars, g: Scalars, box: tuple[Scalars, Scalars] | None) -> Scalars | None:
    """Which params may move: those that do not lie on a bound that the gradient pushes them against."""
    if box is None:
        return None
    return [
        ~(((one <= low) & (by >= 0)) | ((one >= high) & (by <= 0)))
        for one, by, low, high in zip(x, g, *box, strict=True)
    ]


def _steepest(g: Scalars, a: list[Scalars], squares: torch.Tensor, free: Scalars | None) -> torch.Tensor:
    """The largest cosine of the angle between the residuals and a column of the Jacobian."""
    most = torch.zeros_like(squares)
    for i, slope in enumerate(g):
        cosine = slope * slope / (a[i][i] * squares)
        cosine = torch.where((a[i][i] > 0) & (squares > 0), cosine, 0.0)
        most = torch.maximum(most, cosine if free is None else torch.where(free[i], cosine, 0.0))
    return most.sqrt()


def _are_finite(values: Scalars) -> torch.Tensor:
    total = _sum([value * 0 for value in values])
    return total == 0


def _number(truth: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return truth.to(like.dtype)


def _rows(triangle: torch.Tensor, p: int) -> list[Scalars]:
    parts = iter(list(triangle))
    return [[next(parts) for _ in range(i + 1)] for i in range(p)]


def _at(rows: list[Scalars], i: int, j: int) -> torch.Tensor:
    return rows[i][j] if j <= i else rows[j][i]


def _sum(values: Sequence[torch.Tensor]) -> torch.Tensor:
    total: Any = values[0]
    for value in values[1:]:
        total = total + value
    return total  # type: ignore[no-any-return]


def _dot(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> torch.Tensor:
    return _sum([a * b for a, b in zip(one, other, strict=True)])


def _norm(values: Sequence[torch.Tensor]) -> torch.Tensor:
    return _dot(values, values).sqrt()
