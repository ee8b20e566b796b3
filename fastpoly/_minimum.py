"""The minimum that gradient descent goes towards, and how fast: what the singular values of the power matrix say.

The mean squared error of a model that is linear in its weights is a quadratic bowl. With V = U S W^T and z the
components U^T (y - V w_0) of the residual at the start, the mse of weights w lies by sum_k (z_k - s_k W_k (w - w_0))**2
/ n above that of least squares, and t steps of gradient descent multiply each component by (1 - learn_rate 2 s_k**2 /
n)**t. From these few numbers come the learn rate and the steps that a run needs, and how far from the minimum it ends.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import Array, namespace
from ._lazy import lazy

FAR = 0.05
"""The part of the variance of y by which a run may miss the minimum unwarned, if steps and learn rate were given."""

EPS = float(np.finfo(np.float64).eps)

NEAR = 1e-3
"""Steps are enough when the mse is within this part of least squares' own."""

USEFUL = 1e-2, 1e-6
"""A run has converged when its mse is within the first part of least squares' own, or misses no more than the second
part of the variance of y."""

PIVOT = 1e-4
"""What is left of a column of length 1 without the columns before it. Its square is off by some eps, and so has seven
digits or more."""

FEWEST, MOST = 10**4, 10**12
"""Steps that "auto" takes."""

SAFE = 1.9
"""Of the stability limit 2 / lambda, in 1 / lambda: its component falls to 0.9 a step, and no rounding lets it grow."""

NICE = np.array([c * 10.0**k for k in range(4, 12) for c in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)] + [1e12])
"""The numbers of steps that "auto" chooses from."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """Of sum_i (y_i - p(x_i))**2 / n over the weights of p; of the penalised sum, if there is a penalty.

    Attributes:
        n: how many samples there are.
        start: (m,), where the descent starts.
        s: (r,) singular values of V, the largest first.
        v: (r, m) its right singular vectors, in rows.
        z: (r,) components of the residual at the start along the left ones.
        rho: the size of the residual outside V's range.
        size: the size of y, or of the residual at the start, whichever is larger: roundings are parts of it.
        total: the sum of squares of y about its mean.
        penalty: (m,), what each squared weight adds to the mse, or None.
    """

    n: int
    start: Array
    s: Array
    v: Array
    z: Array
    rho: float
    size: float
    total: float
    penalty: Array | None = None

    @classmethod
    def of(cls, rows: Array, n: int, start: Array, penalty: Array | None = None) -> Minimum:
        """From [V | y - V start], or a triangle of its QR decomposition, n samples in all.

        Args:
            penalty: (m,), what each squared weight adds to the mse.
        """
        start, m = start.astype(np.float64, copy=False), len(start)
        powers, residual = rows[:, :m], rows[:, m]
        y = residual if not start.any() else residual + powers @ start
        ones = powers[:, 0]
        about = y - ones * ((ones @ y) / (ones @ ones))
        if penalty is not None:
            weight = np.sqrt(n * penalty)
            powers = np.concatenate([powers, np.diag(weight)])
            residual = np.concatenate([residual, -weight * start])
        u, s, v = np.linalg.svd(powers, full_matrices=False)
        z = u.T @ residual
        outside = residual - u @ z
        with np.errstate(over="ignore"):  # such a run diverges, and says so
            square, total = float(outside @ outside), float(about @ about)
            size = math.sqrt(max(y @ y, residual @ residual))
        return cls(n, start, s, v, z, math.sqrt(square), size, total, penalty)

    @classmethod
    def of_moments(cls, matrix: Array, vector: Array, square: float, n: int, start: Array) -> Minimum | None:
        """From H = V^T V, h = V^T y and y.y; None where H is so ill-conditioned that digits are missing.

        Its Cholesky factor is a triangle of the QR decomposition of V. With columns scaled to length 1 before, its
        digits are lost to what the columns have in common, and not to their sizes. The size of the residual outside V's
        range is right where `gram.cancels` says that sums of squares are.
        """
        sizes: Array = np.sqrt(np.asarray(matrix.diagonal()))
        try:
            factor = np.linalg.cholesky(matrix / np.multiply.outer(sizes, sizes))
        except np.linalg.LinAlgError:
            return None
        if not float(factor.diagonal().min()) > PIVOT:
            return None
        rows = np.zeros((len(sizes) + 1, len(sizes) + 1))
        rows[:-1, :-1] = factor.T * sizes
        z = np.linalg.solve(factor, vector / sizes)
        rows[:-1, -1] = z
        rows[-1, -1] = math.sqrt(max(float(square - z @ z), 0.0))
        rows[:, -1] -= rows[:, :-1] @ start
        return cls.of(rows, n, start)

    @lazy
    def visible(self) -> Array:
        """Which components V has: the others' singular values are rounding errors."""
        return np.asarray(self.s > max(self.n, len(self.start)) * EPS * self.s[0])

    @lazy
    def least(self) -> float:
        """The least sum of squares."""
        hidden = self.z[~self.visible]
        return self.rho**2 + float(hidden @ hidden)

    def seen(self) -> Minimum:
        """Without the components that V does not have: 10**12 steps along a rounding error are a long way."""
        seen = self.visible
        s, v, z = self.s[seen], self.v[seen], self.z[seen]
        return dataclasses.replace(self, s=s, v=v, z=z, rho=math.sqrt(self.least))

    @property
    def rounding(self) -> float:
        """A sum of squares that residuals of this size have from rounding alone."""
        return (4 * EPS * self.size) ** 2

    @property
    def enough(self) -> float:
        """The sum of squares above the least at which more steps would change nothing that matters."""
        return max(NEAR * self.least, self.rounding)

    @property
    def useful(self) -> float:
        """The same at which a run has converged."""
        return max(USEFUL[0] * self.least, USEFUL[1] * self.total, 4 * self.rounding)

    @property
    def limit(self) -> float:
        """The learn rate at which descent stops converging."""
        return float(self.n / self.s[0] ** 2)

    def gaps(self, weights: Any) -> Array:
        """(r,) components of the residual of these weights."""
        with np.errstate(over="ignore", invalid="ignore"):
            gained = self.v @ (np.asarray(weights, np.float64) - self.start)
            return np.asarray(self.z - self.s * gained)

    def excess(self, weights: Any) -> float:
        """The sum of squares of these weights, less the least."""
        if not np.isfinite(weights).all():
            return math.inf
        gaps = self.gaps(weights)[self.visible]
        with np.errstate(over="ignore", invalid="ignore"):
            square = float(gaps @ gaps)
        return min(math.inf, square)

    def residual_squares(self, weights: Any) -> float:
        """The sum of squared residuals of these weights, without the penalty."""
        squares = self.least + self.excess(weights)
        if self.penalty is None or not math.isfinite(squares):
            return squares
        return max(squares - self.n * float(self.penalty @ np.asarray(weights, np.float64) ** 2), 0.0)

    def gradient_norm(self, weights: Any) -> float:
        """The length of the gradient of the mse by the weights."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.linalg.norm(2 / self.n * (self.s * self.gaps(weights))))

    def solution(self) -> Array:
        """(m,) the least-squares weights that descent goes to: what V does not see stays as at the start."""
        gained = np.divide(self.z, self.s, out=np.zeros_like(self.z), where=self.visible)
        return np.asarray(self.start + self.v.T @ gained)

    def rate(self, steps: int | None) -> float:
        """The learn rate that leaves the least excess after so many steps; None: as many as are needed.

        The excess is a convex function of the rate. It falls up to 1 / (largest lambda), and beyond it the slow
        components go on falling where the fastest overshoots. For many steps 2 / (largest + smallest lambda) makes
        both fall alike.
        """
        curvature = (self.s[self.visible] / self.s[0]) ** 2  # in units of the largest
        best = min(2 / (1 + float(curvature[-1])), SAFE)
        unit = float(self.n / (2 * self.s[0] ** 2))
        if steps is None or steps == 0 or self._left(best * unit, steps) <= self.rounding:
            return best * unit
        low, high = 1.0, SAFE
        while high - low > 1e-6:
            tried = np.linspace(low, high, 17)
            left = self._logarithm(tried[:, None] * curvature, steps)
            at = int(left.argmin())
            low, high = float(tried[max(at - 1, 0)]), float(tried[min(at + 1, 16)])
        return (low + high) / 2 * unit

    def steps(self, rate: float, most: int = MOST, gaps: Array | None = None) -> int | None:
        """The least of a row of round numbers of steps after which this rate is near the minimum, or None.

        Args:
            rate: the learn rate.
            most: None comes if it takes more.
            gaps: of the weights from which they are counted; those of the start if None.
        """
        counts = NICE[: np.searchsorted(NICE, most, "right")]
        with np.errstate(over="ignore"):
            squares = (self.z if gaps is None else gaps)[self.visible] ** 2
        if not np.isfinite(squares).all():
            return None
        left = np.array([self._left(rate, count, squares) for count in counts[[0, -1]]])
        if left[-1] > self.enough:
            return None
        if left[0] <= self.enough:
            return int(counts[0])
        low, high = 0, len(counts) - 1
        while high - low > 1:
            middle = (low + high) // 2
            enough = self._left(rate, counts[middle], squares) <= self.enough
            low, high = (low, middle) if enough else (middle, high)
        return int(counts[high])

    def _left(self, rate: float, steps: float, squares: Array | None = None) -> float:
        """The excess after so many steps."""
        if squares is None:
            squares = self.z[self.visible] ** 2
        log, _ = log_factor(rate * 2 / self.n * self.s[self.visible] ** 2)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return float(squares @ np.exp(2.0 * steps * log))

    def _logarithm(self, a: Array, steps: int) -> Array:
        """log of the excess for each row of lambda * rate: the excess itself may leave float64."""
        with np.errstate(divide="ignore"):
            terms = 2.0 * steps * log_factor(a)[0] + 2 * np.log(np.abs(self.z[self.visible]))
        return np.asarray(np.logaddexp.reduce(terms, axis=1))


def log_factor(a: Any) -> tuple[Any, Any]:
    """log |1 - a|, and where 1 - a is negative; of an array or a tensor."""
    xp = namespace(a)
    with np.errstate(divide="ignore"):
        log = xp.log1p(xp.maximum(-a, a - 2))
    return xp.clip(log, -1e6, None), a > 1  # dead in one step: exp(-1e6 t) is 0, and 1 for t = 0
