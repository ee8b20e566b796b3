"""`least_squares`' arguments made into problems, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .._known_kernels import MOST_KNOWN, key_of
from .._lazy import lazy
from .._monitor import Monitor, Progress
from .._problem_axes import Problems as Axes
from .._torch_private import tree
from .covariance import from_jacobians
from .levenberg import BOTH, FTOL, GTOL, NO_JACOBIAN, NOT_FINITE, STALLED, XTOL, Tolerances
from .objective import Objective
from .solve import MAXFEV, SUCCESSES, Ends, Problems, linearized, solve

STATUS = {GTOL: 1, FTOL: 2, XTOL: 3, BOTH: 4, MAXFEV: 0, NOT_FINITE: -1, STALLED: -2, NO_JACOBIAN: -3}
"""scipy's numbers, as far as it has some."""

MESSAGES = {
    1: "`gtol` termination condition is satisfied.",
    2: "`ftol` termination condition is satisfied.",
    3: "`xtol` termination condition is satisfied.",
    4: "Both `ftol` and `xtol` termination conditions are satisfied.",
    0: "The maximum number of function evaluations is exceeded.",
    -1: "Residuals are not finite in the initial point.",
    -2: "No step makes the sum of squares smaller, and the gradient is not small.",
    -3: "The Jacobian is not finite, neither by autograd nor by differences.",
}


class Fit:
    """One problem of least squares, or many.

    Attributes:
        interrupted: was there a Ctrl-C?
    """

    def __init__(
        self, residuals: Callable[..., Any], params: Any, data: tuple[Any, ...], in_dims: Any, bounds: Any
    ) -> None:
        self.residuals, self.is_many, self.interrupted = residuals, in_dims is not None, False
        if not self.is_many:  # one row of many
            params = tree.tree_map(lambda leaf: leaf.detach()[None], params)
            in_dims = (0, *[None] * len(data))
        self.axes = Axes((params, *data), in_dims, ("params", *(f"data[{i}]" for i in range(len(data)))))
        own, self.structure = tree.tree_flatten(params)
        self.count, leaves = len(own), [leaf.detach() for leaf in self.axes.leaves]
        self.leaves = leaves
        if any(leaf.device.type != "cpu" for leaf in leaves):
            raise ValueError("least_squares: wants tensors on the CPU; make them so with .cpu()")
        rows = zip(leaves[: self.count], self.axes.is_own, strict=False)
        self.shapes = [leaf.shape[1:] if has else leaf.shape for leaf, has in rows]
        self.start = self._rows(leaves[: self.count])
        self.lower, self.upper = self._bounds(bounds)
        if not bool(self.start.isfinite().all()):
            raise ValueError("params: want finite numbers, got NaN or infinity; start elsewhere")
        low, high = (self.start if bound is None else bound for bound in (self.lower, self.upper))
        if bool(((self.start < low) | (self.start > high)).any()):
            raise ValueError("Initial guess is outside of provided bounds: `x0` is infeasible.")

    def _rows(self, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tensors like the params, of one problem or of all, as (problems, p)."""
        count, rows = self.axes.count, []
        for leaf, shape in zip(leaves, self.shapes, strict=True):
            rows.append(leaf.expand(count, *shape).reshape(count, -1))
        return torch.cat(rows, 1).contiguous()

    def _bounds(self, bounds: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if bounds is None:
            return None, None
        if not isinstance(bounds, tuple | list) or len(bounds) != 2:
            raise ValueError("bounds: wants (lower, upper), each a number or a structure like the params")
        found = []
        for bound in bounds:
            if isinstance(bound, int | float):
                found.append(torch.full_like(self.start, float(bound)))
                continue
            leaves, structure = tree.tree_flatten(bound)
            if structure != self.structure:
                raise ValueError(f"bounds: wants numbers, or structures like the params', {self.structure}")
            try:
                found.append(self._rows([torch.as_tensor(leaf).to(self.start) for leaf in leaves]))
            except RuntimeError as error:
                raise ValueError(f"bounds: wants shapes like the params', {[*map(tuple, self.shapes)]}") from error
        if not bool((found[0] <= found[1]).all()):
            raise ValueError("Each lower bound must be less than each upper bound, or equal to hold the parameter.")
        return found[0], found[1]

    def arguments(self, params: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> list[Any]:
        """What the residuals take, of params one by one."""
        leaves, at = [], 0
        for shape in self.shapes:
            size = shape.numel()
            leaves.append(torch.stack(list(params[at : at + size])).reshape(shape) if shape else params[at])
            at += size
        return self.axes.filled([*leaves, *tensors])

    def model(self, params: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """The residuals of params one by one, (n,)."""
        found = self.residuals(*self.arguments(params, tensors))
        if not isinstance(found, torch.Tensor):
            raise TypeError(f"residuals: wants to return a tensor, got {type(found).__name__}; write it with torch")
        return found.reshape(-1)

    def minimize(self, loss: str, f_scale: float, jac: str | None) -> None:
        """The problems."""
        objective = Objective(self.model, loss=loss, f_scale=f_scale, jacobian=jac or "autograd")
        own = self.axes.is_own[self.count :]
        tensors = self.leaves[self.count :]
        first = [leaf[0] if has else leaf for leaf, has in zip(tensors, own, strict=True)]
        with torch.no_grad():
            sample = self.model(list(self.start[0]), first)
        if not self.is_many and not bool(sample.isfinite().all()):
            raise ValueError(MESSAGES[-1])
        nothing = np.zeros(self.axes.count)
        of_it, self.alive = key_of(self.residuals)
        shared = [leaf for leaf, has in zip(tensors, own, strict=True) if not has]
        key = None
        if of_it is not None and not self.axes.has_others and sum(leaf.nbytes for leaf in shared) < MOST_KNOWN:
            known = tuple((leaf.shape, leaf.dtype, leaf.contiguous().numpy().tobytes()) for leaf in shared)
            key = (of_it, str(self.structure), tuple(self.shapes), known, tuple(own), loss, f_scale, self.lower is None)
        bounds = self.lower, self.upper
        is_refused = np.zeros(self.axes.count, bool)
        self.problems = Problems(objective, tensors, own, self.start, *bounds, is_refused, nothing, self.residuals, key)

    def run(
        self, tolerances: Tolerances, most: int | None, backend: str, report: Progress | None
    ) -> LeastSquaresResult:
        """Do it."""
        monitor = Monitor(report)
        ends = solve(self.problems, tolerances, most or 100 * (self.start.shape[1] + 1), backend, monitor)
        self.interrupted = monitor.interrupted
        params = torch.from_numpy(ends.params)
        parts = torch.split(params, [shape.numel() for shape in self.shapes], 1)
        leaves = [part.reshape(len(params), *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        status = torch.tensor([STATUS[int(end)] for end in ends.end])
        found = LeastSquaresResult(
            x=tree.tree_unflatten(leaves, self.structure),
            cost=torch.from_numpy(ends.squares) / 2,
            grad=torch.from_numpy(ends.gradient),
            nfev=torch.from_numpy(ends.evaluations).long(),
            status=status,
            success=torch.from_numpy(np.isin(ends.end, SUCCESSES)),
            backend=ends.backend,
            _problems=self.problems,
            _ends=ends,
        )
        if self.is_many:
            return found
        if int(status[0]) == STATUS[NOT_FINITE]:
            raise ValueError(MESSAGES[-1])
        return found.only()


@dataclass(frozen=True, eq=False, repr=False)
class LeastSquaresResult:
    """What came of least squares, with the names of scipy's OptimizeResult; p parameters, n residuals.

    Of many problems every tensor has them as its leading axis.

    Attributes:
        x: the params, in the structure in which they were given.
        cost: half the sum of squares, or of what the loss makes of them.
        grad: (p,), its gradient.
        nfev: how often residuals and Jacobian were computed.
        status: 1 to 4 are successes (gtol, ftol, xtol, ftol and xtol), 0 is max_nfev, what is below 0 failed.
        success: is the status above 0?
        backend: what ran.
    """

    x: Any
    cost: torch.Tensor
    grad: torch.Tensor
    nfev: torch.Tensor
    status: torch.Tensor
    success: torch.Tensor
    backend: str
    _problems: Problems
    _ends: Ends
    _is_one: bool = False

    def only(self) -> LeastSquaresResult:
        """Of the one problem, without an axis for it."""
        own = {name: getattr(self, name)[0] for name in ("cost", "grad", "nfev", "status", "success")}
        return replace(self, x=tree.tree_map(lambda leaf: leaf[0], self.x), **own, _is_one=True)

    def _shown(self, values: torch.Tensor) -> torch.Tensor:
        return values[0] if self._is_one else values

    @lazy
    def _linear(self) -> tuple[torch.Tensor, torch.Tensor]:
        return linearized(self._problems, torch.from_numpy(self._ends.params))

    @property
    def fun(self) -> torch.Tensor:
        """The residuals at x: (n,)."""
        return self._shown(self._linear[0])

    @property
    def jac(self) -> torch.Tensor:
        """Their Jacobian at x: (n, p)."""
        return self._shown(self._linear[1])

    @property
    def njev(self) -> torch.Tensor:
        """How often the Jacobian was computed: as often as the residuals."""
        return self.nfev

    @property
    def active_mask(self) -> torch.Tensor:
        """(p,): -1 where a param has come to its lower bound, 1 to its upper one, else 0."""
        params, lower, upper = torch.from_numpy(self._ends.params), self._problems.lower, self._problems.upper
        if lower is None or upper is None:
            return self._shown(torch.zeros(params.shape, dtype=torch.int64))
        return self._shown((params >= upper).long() - (params <= lower).long())

    @property
    def optimality(self) -> torch.Tensor:
        """The largest part of the gradient, of params that no bound holds."""
        against = self.active_mask * self.grad
        return torch.where((self.active_mask != 0) & (against < 0), 0.0, self.grad.abs()).amax(-1)

    @property
    def message(self) -> Any:
        """A word on how it ended; of many problems a list."""
        if self._is_one:
            return MESSAGES[int(self.status)]
        return [MESSAGES[int(one)] for one in self.status]

    def covariance(self, absolute_sigma: bool = False) -> torch.Tensor:
        """The covariance of the params, (p, p), as `curve_fit` has it; infinity where the residuals do not fix them.

        Args:
            absolute_sigma: the residuals are divided by their deviations; else these are what the residuals say.
        """
        jacobian = self._linear[1].double().numpy()
        count, n, p = jacobian.shape
        found = from_jacobians(jacobian, np.ones((count, p), bool))
        if not absolute_sigma:
            variance = self._ends.squares / (n - p) if n > p else np.full(count, np.inf)
            with np.errstate(invalid="ignore"):
                found = np.where(np.isinf(found), np.inf, found * variance[:, None, None])
        return self._shown(torch.from_numpy(found))

    def __repr__(self) -> str:
        if self._is_one:
            return f"LeastSquaresResult(cost {float(self.cost):.6g}; {self.message}; {self.backend})"
        ended = int(self.success.sum())
        return f"LeastSquaresResult({ended:,} of {len(self.status):,} problems converged; {self.backend})"
