"""The learn rate of a descent: one number, a number for each step, or what a scheduler of torch's gives."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ._problem import positive, shown

if TYPE_CHECKING:
    import torch

PLATEAU = (
    "learn_rate: ReduceLROnPlateau wants a loss at every step, which a compiled loop does not show it; use `until`, or "
    "go on from one descent to the next by state="
)


class Rates:
    """What `descend` was given as learn_rate.

    Args:
        given: a number > 0; a tensor, array or list with a number for each step; a scheduler of torch.optim; or None,
            where the optimizer has its own.
        own: the optimizer's own, one for each of its groups of params; None if it has none.
        steps: how many will be taken.

    Attributes:
        one: the number, as a tensor; None for the other ways, and where `own` is right as it is.
        each: a row for each step, (steps,) or (steps, groups).
    """

    def __init__(self, given: Any, own: list[float] | None, steps: int, like: torch.Tensor, needed: bool) -> None:
        import torch

        self.one: torch.Tensor | None = None
        self.each: torch.Tensor | None = None
        self.given, self.text = given, ""
        self._before: Any = None
        if isinstance(given, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise ValueError(PLATEAU)
        if isinstance(given, torch.optim.lr_scheduler.LRScheduler):
            self._before = _state(given)
            try:
                rows = torch.tensor(_scheduled(given, steps), dtype=torch.float64)
            finally:
                self._restore()
            if own is None and rows.shape[1] > 1:
                raise ValueError("learn_rate: the scheduler's optimizer has several groups: pass it as optimizer, too")
            self.each = rows if own is not None else rows[:, 0]
        elif given is None:
            if needed and own is None:
                raise TypeError("learn_rate: wants a number > 0, or one for each step; try 0.01")
        elif isinstance(given, torch.Tensor | np.ndarray | list | tuple) and np.ndim(given) == 1:
            self.each = (
                given.detach() if isinstance(given, torch.Tensor) else torch.from_numpy(np.array(given, dtype=float))
            )
        else:
            number = positive(given, "learn_rate")
            self.one, self.text = like.new_tensor(number), f"{number:.4g}"
        if own is not None and given is not None and self._before is None:
            raise ValueError("learn_rate: the optimizer has its own; leave it out, or pass a scheduler of it")
        if self.each is not None:
            self.each = _checked(self.each, steps).to(like)

    def taken(self, steps: int) -> None:
        """Leave a scheduler as so many steps leave it."""
        if self._before is not None:
            _scheduled(self.given, steps)

    def _restore(self) -> None:
        state, groups = self._before
        self.given.load_state_dict(copy.deepcopy(state))
        for group, before in zip(self.given.optimizer.param_groups, groups, strict=True):
            group.update(before)


def _state(scheduler: Any) -> Any:
    groups = [{k: copy.copy(v) for k, v in g.items() if k != "params"} for g in scheduler.optimizer.param_groups]
    return copy.deepcopy(scheduler.state_dict()), groups


def _scheduled(scheduler: Any, steps: int) -> list[list[float]]:
    """The rates of so many steps, a row for each with one for each group. The scheduler goes on by as many."""
    groups, rows = scheduler.optimizer.param_groups, []
    others = [_others(group) for group in groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that its optimizer took no step
        for _ in range(steps):
            rows.append([float(group["lr"]) for group in groups])
            scheduler.step()
            if [_others(group) for group in groups] != others:
                raise ValueError("learn_rate: the scheduler changes more than that (cycle_momentum=False stops it)")
    return rows


def _others(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key in ("momentum", "betas", "weight_decay")}


def _checked(rates: torch.Tensor, steps: int) -> torch.Tensor:
    if len(rates) < steps:
        raise ValueError(f"learn_rate: wants one for each of {steps:,} steps, got {len(rates):,}; a number is for all")
    if not rates.is_floating_point() and not rates.dtype.is_complex:
        rates = rates.double()
    bad = rates[:steps][~(rates[:steps].isfinite() & (rates[:steps] >= 0))]
    if len(bad):
        raise ValueError(f"learn_rate: wants finite numbers >= 0, got {shown(bad[0].item())}; 0 takes no step")
    return rates
