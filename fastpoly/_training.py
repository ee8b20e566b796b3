"""A step of a descent, with all that its caller wants done in it, and what goes from one step to the next.

The step is a function of a flat list of tensors; which of them are what says `Training.layout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ._draws import drawing, first, following
from ._errors import OutsideWriteError, RandomDrawError, UnsupportedOperationError
from ._inside import inside
from ._problem import integer, positive, shown, truth
from ._rates import Rates
from ._reached import Reached
from ._steadiness import is_finite_by_chance
from ._tensors import one_number, pair, refuse_changed, refuse_no_dense_tensor, refuse_no_function
from ._torch_private import take_hooks, tree, without_checkpoints
from ._written import Uncarried, Watch, can_be_carried
from .optimizers import FunctionalOptimizer

MEAN = "mean"

MOST = {dtype: torch.finfo(dtype).max for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
"""In place of infinity, which would look as if the run had diverged."""


SEEDS = 2**44
"""As many as the two words of a key tell apart, which `_draws` wants to be exact in float32."""


NEARLY_INFINITE = 1e30
"""From here on another order of sums may overflow where this one does not."""


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
    has_aux: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm, clip_value: want one of them, got both")
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                positive(getattr(self, name), name)
        truth(self.has_aux, "has_aux")
        if self.seed is not None:
            integer(self.seed, "seed", 0, SEEDS - 1)
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


@dataclass(frozen=True)
class Called:
    """What a call of the loss gave, and what it has left in the tensors that it writes to."""

    value: torch.Tensor
    grads: list[torch.Tensor]
    aux: list[torch.Tensor]
    written: list[torch.Tensor]


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
        self.aux: Any = None  # how it is nested, and what its tensors are like
        self._seed: int | None = None  # if the loss draws random numbers
        self._follows = True  # is what the loss changes looked for, and carried?
        self._is_known = False  # has the loss been called without changing what is not carried?

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
        looked_at = self._of_the_loss(start)
        parts = {"params": start, "state": list(state or ()), **looked_at}
        zero = torch.zeros((), dtype=torch.int64, device=start[0].device)
        if self.rates.each is not None:
            parts["rate"] = [zero]
        if self.wishes.average is not None:
            parts["averaged"] = [*(leaf.clone() for leaf in start), start[0].new_zeros(())]
        if self.wishes.patience is not None:
            parts["best"] = [*(leaf.clone() for leaf in start), start[0].new_full((), MOST[start[0].dtype]), zero]
        if self.wishes.has_aux:
            parts["aux"] = [torch.zeros_like(leaf) for leaf in self._looked_at(looked_at).aux]
        return self._joined(parts)

    def _of_the_loss(self, start: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """What a call of the loss takes, as it is before the first step."""
        parts = {"params": start}
        if self.rows:
            parts["place"] = [torch.zeros((), dtype=torch.int64, device=start[0].device)]
        if self.reached.written:
            parts["written"] = [tensor.detach().clone() for tensor in self.reached.written]
        if self._seed is not None:
            parts["draws"] = first(self._seed, start[0].device)
        return parts

    def _looked_at(self, parts: dict[str, list[torch.Tensor]]) -> Called:
        """A call of the loss that is no step."""
        draws = torch.get_rng_state()
        try:
            return self.called(parts)
        finally:
            torch.set_rng_state(draws)

    def look(self, start: list[torch.Tensor]) -> None:
        """Have it said whether the loss changes what is not carried yet: raise Uncarried."""
        self._looked_at(self._of_the_loss(start))

    def carry(self, found: Uncarried, start: list[torch.Tensor]) -> None:
        """Carry what the loss was found to change; what cannot be is left to the loops, which refuse it or do not."""
        tensors, draws = found.tensors, found.draws
        if not tensors:
            try:
                self.look(start)
            except Uncarried as again:
                tensors, draws = again.tensors, draws or again.draws
        carried = [self.reached.carry(tensor) for tensor in tensors if can_be_carried(tensor)]
        self._follows = any(carried) or (draws and self._seed is None)
        if draws and self._seed is None:
            self._seed = int(torch.randint(SEEDS, ())) if self.wishes.seed is None else self.wishes.seed

    def carry_nothing(self) -> None:
        """What the loss writes and draws is left to the loops, which refuse it or do not."""
        self._follows = False

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """While it lasts, what a tracer refuses because it is not carried raises Uncarried."""
        try:
            yield
        except (OutsideWriteError, RandomDrawError) as error:
            if not self._follows:
                raise
            raise Uncarried(draws=isinstance(error, RandomDrawError)) from error

    def write_back(self, parts: dict[str, list[torch.Tensor]]) -> None:
        """The caller's tensors get what the loss has written to them."""
        with torch.no_grad():
            for tensor, value in zip(self.reached.written, parts.get("written", ()), strict=True):
                tensor.copy_(value)

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

    @inside()
    def _after(
        self, parts: dict[str, list[torch.Tensor]], update: Callable[..., Any]
    ) -> tuple[dict[str, list[torch.Tensor]], list[torch.Tensor], list[torch.Tensor]]:
        with self._looking(), drawing(parts.get("draws")):
            return self.updated(parts, self._called(parts), update)

    def updated(
        self, parts: dict[str, list[torch.Tensor]], called: Called, update: Callable[..., Any]
    ) -> tuple[dict[str, list[torch.Tensor]], list[torch.Tensor], list[torch.Tensor]]:
        """What a step makes of the loss and its gradients; see `step_and_ends`."""
        params, own = parts["params"], dict(parts)
        value = called.value
        with torch.no_grad():
            rate = self.rates.one if self.rates.each is None else row(self.rates.each, parts["rate"][0])
            after, own["state"] = update(params, self._clipped(called.grads), parts["state"], rate)
            if self.wishes.project is not None:
                after = self._projected(after)
            own["params"] = after
            if self.rows:
                own["place"] = [(parts["place"][0] + 1) % len(self.rows[0])]
            if self.rates.each is not None:
                own["rate"] = [(parts["rate"][0] + 1) % len(self.rates.each)]
            if self.wishes.average is not None:
                own["averaged"] = self._averaged(parts["averaged"], after)
            if "written" in parts:
                own["written"] = called.written
            if "draws" in parts:
                own["draws"] = following(parts["draws"])
            if "aux" in parts:
                own["aux"] = called.aux
            ends, results = [], [value]
            if self.wishes.until is not None:
                ends.append(_truth(self.wishes.until(self._nested(params), value)))
            if self.wishes.patience is not None:
                own["best"], held = self._best(parts)
                ends.append(own["best"][-1] >= self.wishes.patience)
                results.append(held)
            results += called.aux
        return own, results, ends

    def _nested(self, leaves: Sequence[torch.Tensor]) -> Any:
        return tree.tree_unflatten(list(leaves), self.structure)

    def slice(self, parts: dict[str, list[torch.Tensor]]) -> tuple[Any, ...]:
        """What the loss takes last in the next step, if there is such."""
        if not self.rows:
            return ()
        return (tree.tree_unflatten([row(one, parts["place"][0]) for one in self.rows], self.form),)

    def called(self, parts: dict[str, list[torch.Tensor]]) -> Called:
        """The loss and its gradients, and what it writes.

        Raises:
            Uncarried: it changes what is not carried yet.
        """
        with self._looking(), drawing(parts.get("draws")):
            return self._called(parts)

    def _called(self, parts: dict[str, list[torch.Tensor]]) -> Called:
        own = [leaf.detach().requires_grad_() for leaf in parts["params"]]
        for original, leaf in zip(self.reached.params, own, strict=True):
            take_hooks(original, leaf)
        written = [leaf.clone() for leaf in parts.get("written", ())]
        arguments = (self._nested(own), *self.data, *self.slice(parts))
        watched = self._follows and not self._is_known and type(own[0]) is torch.Tensor
        watch = Watch([*own, *written], "draws" in parts) if watched else nullcontext()
        # what a checkpoint computes anew for the gradient would be of the module's own parameters, not of these
        with torch.enable_grad(), watch, without_checkpoints():
            with self.reached.by(own, written) as stand_ins:
                value, aux = self._value_and_aux(arguments)
            grads = torch.autograd.grad(value, own, materialize_grads=True)
        self._is_known = True
        if stand_ins is not None:
            aux = [stand_ins.stand_in(leaf) for leaf in aux]
        found = ([leaf.detach() for leaf in leaves] for leaves in (grads, aux, written))
        return Called(value.detach().reshape(()), *found)

    def _value_and_aux(self, arguments: tuple[Any, ...]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        value: Any = self.loss(*arguments)
        aux: Any = ()
        if isinstance(value, tuple) and not self.wishes.has_aux:
            raise TypeError(
                "loss: wants to return one number, got a tuple; has_aux=True takes a pair of it and the rest"
            )
        if self.wishes.has_aux:
            value, aux = pair(value, "loss: wants to return (number, aux) with has_aux=True")
        found, form = tree.tree_flatten(aux)
        for leaf in found:
            refuse_no_dense_tensor(leaf, "loss: its aux")
        self.aux = form
        return one_number(value), found

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

    def _best(self, parts: dict[str, list[torch.Tensor]]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The best params on held-out data until now, their loss, and how many steps ago that was.

        What the loss writes there to tensors that are carried is forgotten.
        """
        params, (*kept, least, since) = parts["params"], parts["best"]
        with self.reached.by(params, [leaf.clone() for leaf in parts.get("written", ())]):
            held = self.loss(self._nested(params), *self.held_out)
        held = (held[0] if self.wishes.has_aux else held).detach().reshape(())
        better = held < least
        following = [torch.where(better, leaf, old) for leaf, old in zip(params, kept, strict=True)]
        assert self.wishes.patience is not None
        waited = torch.where(better, 0, (since + 1) % (self.wishes.patience + 2))
        return [*following, torch.where(better, held, least), waited], held

    # -- what came of it

    def nested_aux(self, leaves: Sequence[torch.Tensor]) -> Any:
        """What the loss returned beside its number, of these tensors; None if it returns nothing else."""
        return tree.tree_unflatten(list(leaves), self.aux) if self.wishes.has_aux else None

    @inside()
    def end(self, leaves: Sequence[torch.Tensor]) -> str:
        """Why a run stopped by itself that has come to these tensors: "until", "patience" or "divergence"."""
        parts = self.parts(leaves)
        with torch.no_grad():
            value = self.called(parts).value
            if not bool(value.isfinite()):
                return "divergence"
            if self.wishes.until is not None and bool(_truth(self.wishes.until(self._nested(parts["params"]), value))):
                return "until"
        moving = [*parts["params"], *parts["state"]]
        if not all(bool(leaf.isfinite().all()) for leaf in moving):
            return "divergence"
        if self.wishes.patience is not None:
            return "patience"
        if abs(value.item()) < NEARLY_INFINITE and not is_finite_by_chance(lambda: self.called(parts).value):
            raise UnsupportedOperationError(
                f"the run ended where the loss would be no number, but it is {value.item():.6g} there: a mistake of "
                "fastpoly's, please report it. Way out: backend='eager'"
            )
        return "divergence"


def row(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """values[place] of a place that changes from step to step."""
    return values.gather(0, place.expand(1, *values.shape[1:]))[0]


def _truth(value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.bool or value.numel() != 1:
        raise TypeError(f"until: wants to return one bool, a tensor as (loss < 1e-3) is; got {shown(value)}")
    return value.reshape(())
