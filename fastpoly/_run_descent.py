"""One descent from its beginning to its result: the training step, the loop that repeats it, and who watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from fastpoly_kernels.aside import imported

from ._descent_result import DescentResult
from ._errors import GroupError
from ._monitor import Monitor
from ._progress import shown
from ._rates import Rates
from ._reached import Reached, untrained
from ._repeat import Repeated, repeat, run
from ._run_file import RunFile, Saved, digest_of
from ._tensors import refuse_no_float_tensor, tensor_labels
from ._torch_private import tree
from ._training import Training, Wishes
from ._warn import warn_once
from ._written import Uncarried
from .optimizers import FunctionalOptimizer, resolved

if TYPE_CHECKING:
    from ._group import Group
    from ._monitor import Progress


SETTINGS = ("cycle", "clip_norm", "clip_value", "patience", "average", "has_aux", "seed")
"""Of `Wishes`, those that are numbers or words."""


class Descent:
    """See `fastpoly.descend`, whose checked arguments these are.

    Attributes:
        rates: the learn rates.
        interrupted: was there a Ctrl-C?
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        data: tuple[Any, ...],
        params: list[torch.Tensor],
        structure: Any,
        wishes: Wishes,
        learn_rate: Any,
        optimizer: Any,
        steps: int,
        trace_every: int | None,
        group: Group | None = None,
    ) -> None:
        self.loss, self.data, self.structure, self.wishes = loss, data, structure, wishes
        self.steps, self.trace_every = steps, trace_every
        self.rule = rule = resolved(optimizer, structure, params)
        self.start = [leaf.detach() for leaf in params]
        wanted, own = (rule.wants_rate, rule.own_rates) if isinstance(rule, FunctionalOptimizer) else (True, None)
        self.rates = Rates(learn_rate, own, steps, self.start[0], wanted)
        reached = Reached(params, lambda tensor: warn_once(untrained(tensor), UserWarning, loss))
        made_of = (loss, data, self.start, structure, rule, self.rates, reached, wishes, steps)
        if group is None:
            self.training = Training(*made_of)
        else:
            self.training = shared = imported("fastpoly._shared_training").SharedTraining(*made_of)
            shared.group = group
            shared.carry_nothing()
        self.group = group
        self.interrupted = False
        self.callback: Callable[..., object] | None = None
        self.callback_every = 1
        self.file: RunFile | None = None
        self._keep: tuple[Any, float] | None = None
        self.earlier: list[torch.Tensor] = []  # results of steps that came before the loop
        self.backend = ""
        self._optimizer = optimizer

    def call_back(self, function: Callable[..., object], every: int) -> None:
        """Call this after every so many steps."""
        self.callback, self.callback_every = function, every

    def keep_in(self, path: Any, seconds: float) -> None:
        """Keep the run in a file."""
        self._keep = path, seconds

    def _file_of(self, path: Any, seconds: float) -> RunFile:
        """The file of this run, once it is known what the loss writes to: that changes, and says nothing of the run."""
        one = [self.rates.one] if self.rates.one is not None else []
        each = [self.rates.each] if self.rates.each is not None else []
        held = [leaf for leaf in tree.tree_leaves((self.data, self.wishes.held_out)) if isinstance(leaf, torch.Tensor)]
        held = [leaf for leaf in held if self.training.reached.written_at(leaf) is None]
        functions = [_name(one) for one in (self.loss, self.wishes.project, self.wishes.until)]
        wishes = [getattr(self.wishes, name) for name in SETTINGS]
        texts = [self.structure, self._rule_told(), functions, wishes, self.trace_every]
        return RunFile(path, seconds, digest_of([*self.start, *held, *self.training.rows, *one, *each], texts))

    def _rule_told(self) -> Any:
        """What the optimizer is, told apart by its text."""
        groups = getattr(self.rule, "groups", None)
        if groups is not None:
            return groups
        return _name(self._optimizer) if callable(self._optimizer) else repr(self._optimizer)

    def run(
        self,
        labels: list[str],
        names: tuple[str, ...],
        state: Any,
        backend: str,
        progress: bool | Progress,
        started: float,
    ) -> DescentResult:
        """Do it.

        Args:
            labels: what the params are called.
            names: what the loss calls its arguments.
            state: the optimizer's, from which to go on.
            started: when the caller began.
        """
        named = {id(leaf): label for leaf, label in zip(self.start, labels, strict=True)}
        named |= {id(self.rates.one): "learn_rate", id(self.rates.each): "learn_rates"}
        named |= tensor_labels(self.data, names[1:]) | tensor_labels(tuple(self.training.rows), ("x",) * 99)
        while True:
            try:
                return self._run(named, state, backend, progress, started)
            except Uncarried as found:
                self.training.carry(found, self.start)

    def _run(
        self, named: dict[int, str], state: Any, backend: str, progress: bool | Progress, started: float
    ) -> DescentResult:
        """The same, unless the loss is found to change what is not carried: then Uncarried is raised."""
        saved = None
        if self._keep is not None:
            self.training.look(self.start)  # what the file has goes by that
            self.file = self._file_of(*self._keep)
            saved = self.file.load()
        if self.group is not None:
            self._agree(self.group, state, backend)
        leaves, taken = self._begin(state, saved)
        with shown(progress) as report:
            monitor = Monitor(report)
            if saved is not None and (saved.ended or taken >= self.steps):
                made = Repeated(leaves, [result[:0] for result in saved.results], 0, saved.ended, saved.backend, None)
            elif self.group is not None:
                made = self._shared(self.group, leaves, taken, backend, monitor, named)
            else:
                made = repeat(
                    self.training.step,
                    leaves,
                    self.steps - taken,
                    self.trace_every,
                    saved.backend if saved is not None else backend,
                    monitor,
                    names=named,
                    about=self.loss,
                    stop_at=0,
                    finite=sum(len(self.training.parts(leaves)[name]) for name in ("params", "state")),
                    offset=taken,
                    watch=self if self.callback is not None or self.file is not None else None,
                )
        self.interrupted = monitor.interrupted
        return self._result(made, taken + made.steps, started)

    # -- with others (see `fastpoly._loops.shared`)

    def _agree(self, group: Group, state: Any, backend: str) -> None:
        rates = [rate for rate in (self.rates.one, self.rates.each) if rate is not None]
        moving = [leaf for leaf in tree.tree_leaves(state) if isinstance(leaf, torch.Tensor)]
        settings = {"steps": self.steps, "trace_every": self.trace_every, "backend": backend}
        rule = str(self._rule_told())
        if " at 0x" in rule:  # where an object lies is each process's own affair
            rule = type(self.rule).__name__
        settings |= {"callback_every": self.callback and self.callback_every, "optimizer": rule}
        settings |= {"learn_rate": digest_of(rates, ()), "state": digest_of(moving, ())}
        group.agree(self.start, settings | {name: getattr(self.wishes, name) for name in SETTINGS})

    def _shared(
        self,
        group: Group,
        leaves: list[torch.Tensor],
        taken: int,
        backend: str,
        monitor: Monitor,
        named: dict[int, str],
    ) -> Repeated:
        name, loop, refused = imported("fastpoly._loops.shared").begin(self.training, leaves, named, backend)
        if refused is not None:
            text = f"running with backend='eager', many times slower: {refused}"
            warn_once(text, RuntimeWarning, self.loss)
        watch = self if self.callback is not None else None
        try:
            made = run(name, loop, self.steps - taken, self.trace_every, monitor, True, taken, watch)
            is_same = monitor.interrupted or group.same(made.carried)
        except GroupError as error:
            error.params, error.steps = self._nested(loop.carried()[: len(self.start)]), taken + loop.taken
            raise
        if not is_same:
            text = "the processes have come to params of other bits: their processors differ. All get rank 0's"
            warn_once(text, RuntimeWarning, self.loss)
        return replace(made, reason=refused or f"shared out over {group.size} processes")

    # -- before the loop

    def _begin(self, state: Any, saved: Saved | None) -> tuple[list[torch.Tensor], int]:
        """The tensors that the loop begins with, and how many steps came before."""
        rule, training, taken = self.rule, self.training, 0
        if state is None and isinstance(rule, FunctionalOptimizer):
            state = rule.given_state
        if not isinstance(rule, FunctionalOptimizer):
            moving = rule.start(self.start)
            if state is not None:
                moving = _like(tree.tree_leaves(state), moving)
            leaves = training.begin(self.start, moving)
        elif state is not None or self.steps == 0:
            leaves = training.begin(self.start, rule.flattened(state))
        else:  # its first call shows what the state is made of
            before = training.begin(self.start, None)
            leaves, results = training.first(before)
            if not training.parts(leaves)["state"] or not bool(results[0].isfinite()):
                leaves = before
                training.begin(self.start, None)
            else:
                taken = 1
                self.earlier = [result.reshape(1, *result.shape) for result in results]
        for leaf in training.parts(leaves)["state"]:
            refuse_no_float_tensor(leaf, "optimizer: its state")
        if saved is not None:
            leaves, taken, self.earlier = saved.carried, saved.steps, saved.results
        return leaves, taken

    # -- who watches (see `fastpoly._repeat.Watch`)

    def began(self, backend: str) -> None:
        self.backend = backend

    def most(self, taken: int) -> int:
        return self.callback_every - taken % self.callback_every if self.callback is not None else self.steps

    def saw(self, taken: int, carried: Callable[[], list[torch.Tensor]], results: list[torch.Tensor]) -> bool:
        ends = False
        if self.callback is not None and taken % self.callback_every == 0:
            parts = self.training.parts(carried())
            self.training.write_back(parts)
            value = self.training.called(parts).value
            ends = self.callback(taken, self._nested(parts["params"]), value) is True
            if self.group is not None:
                ends = self.group.any(ends, value)
        if self.file is not None and self.file.is_due():
            self.file.save(Saved(taken, self.backend, carried(), self._whole(results), ended=False))
        return ends

    def ended(self, taken: int, carried: list[torch.Tensor], results: list[torch.Tensor], stopped: bool) -> None:
        if self.file is not None:
            self.file.save(Saved(taken, self.backend, carried, self._whole(results), stopped))

    def _whole(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        """Results with those that came before the loop."""
        if not self.earlier or self.trace_every is None:
            return results
        return [torch.cat(pair) for pair in zip(self.earlier, results, strict=True)]

    # -- after it

    def _nested(self, leaves: list[torch.Tensor]) -> Any:
        return tree.tree_unflatten(leaves, self.structure)

    def _result(self, made: Repeated, taken: int, started: float) -> DescentResult:
        parts = self.training.parts(made.carried)
        ended_by = "steps"
        if made.stopped:
            ended_by = self.training.end(made.carried)
        elif taken < self.steps:
            ended_by = "Ctrl-C" if self.interrupted else "callback"
        self.rates.taken(taken)
        state: Any = parts["state"]
        if isinstance(self.rule, FunctionalOptimizer):
            state = self.rule.unflattened(state)
            self.rule.write_back(state)
        self.training.write_back(parts)
        losses, *others = self._whole(made.results)
        averaged, best = parts.get("averaged"), parts.get("best")
        held = others.pop(0) if best else None
        aux, last_aux = self.training.nested_aux(others), self.training.nested_aux(parts.get("aux", ()))
        return DescentResult(
            self._nested(parts["params"]),
            losses,
            taken,
            time.perf_counter() - started,
            made.backend,
            taken if ended_by == "divergence" else None,
            state,
            made.reason,
            ended_by,
            self._nested(averaged[:-1]) if averaged else None,
            self._nested(best[:-2]) if best else None,
            held,
            aux,
            last_aux if taken else None,
            made.source,
        )


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _like(state: list[Any], wanted: list[torch.Tensor]) -> list[torch.Tensor]:
    """A state of an earlier result, if it has what the optimizer wants for these params."""
    for leaf in state:
        refuse_no_float_tensor(leaf, "state")
    if [leaf.shape for leaf in state] != [leaf.shape for leaf in wanted]:
        got, wants = ([tuple(leaf.shape) for leaf in leaves] for leaves in (state, wanted))
        raise ValueError(f"state: wants an earlier result's for these params: tensors of shapes {wants}, got {got}")
    return state
