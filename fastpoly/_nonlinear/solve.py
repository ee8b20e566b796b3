"""Many problems of nonlinear least squares, by one kernel that repeats a step of the method.

Those that have not converged after some steps are gathered and go on by themselves, so that a slow problem does not
keep those that it shares registers with. What did not converge is tried again, with differences where autograd's
Jacobian is not finite, and with more damping; the better end counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .._arrays import Array
from .._backends import missing_triton
from .._errors import BackendUnavailableError, UnsupportedOperationError
from .._fuse.gpu_many import GpuManyProgram, gpu_many_program
from .._fuse.many import ManyProgram, many_program
from .._known_kernels import known
from .._monitor import Monitor
from .._preparing import preparing
from .._problem import shown
from .._steadiness import refuse_unsteady
from .._warn import warn_once
from .levenberg import (
    BOTH,
    FTOL,
    GTOL,
    NOT_FINITE,
    RUNS,
    XTOL,
    State,
    Tolerances,
    begin,
    step,
)
from .objective import Objective

MAXFEV, REFUSED = 8, 9
"""Further ways to end: too many evaluations; the samples cannot give this."""

SUCCESSES = (FTOL, XTOL, BOTH, GTOL)

FIRST_DAMPING = 1e-3
"""Relative to the diagonal of the scaled normal equations."""

SECOND_DAMPING = 1e3
"""For a second attempt: first steps that are short, and down the slope."""

PASSES = (24, 72)
"""Evaluations after which those that have not ended go on by themselves."""

GPU = "cuda"
"""Where backend="triton" runs."""

NO_INFLUENCE = 1e-10
"""A param of which the model moves by less than this part of the observations, when the param moves by its own size,
has been lost on the way: the slope there is no way back."""


@dataclass(frozen=True, eq=False)
class Problems:
    """What is to be solved.

    Attributes:
        objective: of one problem.
        tensors: what the objective takes beside the params; the problems first in those that have them.
        is_own: which have them.
        start: (problems, p).
        lower, upper: (problems, p), or None.
        is_refused: (problems,): those whose samples cannot give this.
        magnitude: (problems,), of what is observed: the root of its sum of squares.
        about: the caller's function, of which warnings are.
        key: equal for problems that have the same kernel, but for shapes; None if nobody knows.
    """

    objective: Objective
    tensors: Sequence[torch.Tensor]
    is_own: Sequence[bool]
    start: torch.Tensor
    lower: torch.Tensor | None
    upper: torch.Tensor | None
    is_refused: Array
    magnitude: Array
    about: Any
    key: Hashable | None = None

    def on(self, device: str) -> Problems:
        """The same on a device."""
        moved = {name: getattr(self, name) for name in ("start", "lower", "upper")}
        moved = {name: None if one is None else one.to(device) for name, one in moved.items()}
        return replace(self, tensors=[one.to(device) for one in self.tensors], **moved)

    def some(self, which: Array) -> Problems:
        """Some of them."""
        rows = torch.from_numpy(which).to(self.start.device)
        return replace(
            self,
            tensors=[one[rows] if own else one for one, own in zip(self.tensors, self.is_own, strict=True)],
            start=self.start[rows],
            lower=None if self.lower is None else self.lower[rows],
            upper=None if self.upper is None else self.upper[rows],
            is_refused=self.is_refused[which],
            magnitude=self.magnitude[which],
        )


@dataclass(frozen=True, eq=False)
class Ends:
    """How the problems ended: what their `State` has, in arrays with the problems first.

    Attributes:
        end: as `levenberg` has it, or MAXFEV or REFUSED.
        backend: what ran.
    """

    params: Array
    squares: Array
    gradient: Array
    normal: Array
    scales: Array
    evaluations: Array
    end: Array
    backend: str


def solve(problems: Problems, tolerances: Tolerances, most: int, backend: str, monitor: Monitor) -> Ends:
    """Solve them.

    Args:
        most: evaluations of a problem's residuals.
        backend: "auto", "fused", "triton" or "eager".
        monitor: hears Ctrl-C, and is told how many problems have been looked at.
    """
    count = len(problems.start)
    problems = problems.on(GPU) if backend == "triton" else problems
    like = begin(problems.start[0], FIRST_DAMPING)
    fields = [np.full((count, *one.shape), np.nan, one.cpu().numpy().dtype) for one in like]
    whole = State(*fields)  # type: ignore[arg-type]  # arrays, here
    whole.end[:] = REFUSED
    whole.evaluations[:] = 0
    waiting = np.flatnonzero(~problems.is_refused)
    attempt = _Attempt(problems.some(waiting) if len(waiting) < count else problems, tolerances, backend)
    with monitor.listening():
        ends = attempt.run(FIRST_DAMPING, most, monitor)
        _put(whole, waiting, ends)
        again = waiting[_is_doubtful(ends, problems.magnitude[waiting])]
        if len(again) and not monitor.interrupted:
            careful = (
                replace(problems.objective, jacobian="both") if problems.objective.jacobian == "autograd" else None
            )
            second = replace(problems.some(again), objective=careful or problems.objective)
            for damping in (FIRST_DAMPING, SECOND_DAMPING) if careful else (SECOND_DAMPING,):
                found = _Attempt(second, tolerances, backend).run(damping, most, monitor.child())
                _put_better(whole, again, found)
    ended = {name: values for name, values in whole._asdict().items() if name in Ends.__dataclass_fields__}
    return Ends(**ended, backend=attempt.backend)


def refuse_backend(backend: object) -> None:
    """Raise unless it is a backend that is here."""
    if backend not in ("auto", "fused", "triton", "eager"):
        got = f"got {shown(backend)}; auto is the fastest that can"
        raise ValueError(f"backend: wants auto, fused, triton or eager, {got}")
    if backend == "triton":
        reason = missing_triton()
        if reason is not None:
            raise BackendUnavailableError(f"backend 'triton' cannot run here: {reason}")


class _Attempt:
    """The problems from their starts with one objective."""

    def __init__(self, problems: Problems, tolerances: Tolerances, backend: str) -> None:
        self.problems, self.tolerances = problems, tolerances
        self.own = [at for at, own in enumerate(problems.is_own) if own]
        self.bounds = [] if problems.lower is None or problems.upper is None else [problems.lower, problems.upper]
        self.program: ManyProgram | GpuManyProgram | None = None
        self.backend = "eager"
        if backend != "eager" and len(problems.start):
            self._fuse(backend)

    def _fuse(self, backend: str) -> None:
        problems = self.problems
        like = [*begin(problems.start[0], FIRST_DAMPING), *(one[0] for one in self._beside())]
        key = None
        if problems.key is not None:
            shapes = tuple((one.shape, one.dtype) for one in like)
            key = (problems.key, repr(problems.objective.jacobian), shapes, self.tolerances, str(like[0].device))
        try:
            with preparing():
                is_on_gpu = backend == "triton"
                make = gpu_many_program if is_on_gpu else many_program
                found = known(key, problems, lambda: make(self.step, like, {}, 0))
                self.program, self.backend = found.program, "triton" if is_on_gpu else "fused"
                if found.is_to_be_compared():
                    self._compare(like)
        except UnsupportedOperationError as error:
            if backend != "auto":
                raise
            self.program, self.backend = None, "eager"
            warn_once(
                f"running one problem after the other, many times slower: {error}", RuntimeWarning, problems.about
            )

    def _compare(self, like: list[torch.Tensor]) -> None:
        """The first evaluation of the first problem with torch's own."""
        assert self.program is not None
        after, _ = self.program.run(like, [False] * len(like), 1, 1, None, Monitor())
        refuse_unsteady(lambda leaves: self.step(leaves)[:-1], like, [one[0] for one in after], [])

    def _beside(self) -> list[torch.Tensor]:
        """What a problem has for itself beside its state: bounds, and tensors."""
        return [*self.bounds, *(self.problems.tensors[at] for at in self.own)]

    def step(self, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        """A step of one problem; and what is not finite once it has ended."""
        width = len(State._fields)
        state, beside = State(*leaves[:width]), leaves[width:]
        box = (beside[0], beside[1]) if self.bounds else (None, None)
        tensors = list(self.problems.tensors)
        for at, one in zip(self.own, beside[len(self.bounds) :], strict=True):
            tensors[at] = one
        within = None if box[0] is None else box
        after = step(state, lambda params: self.problems.objective.sums(params, tensors, within), self.tolerances, *box)
        nothing = torch.full_like(state.end, torch.nan)
        return [*after, *beside, torch.where(state.end == RUNS, torch.zeros_like(nothing), nothing)]

    def run(self, damping: float, most: int, monitor: Monitor) -> State:
        """How they end after so many evaluations at most, as arrays."""
        begun = begin(self.problems.start, damping)
        count = len(self.problems.start)
        state = [one if at == 0 else one.expand(count, *one.shape) for at, one in enumerate(begun)]
        result = [one.cpu().numpy().copy() for one in state]
        which, taken = np.arange(count), 0
        for limit in (*(limit for limit in PASSES if limit < most), most):
            if not len(which) or monitor.interrupted:
                break
            rows = torch.from_numpy(which).to(self.problems.start.device)
            beside = [one if len(which) == count else one[rows] for one in self._beside()]
            start = [*state, *beside]
            after = self._advance(start, limit - taken, monitor)
            for whole, part in zip(result, after, strict=True):
                whole[which[: len(part)]] = part
            runs = after[-1] == RUNS
            which, taken = which[: len(runs)][runs], limit
            monitor.report(count - len(which), count)
            state = [torch.from_numpy(one[runs]).to(self.problems.start.device) for one in after]
        ended = State(*result)  # type: ignore[arg-type]
        ended.end[ended.end == RUNS] = MAXFEV
        return ended

    def _advance(self, inputs: list[torch.Tensor], steps: int, monitor: Monitor) -> list[Array]:
        """The states after so many steps."""
        width, count = len(State._fields), len(inputs[0])
        if self.program is not None:
            after, _ = self.program.run(inputs, [True] * len(inputs), count, steps, None, monitor.child(), range(width))
            return [one.cpu().numpy() for one in after]
        rows = []
        for problem in range(count):
            if monitor.interrupted:
                break
            leaves = [one[problem] for one in inputs]
            for _ in range(steps):
                leaves = self.step(leaves)[:-1]
                if leaves[width - 1].item() != RUNS:
                    break
            rows.append(leaves[:width])
        return [torch.stack(list(one)).numpy() for one in zip(*rows, strict=True)]


def _is_doubtful(ends: State, magnitude: Array) -> Array:
    """Is another attempt worth it? Not converged, or to where a param has no influence any more."""
    return ~np.isin(ends.end, SUCCESSES) & (ends.end != NOT_FINITE) | has_lost(ends, magnitude)


def has_lost(ends: Any, magnitude: Array) -> Array:
    """Which problems have come to where a param has no influence any more; (problems,)."""
    diagonal = _diagonal(ends)
    with np.errstate(invalid="ignore", over="ignore"):
        influence = np.sqrt(diagonal) * np.abs(ends.params)
        lost = (influence < NO_INFLUENCE * magnitude[:, None]) & (diagonal < 1e-16 * ends.scales**2)
    return lost.any(axis=1)  # type: ignore[no-any-return]


def _diagonal(ends: Any) -> Array:
    """Of J' J: (problems, p)."""
    p = ends.params.shape[1]
    places = np.cumsum(np.arange(1, p + 1)) - 1
    return ends.normal[:, places]  # type: ignore[no-any-return]


def _put(whole: State, which: Array, part: State) -> None:
    for into, values in zip(whole, part, strict=True):
        into[which] = values


def _put_better(whole: State, which: Array, part: State) -> None:
    """Take over those that ended better than before: a success rather than none, a smaller sum of squares."""
    had, has = np.isin(whole.end[which], SUCCESSES), np.isin(part.end, SUCCESSES)
    margin = 1e-8 * np.abs(whole.squares[which])
    better = (has & ~had) & (part.squares <= whole.squares[which] + margin) | (
        (has | ~had) & (part.squares < whole.squares[which] - margin)
    )
    evaluations = whole.evaluations[which] + part.evaluations
    _put(whole, which[better], State(*(values[better] for values in part)))
    whole.evaluations[which] = evaluations


def linearized(problems: Problems, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted residuals and their Jacobian at params (problems, p): (problems, n) and (problems, n, p).

    The Jacobian of a robust loss is multiplied so that J' J is what a step takes for the curvature of the cost.
    """
    objective = problems.objective
    if objective.jacobian == "autograd":
        objective = replace(objective, jacobian="both")
    own = [at for at, has in enumerate(problems.is_own) if has]
    bounds = [] if problems.lower is None or problems.upper is None else [problems.lower, problems.upper]

    def at(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        box, tensors = tuple(leaves[1 : 1 + len(bounds)]) or None, list(problems.tensors)
        for place, one in zip(own, leaves[1 + len(bounds) :], strict=True):
            tensors[place] = one
        residuals, columns = objective.root(list(leaves[0]), tensors, box)
        return [residuals, torch.stack(columns, 1)]

    inputs = [params, *bounds, *(problems.tensors[place] for place in own)]
    like = [one[0] for one in inputs]
    key = None
    if problems.key is not None:
        key = ("linearized", problems.key, repr(objective.jacobian), tuple((one.shape, one.dtype) for one in like))
    try:
        found = known(key, problems, lambda: many_program(lambda leaves: [*leaves, *at(leaves)], like, {}, None))
        _, made = found.program.run(inputs, [True] * len(inputs), len(params), 1, 1, Monitor(), ())
        return made[0][:, 0], made[1][:, 0]
    except UnsupportedOperationError:  # as it was said when they were solved
        rows = [at([one[k] for one in inputs]) for k in range(len(params))]
        return torch.stack([one for one, _ in rows]).detach(), torch.stack([one for _, one in rows]).detach()
