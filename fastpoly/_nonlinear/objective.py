"""What is minimized: a model's residuals and their Jacobian, and the sums that a step of the method wants of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .levenberg import Sums

GAUSS, POISSON = "gauss", "poisson"

ROBUST: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = {
    "soft_l1": lambda z: (2 * ((1 + z).sqrt() - 1), (1 + z).rsqrt(), -0.5 * (1 + z) ** -1.5),
    "huber": lambda z: (
        torch.where(z <= 1, z, 2 * z.clamp(min=1).sqrt() - 1),
        torch.where(z <= 1, 1.0, z.clamp(min=1).rsqrt()),
        torch.where(z <= 1, 0.0, -0.5 * z.clamp(min=1) ** -1.5),
    ),
    "cauchy": lambda z: (z.log1p(), 1 / (1 + z), -1 / (1 + z) ** 2),
    "arctan": lambda z: (z.atan(), 1 / (1 + z * z), -2 * z / (1 + z * z) ** 2),
}
"""scipy.optimize.least_squares's `loss` of these names: rho of z, the squared residuals, and its two derivatives."""


@dataclass(frozen=True, eq=False)
class Objective:
    """Of one problem.

    Attributes:
        model: from params, a list of numbers, and the problem's tensors to (n,).
        observed: from the tensors to what the model should be, (n,); None for 0.
        weights: from the tensors to what each residual is multiplied with, (n,), 0 where there is no sample; or None.
        whitening: from the tensors to a matrix that residuals are multiplied with, (n, n); or None.
        noise: GAUSS, or POISSON for counts: then the deviance is minimized, which is no sum of squares.
        loss, f_scale: as scipy.optimize.least_squares has them.
        jacobian: "autograd", "2-point" (differences), "both" (differences where autograd gives nothing finite), or a
            function like the model's, to (n, p).
    """

    model: Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], torch.Tensor]
    observed: Callable[[Sequence[torch.Tensor]], torch.Tensor] | None = None
    weights: Callable[[Sequence[torch.Tensor]], torch.Tensor] | None = None
    whitening: Callable[[Sequence[torch.Tensor]], torch.Tensor] | None = None
    noise: str = GAUSS
    loss: str = "linear"
    f_scale: float = 1.0
    jacobian: Any = "autograd"

    def sums(self, params: torch.Tensor, tensors: Sequence[torch.Tensor], box: Any = None) -> Sums:
        """What `levenberg.step` wants; `box` are the bounds, for differences."""
        values, columns = self.linearized(list(params), tensors, box)
        if self.noise == POISSON:
            return _deviance(values, columns, self._observed(tensors, values), self._weights(tensors))
        residuals, columns = self.weighted(values, columns, tensors)
        if self.loss == "linear":
            return _squares(residuals, columns)
        return self._robust(residuals, columns)

    def weighted(
        self, values: torch.Tensor, columns: list[torch.Tensor], tensors: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The residuals and the columns of the Jacobian, weighted."""
        residuals = values if self.observed is None else values - self.observed(tensors)
        if self.whitening is not None:
            matrix = self.whitening(tensors)
            residuals, columns = matrix @ residuals, [matrix @ column for column in columns]
        weights = self._weights(tensors)
        if weights is not None:  # 0 times what is not finite would be NaN
            there = weights > 0
            residuals = torch.where(there, residuals * weights, 0.0)
            columns = [torch.where(there, column * weights, 0.0) for column in columns]
        return residuals, columns

    def root(
        self, params: list[torch.Tensor], tensors: Sequence[torch.Tensor], box: Any = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The weighted residuals, and columns whose products are J' J of `sums`."""
        values, columns = self.linearized(params, tensors, box)
        residuals, columns = self.weighted(values, columns, tensors)
        if self.noise == POISSON:
            scale = values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt()
            return residuals * scale, [column * scale for column in columns]
        if self.loss != "linear":
            whole = self._robust_weights(residuals)[2].sqrt()
            columns = [column * whole for column in columns]
        return residuals, columns

    def _observed(self, tensors: Sequence[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(like) if self.observed is None else self.observed(tensors)

    def _weights(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor | None:
        return None if self.weights is None else self.weights(tensors)

    def _robust(self, residuals: torch.Tensor, columns: list[torch.Tensor]) -> Sums:
        """As scipy.optimize.least_squares scales residuals and Jacobian for a robust loss (Triggs et al. 1999)."""
        value, slope, whole = self._robust_weights(residuals)
        gradient = [(column * slope * residuals).sum() for column in columns]
        normal = [[(one * whole * other).sum() for other in columns[: i + 1]] for i, one in enumerate(columns)]
        return Sums(self.f_scale**2 * value.sum(), gradient, normal)

    def _robust_weights(self, residuals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rho, and what residuals and products of the Jacobian's columns are multiplied with."""
        square = (residuals / self.f_scale) ** 2
        value, slope, curve = ROBUST[self.loss](square)
        return value, slope, (slope + 2 * curve * square).clamp(min=torch.finfo(residuals.dtype).eps)

    # -- the Jacobian

    def linearized(
        self, params: list[torch.Tensor], tensors: Sequence[torch.Tensor], box: Any = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The model's values (n,) and the columns of its Jacobian, (n,) each."""
        if callable(self.jacobian):
            values = self.model(params, tensors)
            return values, list(self.jacobian(params, tensors).unbind(-1))
        if self.jacobian == "2-point":
            values = self.model(params, tensors)
            return values, self._differences(params, tensors, values, box)
        values, columns = by_autograd(lambda own: self.model(own, tensors), params)
        if self.jacobian == "both":
            others = self._differences(params, tensors, values, box)
            columns = [torch.where(one.isfinite(), one, other) for one, other in zip(columns, others, strict=True)]
        return values, columns

    def _differences(
        self, params: list[torch.Tensor], tensors: Sequence[torch.Tensor], values: torch.Tensor, box: Any
    ) -> list[torch.Tensor]:
        """Central differences within the bounds; to one side where the model is not finite on the other."""
        columns = []
        for k, value in enumerate(params):
            size = torch.finfo(value.dtype).eps ** (1 / 3) * torch.where(value == 0, 1.0, value.abs())
            sides = [value + size, value - size]
            if box is not None:
                sides = [side.clamp(box[0][k], box[1][k]) for side in sides]
            ahead, behind = (self.model([*params[:k], side, *params[k + 1 :]], tensors) for side in sides)
            wide, right, left = sides[0] - sides[1], sides[0] - value, value - sides[1]
            column = torch.where(wide > 0, (ahead - behind) / wide, 0.0)
            column = torch.where(ahead.isfinite(), column, torch.where(left > 0, (values - behind) / left, 0.0))
            columns.append(
                torch.where(behind.isfinite(), column, torch.where(right > 0, (ahead - values) / right, 0.0))
            )
        return columns


def by_autograd(
    function: Callable[[list[torch.Tensor]], torch.Tensor], params: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The values of a function and the columns of its Jacobian, forward, by torch's reverse mode twice.

    The gradient of v' f is linear in v, and its derivative by v is the Jacobian: whatever depends on v itself is gone.
    """
    with torch.enable_grad():
        own = [param.detach().requires_grad_() for param in params]
        values = function(own)
        if not values.requires_grad:
            return values.detach(), [torch.zeros_like(values)] * len(own)
        v = torch.ones_like(values).requires_grad_()
        slopes = torch.autograd.grad(values, own, v, create_graph=True, materialize_grads=True)
        columns = [
            torch.autograd.grad(slope, v, retain_graph=True, materialize_grads=True)[0]
            if slope.requires_grad
            else torch.zeros_like(values)
            for slope in slopes
        ]
    return values.detach(), [column.detach() for column in columns]


def _squares(residuals: torch.Tensor, columns: list[torch.Tensor]) -> Sums:
    gradient = [(column * residuals).sum() for column in columns]
    normal = [[(one * other).sum() for other in columns[: i + 1]] for i, one in enumerate(columns)]
    return Sums((residuals * residuals).sum(), gradient, normal)


def _deviance(
    means: torch.Tensor, columns: list[torch.Tensor], counts: torch.Tensor, weights: torch.Tensor | None
) -> Sums:
    """Of counts with Poisson's noise, and Fisher's information: Laurence and Chromy, Nature Methods 7, 338 (2010).

    Where the model is not positive and there are counts it is infinite.
    """
    there = torch.ones_like(means) if weights is None else (weights > 0).to(means.dtype)
    is_some = counts > 0
    safe = torch.where(is_some, counts, 1.0)
    means = torch.where(there > 0, means, 1.0)
    log = torch.where(is_some, counts * (safe.log() - means.log()), 0.0)
    own = torch.where(means >= 0, means - counts + log, torch.inf)
    positive = means.clamp(min=torch.finfo(means.dtype).tiny)
    slope = torch.where(there > 0, 1 - counts / positive, 0.0)
    columns = [torch.where(there > 0, column, 0.0) for column in columns]
    gradient = [(column * slope).sum() for column in columns]
    normal = [[(one * other / positive).sum() for other in columns[: i + 1]] for i, one in enumerate(columns)]
    return Sums(2 * torch.where(there > 0, own, 0.0).sum(), gradient, normal)
