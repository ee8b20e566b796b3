"""Many descents from their beginning to their result."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._errors import UnsupportedOperationError
from ._fuse.gpu_many import GpuManyProgram, gpu_many_program
from ._fuse.many import ManyProgram, many_program
from ._known_kernels import MOST_KNOWN, key_of, known
from ._many_result import ManyResult
from ._monitor import Monitor
from ._preparing import preparing
from ._problem_axes import Problems
from ._rates import Rates
from ._reached import Reached, untrained
from ._repeat import ASKED, repeat
from ._steadiness import refuse_unsteady
from ._torch_private import tree
from ._training import Training, Wishes
from ._warn import warn_once
from .optimizers import SGD, FunctionalOptimizer, resolved

if TYPE_CHECKING:
    from ._monitor import Progress

RUNS, DIVERGED, ENDED = 0.0, 1.0, 2.0
"""What a problem carries of itself."""

GPUS = frozenset({"cuda"})
"""Kinds of devices that backend="triton" is for."""

FULL = 2.0**20
"""A counter of steps is two floats: single precision counts to 2**24 only."""


class Run:
    """See `fastpoly.descend_many`, whose checked arguments these are.

    Attributes:
        interrupted: was there a Ctrl-C?
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        params: Any,
        problems: Problems,
        learn_rate: Any,
        optimizer: Any,
        steps: int,
        trace_every: int | None,
        wishes: Wishes,
        report: Progress | None,
    ) -> None:
        self.loss, self.problems, self.steps, self.trace_every = loss, problems, steps, trace_every
        leaves, self.structure = tree.tree_flatten(params)
        self.count = len(leaves)
        self.dtype = leaves[0].dtype
        first = [leaf.detach() for leaf in problems.one(0)]
        rule = resolved(optimizer, self.structure, first[: self.count])
        if isinstance(rule, FunctionalOptimizer):
            raise TypeError(
                "optimizer: descend_many takes sgd, momentum, nesterov, adam, adamw, lion, or an object of "
                f"fastpoly.optimizers that has these options; got {optimizer!r}"
            )
        self.rule = rule
        rate, self.rates = _rates(learn_rate, problems.count, first[0])
        reached = Reached(leaves, lambda tensor: warn_once(untrained(tensor), UserWarning, loss))
        data = tuple(problems.filled(first)[1:])
        self.training = Training(loss, data, first[: self.count], self.structure, rule, rate, reached, wishes, steps)
        self.training.carry_nothing()
        self.own_data = [at for at in range(self.count, len(first)) if problems.is_own[at]]
        self.monitor = Monitor(report)
        self._first = first

    @property
    def interrupted(self) -> bool:
        """Was there a Ctrl-C?"""
        return self.monitor.interrupted

    # -- a step of one problem

    def begin(self, leaves: list[torch.Tensor], rate: torch.Tensor | None) -> list[torch.Tensor]:
        """What a problem begins with: what it trains, its data and learn rate, the steps it took, how it stands."""
        own = leaves[: self.count]
        training = self.training.begin(own, self.rule.start(own))
        self.trained = len(training)
        zero = own[0].new_zeros(())
        return [*training, *(leaves[at] for at in self.own_data), *([] if rate is None else [rate]), zero, zero, zero]

    def step(self, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        """The same after a step, and then: what is not finite once the problem has ended, and the loss before it."""
        beside = len(self.own_data) + (self.rates is not None)
        own, given, stands = leaves[: self.trained], leaves[self.trained : -3], leaves[-3:]
        assert len(given) == beside
        *after, stops, value = self._stepped([*own, *stands], given)
        return [*after[:-3], *given, *after[-3:], stops, value]

    def _stepped(self, leaves: list[torch.Tensor], given: list[torch.Tensor]) -> list[torch.Tensor]:
        """The same without what is given: the problem's data, and its learn rate if it has one."""
        *own, few, many, end = leaves
        training, filled = self.training, list(self._first)
        for at, leaf in zip(self.own_data, given, strict=False):
            filled[at] = leaf
        before = training.data, training.rates.one
        training.data = tuple(self.problems.filled(filled)[1:])
        training.rates.one = training.rates.one if self.rates is None else given[-1]
        try:
            after, results, ends = training.step_and_ends(own)
        finally:
            training.data, training.rates.one = before
        value, runs = results[0], end == RUNS
        for wished in ends:
            end = torch.where(runs & wished, ENDED, end)
        end = torch.where(runs & ~value.isfinite(), DIVERGED, end)
        goes = end == RUNS
        few = few + goes.to(few.dtype)
        full = few == FULL
        nothing = torch.full_like(value, torch.nan)
        return [
            *(torch.where(goes, new, old) for new, old in zip(after, own, strict=True)),
            *(torch.where(full, 0.0, few), many + full.to(many.dtype), end),
            torch.where(runs, torch.zeros_like(value), nothing),
            torch.where(goes, value, nothing),
        ]

    # -- all of them

    def result(self, backend: str, started: float) -> ManyResult:
        """Do it."""
        reason = ASKED
        program: ManyProgram | GpuManyProgram | None = None
        if backend != "eager":
            self._refuse_device(backend)
            try:
                program = self._program(backend)
            except UnsupportedOperationError as error:
                if backend != "auto":
                    raise
                reason = str(error)
                warn_once(f"running one problem after the other, slower: {error}", RuntimeWarning, self.loss)
        if program is None:
            carried, kept, name = self._one_by_one(backend)
        else:
            name, inputs = "triton" if isinstance(program, GpuManyProgram) else "fused", self._inputs()
            wanted = [*range(self.trained), *range(len(inputs[0]) - 3, len(inputs[0]))]
            count, every = self.problems.count, self.trace_every
            carried, kept = program.run(*inputs, count, self.steps, every, self.monitor, wanted)
        return self._made(carried, kept[1], (name, reason), program, started)

    def _refuse_device(self, backend: str) -> None:
        devices = {str(leaf.device) for leaf in self.problems.leaves}
        if len(devices) > 1:
            raise ValueError(
                f"params, data: want one device, got {' and '.join(sorted(devices))}; move them with .to()"
            )
        is_on_gpu = self._first[0].device.type in GPUS
        if backend in ("fused", "triton") and is_on_gpu != (backend == "triton"):
            way = "'triton' is for a CUDA GPU, 'fused' for the CPU"
            raise ValueError(f"backend: got {backend!r} for tensors on {devices.pop()}; {way}, 'auto' for either")

    def _program(self, backend: str) -> ManyProgram | GpuManyProgram:
        is_on_gpu = backend == "triton" or (backend == "auto" and self._first[0].is_cuda)
        make = gpu_many_program if is_on_gpu else many_program
        like = self.begin(self._first, None if self.rates is None else self.rates[0])
        key, alive = self._key()
        with preparing():
            key = None if key is None else (key, is_on_gpu)
            found = known(key, (self, alive), lambda: make(self.step, like, {}, 0))
            if self.steps and found.is_to_be_compared():
                inputs, is_own = self._inputs()
                one = [leaf[:1] if own else leaf for leaf, own in zip(inputs, is_own, strict=True)]
                after, kept = found.program.run(one, is_own, 1, 1, 1, Monitor())
                refuse_unsteady(self.step, like, [leaf[0] for leaf in after], [leaf[0, 0] for leaf in kept])
        return found.program

    def _key(self) -> tuple[Hashable | None, Any]:
        """What the kernel of a call is known by, and what must stay alive for it; None if nobody knows."""
        wishes, functions = self.training.wishes, [self.loss, self.training.wishes.project, self.training.wishes.until]
        keys = [(None, None) if one is None else key_of(one) for one in functions]
        shared = [leaf for leaf, own in zip(self.problems.leaves, self.problems.is_own, strict=True) if not own]
        is_known = all(one is None or key is not None for one, (key, _) in zip(functions, keys, strict=True))
        is_ours = type(self.rule).__module__ == SGD.__module__ and is_dataclass(self.rule)
        if not is_known or not is_ours or self.problems.has_others or sum(leaf.nbytes for leaf in shared) > MOST_KNOWN:
            return None, None
        leaves = tuple((leaf.shape, leaf.dtype, str(leaf.device)) for leaf in self._first)
        values = tuple(leaf.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes() for leaf in shared)
        rate = None if self.training.rates.one is None or self.rates is not None else self.training.rates.one.item()
        numbers = (rate, wishes.clip_norm, wishes.clip_value, repr(self.rule), self.count)
        own = tuple(key for key, _ in keys)
        return (own, leaves, values, tuple(self.problems.is_own), str(self.structure), numbers), [
            one for _, one in keys
        ]

    def _inputs(self) -> tuple[list[torch.Tensor], list[bool]]:
        """What all problems begin with, and what of it they have each for themselves: that has an axis more."""
        begun = self.begin([leaf.detach() for leaf in self.problems.leaves], self.rates)
        one = self.begin(self._first, None if self.rates is None else self.rates[0])
        return begun, [many.ndim > single.ndim for many, single in zip(begun, one, strict=True)]

    def _one_by_one(self, backend: str) -> tuple[list[torch.Tensor], list[torch.Tensor], str]:
        """The same without a kernel of many, and what ran. Each problem's data are constants of its own loop."""
        inputs, is_own = self._inputs()
        every, beside, name = self.trace_every, len(inputs) - 3 - self.trained, backend
        ends: list[list[torch.Tensor]] = []
        traces = []
        for problem in range(self.problems.count):
            if self.monitor.interrupted:
                break
            leaves = [leaf[problem] if own else leaf for leaf, own in zip(inputs, is_own, strict=True)]
            given = leaves[self.trained : self.trained + beside]
            alone = self.monitor.child()
            made = repeat(
                partial(self._stepped, given=given),
                [*leaves[: self.trained], *leaves[-3:]],
                *(self.steps, every, backend, alone),
                names={},
                about=self.loss,
                stop_at=0,
            )
            name = made.backend
            if not alone.interrupted:
                ends.append(made.carried)
                trace = leaves[0].new_full((0 if every is None else -(-self.steps // every),), torch.nan)
                trace[: len(made.results[1])] = made.results[1]
                traces.append(trace)
            self.monitor.report(problem + 1, self.problems.count)
        if not ends:
            raise KeyboardInterrupt("interrupted before the first problem was done")
        return [torch.stack(one) for one in zip(*ends, strict=True)], [torch.empty(0), torch.stack(traces)], name

    def _made(
        self,
        carried: list[torch.Tensor],
        trace: torch.Tensor,
        made_by: tuple[str, str],
        program: ManyProgram | GpuManyProgram | None,
        started: float,
    ) -> ManyResult:
        parts = self.training.parts(carried[: self.trained])
        *_, few, many, end = carried
        steps = (few.double() + many.double() * FULL).long()
        diverged = end == DIVERGED
        # in the last step of all, whose loss nobody asked for
        return ManyResult(
            tree.tree_unflatten(parts["params"], self.structure),
            trace if self.trace_every is not None else None,
            steps,
            time.perf_counter() - started,
            *made_by,
            torch.where(diverged, steps, -1) if bool(diverged.any()) else None,
            end == ENDED,
            parts["state"],
            program.written.page if program is not None else None,
        )


def _rates(given: Any, count: int, like: torch.Tensor) -> tuple[Rates, torch.Tensor | None]:
    """The learn rate of a step, and one for each problem if they have their own."""
    if isinstance(given, torch.Tensor | np.ndarray | list | tuple) and np.ndim(given) == 1:
        rates = torch.as_tensor(np.asarray(given, np.float64)).to(like)
        if len(rates) != count:
            raise ValueError(f"learn_rate: wants a number, or one for each of {count:,} problems, got {len(rates):,}")
        if not bool((rates.isfinite() & (rates > 0)).all()):
            raise ValueError("learn_rate: wants finite numbers > 0; 0.01 is one to begin with")
        return Rates(float(rates[0]), None, 0, like, True), rates
    return Rates(given, None, 0, like, True), None
