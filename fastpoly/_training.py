"""A step of a descent, with all that its caller wants done in it, and what goes from one step to the next.

The step is a function of a flat list of tensors; which of them are what says `Training.layout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ._problem import integer, positive, shown
from ._rates import Rates
from ._reached import Reached
from ._tensors import one_number, refuse_changed, refuse_no_function
from ._torch_private import tree
from .optimizers import FunctionalOptimizer

MEAN = "mean"

MOST = {dtype: torch.finfo(dtype).max for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
"""In place of infinity, which would look as if the run had diverged."""


@dataclass(frozen=True)
class Wishes:
    """What else a descent does; see `descend`."""

    xs: Any = None
    cycle: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    project: Callable[..., Any] | None = None
    until: Callable[..., Any] | None = None
    held_out: Any = None
    patience: int | None = None
    average: Any = None

    def __post_init__(self) -> None:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm, clip_value: want one of them, got both")
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                positive(getattr(self, name), name)
        for name in ("project", "until"):
            if getattr(self, name) is not None:
                refuse_no_function(getattr(self, name), name)
        if (self.held_out is None) != (self.patience is None):
            raise ValueError("held_out, patience: want both or neither")
        if self.patience is not None:
            integer(self.patience, "patience", 1, 2**20)
        if self.cycle and self.xs is None:
            raise ValueError("cycle: wants xs to go through again")
        decay = self.average
        if decay is not None and decay != MEAN and not (isinstance(decay, float) and 0 < decay < 1):
            raise ValueError(
                f"average: wants 'mean', or how much is kept in a step, between 0 and 1; got {shown(decay)}"
            )


class Training:
    """Makes steps of a loss.

    Args:
        loss, data: the loss, and what it takes beside the params.
        start, structure: where the params begin, and how they are nested.
        rule, rates: the optimizer and its learn rates.
        reached: stands in for params that the loss gets from elsewhere.
        wishes: what else.
        steps: how many will be taken.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        data: tuple[Any, ...],
        start: list[torch.Tensor],
        structure: Any,
        rule: Any,
        rates: Rates,
        reached: Reached,
        wishes: Wishes,
        steps: int,
    ) -> None:
        self.loss, self.data, self.structure = loss, data, structure
        self.start = start
        self.rule, self.rates, self.reached, self.wishes = rule, rates, reached, wishes
        rows: list[Any] = []
        self.form: Any = None
        if wishes.xs is not None:
            rows, self.form = tree.tree_flatten(wishes.xs)
        self.rows = [torch.as_tensor(one).to(start[0].device) for one in rows]
        self._refuse_rows(steps)
        held = wishes.held_out
        self.held_out = held if isinstance(held, tuple) else (held,)
        self.layout: list[tuple[str, int]] = []

    def _refuse_rows(self, steps: int) -> None:
        if self.wishes.xs is None:
            return
        lengths = {len(row) if row.ndim else 0 for row in self.rows}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError("xs: wants tensors with one leading axis, a slice for each step")
        (length,) = lengths
        if length < steps and not self.wishes.cycle:
            raise ValueError(f"xs: wants a slice for each of {steps:,} steps, got {length:,}; cycle=True begins again")

    # -- what is carried

    def begin(self, start: list[torch.Tensor], state: Sequence[torch.Tensor] | None) -> list[torch.Tensor]:
        """The tensors before the first step; the optimizer's state is left out where nobody knows it yet."""
        parts = {"params": start, "state": list(state or ())}
        zero = torch.zeros((), dtype=torch.int64, device=start[0].device)
        if self.rows:
            parts["place"] = [zero]
        if self.rates.each is not None:
            parts["rate"] = [zero]
        if self.wishes.average is not None:
            parts["averaged"] = [*(leaf.clone() for leaf in start), start[0].new_zeros(())]
        if self.wishes.patience is not None:
            parts["best"] = [*(leaf.clone() for leaf in start), start[0].new_full((), MOST[start[0].dtype]), zero]
        return self._joined(parts)

    def _joined(self, parts: dict[str, list[torch.Tensor]]) -> list[torch.Tensor]:
        self.layout = [(name, len(part)) for name, part in parts.items()]
        return [leaf for part in parts.values() for leaf in part]

    def parts(self, leaves: Sequence[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """The tensors by what they are."""
        found, place = {}, 0
        for name, count in self.layout:
            found[name] = list(leaves[place : place + count])
            place += count
        return found

    # -- a step

    def step(self, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors after a step, the loss before it, and the held-out loss before it if there is one."""
        after, (value, *held), ends = self.step_and_ends(leaves)
        for end in ends:
            value = torch.where(end, math.nan, value)
        return [*after, value, *held]

    def step_and_ends(
        self, leaves: list[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """The tensors after a step, what `step` gives beside them, and whether the run should end before it: truths."""
        after, results, ends = self._after(self.parts(leaves), self.rule.update)
        assert [len(part) for part in after.values()] == [count for _, count in self.layout]
        return [leaf for part in after.values() for leaf in part], results, ends

    def first(self, leaves: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The same of the first step, which shows what the optimizer's state is made of; and the results."""
        assert isinstance(self.rule, FunctionalOptimizer)

        def update(params: Any, grads: Any, _: Any, rate: Any) -> Any:
            return self.rule.update_first([leaf.clone() for leaf in params], grads, rate)

        after, (value, *held), ends = self._after(self.parts(leaves), update)
        for end in ends:
            value = torch.where(end, math.nan, value)
        return self._joined(after), [value, *held]

    def _after(
        self, parts: dict[str, list[torch.Tensor]], update: Callable[..., Any]
    ) -> tuple[dict[str, list[torch.Tensor]], list[torch.Tensor], list[torch.Tensor]]:
        value, grads = self.value_and_grads(parts["params"], self.slice(parts))
        return self.updated(parts, value, grads, update)

    def updated(
        self,
        parts: dict[str, list[torch.Tensor]],
        value: torch.Tensor,
        grads: list[torch.Tensor],
        update: Callable[..., Any],
    ) -> tuple[dict[str, list[torch.Tensor]], list[torch.Tensor], list[torch.Tensor]]:
        """What a step makes of the loss and its gradients; see `step_and_ends`."""
        params, own = parts["params"], dict(parts)
        with torch.no_grad():
            rate = self.rates.one if self.rates.each is None else row(self.rates.each, parts["rate"][0])
            after, own["state"] = update(params, self._clipped(grads), parts["state"], rate)
            if self.wishes.project is not None:
                after = self._projected(after)
            own["params"] = after
            if self.rows:
                own["place"] = [(parts["place"][0] + 1) % len(self.rows[0])]
            if self.rates.each is not None:
                own["rate"] = [(parts["rate"][0] + 1) % len(self.rates.each)]
            if self.wishes.average is not None:
                own["averaged"] = self._averaged(parts["averaged"], after)
            ends, results = [], [value]
            if self.wishes.until is not None:
                ends.append(_truth(self.wishes.until(self._nested(params), value)))
            if self.wishes.patience is not None:
                own["best"], held = self._best(parts["best"], params)
                ends.append(own["best"][-1] >= self.wishes.patience)
                results.append(held)
        return own, results, ends

    def _nested(self, leaves: Sequence[torch.Tensor]) -> Any:
        return tree.tree_unflatten(list(leaves), self.structure)

    def slice(self, parts: dict[str, list[torch.Tensor]]) -> tuple[Any, ...]:
        """What the loss takes last in the next step, if there is such."""
        if not self.rows:
            return ()
        return (tree.tree_unflatten([row(one, parts["place"][0]) for one in self.rows], self.form),)

    def value_and_grads(
        self, leaves: Sequence[torch.Tensor], last: tuple[Any, ...]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The loss and its gradients."""
        own = [leaf.detach().requires_grad_() for leaf in leaves]
        with torch.enable_grad():
            with self.reached.by(own):
                value = one_number(self.loss(self._nested(own), *self.data, *last))
            grads = torch.autograd.grad(value, own, materialize_grads=True)
        return value.detach().reshape(()), list(grads)

    def _clipped(self, grads: list[torch.Tensor]) -> list[torch.Tensor]:
        norm, value = self.wishes.clip_norm, self.wishes.clip_value
        if value is not None:  # as torch.nn.utils.clip_grad_value_
            return [grad.clamp(-value, value) for grad in grads]
        if norm is None:
            return grads
        whole = torch.stack([(grad * grad).sum() for grad in grads]).sum().sqrt()
        factor = (norm / (whole + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
        return [grad * factor for grad in grads]

    def _projected(self, after: list[torch.Tensor]) -> list[torch.Tensor]:
        assert self.wishes.project is not None
        leaves, structure = tree.tree_flatten(self.wishes.project(self._nested(after)))
        if structure != self.structure:
            raise ValueError(f"project: returns params of another structure: {structure}, wants {self.structure}")
        refuse_changed(leaves, after, "project", "params")
        return list(leaves)

    def _averaged(self, averaged: list[torch.Tensor], after: list[torch.Tensor]) -> list[torch.Tensor]:
        """As torch.optim.swa_utils.AveragedModel has it: the first params are copied, the next ones mixed in."""
        *means, count = averaged
        if self.wishes.average == MEAN:
            share = 1 / (count + 1)
        else:
            share = torch.where(count == 0, torch.ones_like(count), torch.full_like(count, 1 - self.wishes.average))
        return [*(mean + share * (leaf - mean) for mean, leaf in zip(means, after, strict=True)), count + 1]

    def _best(self, best: list[torch.Tensor], params: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The best params on held-out data until now, their loss, and how many steps ago that was."""
        *kept, least, since = best
        with self.reached.by(params):
            held = self.loss(self._nested(params), *self.held_out).detach().reshape(())
        better = held < least
        following = [torch.where(better, leaf, old) for leaf, old in zip(params, kept, strict=True)]
        assert self.wishes.patience is not None
        waited = torch.where(better, 0, (since + 1) % (self.wishes.patience + 2))
        return [*following, torch.where(better, held, least), waited], held

    # -- what came of it

    def end(self, leaves: Sequence[torch.Tensor]) -> str:
        """Why a run stopped by itself that has come to these tensors: "until", "patience" or "divergence"."""
        parts = self.parts(leaves)
        with torch.no_grad():
            value, _ = self.value_and_grads(parts["params"], self.slice(parts))
            if not bool(value.isfinite()):
                return "divergence"
            if self.wishes.until is not None and bool(_truth(self.wishes.until(self._nested(parts["params"]), value))):
                return "until"
        return "patience"


def row(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """values[place] of a place that changes from step to step."""
    return values.gather(0, place.expand(1, *values.shape[1:]))[0]


def _truth(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.bool or value.numel() != 1:
        raise TypeError(f"until: wants to return one bool, a tensor as (loss < 1e-3) is; got {shown(value)}")
    return value.reshape(())
