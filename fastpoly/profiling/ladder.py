"""The ladder climbed: each rung found right, then all of them timed.

Requirements: no time without a right answer; noise that falls on all alike; and a claim that can fail. The rungs take
turns in rounds. What a change removed is measured anew in each of them, by runs of the two rungs, one right after the
other, and the first rung is measured anew between these pairs: whether the parts add up to the whole is then a fact
about the measurements, and not about subtracting.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch

from .._backends import missing_cuda
from .._errors import BackendUnavailableError
from .._monitor import Progress
from .._post import DEGREE, LEARN_RATE, samples
from .._problem import MAX_STEPS, FitProblem, integer, shown
from .._tensors import refuse_no_function
from .results import CHECK_STEPS, Ladder, RungResult
from .rounds import MOST_ROUNDS, ROUNDS, SLICE_SECONDS, count_for, in_turn, seconds_of
from .rungs import BLOCK, RUNGS, Loop, Problem, Rung

TOLERANCE = {"single": (2e-5, 1e-4), "double": (3e-9, 1e-10)}
"""How far the weights may be off the first rung's, as a share of the largest of them, and each error of its own. The
weights' are what the post's problem is given after 200,000 steps (5e-6 and 1e-9 of 0.376), where the order of float32
sums matters and a few roundings of float64 a step remain; after 2,000 it is 3e-7 and 5e-16. An error is a mean of
squares of differences of numbers some 100 times their size, at the post's end, which costs two digits.
"""


@dataclass(frozen=True, eq=False)
class Contender:
    """A rung that runs here and is right.

    Attributes:
        rung: which.
        loop: its loop.
        deviation: of its weights.
        steps: of a timed slice.
        on_gpu: where it runs.
    """

    rung: Rung
    loop: Loop
    deviation: float
    steps: int
    on_gpu: bool

    def run(self) -> float:
        """Take a slice; nanoseconds a step."""
        return 1e9 * _seconds(self.loop, self.on_gpu, self.steps) / self.steps


def autograd_ladder(
    x: Any = None,
    y: Any = None,
    degree: int = DEGREE,
    learn_rate: float = LEARN_RATE,
    *,
    precision: str = "single",
    device: str = "cpu",
    steps: int = CHECK_STEPS,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    rungs: Sequence[Rung] | None = None,
) -> Ladder:
    """The post's autograd loop, then one change at a time, each found right and timed in nanoseconds a step.

    Args:
        x, y: (n,) or (n, 1) samples; the post's when both are left out.
        degree, learn_rate: of the descent.
        precision: "single", the post's, or "double".
        device: "cpu" or "cuda".
        steps: after how many the weights are compared: a multiple of 8, the steps in a compiled block.
        rounds: how often each rung is timed.
        progress: called with (stages done, stages in all).
        rungs: those to climb; all of `fastpoly.profiling.rungs.RUNGS` if left out. The first must run here.

    Returns:
        A Ladder. A rung that cannot run here is in it, with the reason.

    Raises:
        TypeError, ValueError: an argument cannot be meant, or the descent diverges.
        BackendUnavailableError: there is no such device here.
        ArithmeticError: a rung does not give the first one's weights; nothing is reported then.
    """
    steps, rounds = checked_steps(steps), integer(rounds, "rounds", 1, MOST_ROUNDS)
    if progress is not None:
        refuse_no_function(progress, "progress")
    if rungs is not None and not (isinstance(rungs, Sequence) and rungs and all(isinstance(r, Rung) for r in rungs)):
        raise TypeError(f"rungs: wants a sequence of Rung objects, got {shown(rungs)}; None climbs all")
    problem = checked_problem(x, y, degree, learn_rate, precision, device)
    rungs = RUNGS if rungs is None else rungs
    results: list[RungResult] = []
    contenders: list[Contender] = []
    pairs: list[tuple[Contender, Contender]] = []  # before and after a change
    tell = progress or (lambda _done, _of: None)
    stages = len(rungs) + rounds
    expected: Answer | None = None
    base: Contender | None = None
    for number, rung in enumerate(rungs):
        result = RungResult(rung.name, rung.change, rung.why, rung.kept, base.rung.name if base else None)
        missing = rung.missing(problem)
        if missing is not None:
            results.append(replace(result, not_measured=missing))
        else:
            contender, answer = _verified(rung, problem, steps, expected, precision)
            expected = expected or answer
            if base is not None:
                pairs.append((base, contender))
            results.append(replace(result, deviation=contender.deviation))
            contenders.append(contender)
            base = contender if rung.kept else base
        tell(number + 1, stages)

    times = _timed(contenders, pairs, rounds, lambda done: tell(len(rungs) + done, stages))
    return Ladder(
        rungs=tuple(
            replace(result, ns_per_step=times.per_step.get(result.name), removed_ns=times.removed.get(result.name))
            for result in results
        ),
        precision=precision,
        device=problem.x.device.type,
        check_steps=steps,
        rounds=rounds,
        first_ns=times.first,
    )


@dataclass(frozen=True)
class Times:
    """Nanoseconds a step: of each rung and of what each change removed, by name; of the first rung by itself."""

    per_step: dict[str, float]
    removed: dict[str, float]
    first: float


def _timed(
    contenders: list[Contender], pairs: list[tuple[Contender, Contender]], rounds: int, done: Callable[[int], object]
) -> Times:
    """In every round all rungs, then each pair with the first rung by itself before it. Compared is within a round:
    medians are of shares of the first rung's time there.
    """
    first = contenders[0]
    firsts: list[float] = []
    alone: list[float] = []
    shares: list[list[float]] = [[] for _ in contenders]
    removed: list[list[float]] = [[] for _ in pairs]
    for number in range(rounds):
        row = in_turn([contender.run for contender in contenders], number)
        firsts.append(row[0])
        for share, ns in zip(shares, row, strict=True):
            share.append(ns / row[0])
        for share, (before, after) in zip(removed, pairs, strict=True):
            alone.append(first.run())
            ns_before, ns_after = in_turn([before.run, after.run], number)
            share.append((ns_before - ns_after) / alone[-1])
        done(number + 1)
    together, by_itself = median(firsts), median(alone or firsts)
    return Times(
        {contender.rung.name: together * median(share) for contender, share in zip(contenders, shares, strict=True)},
        {after.rung.name: by_itself * median(share) for (_, after), share in zip(pairs, removed, strict=True)},
        by_itself,
    )


def checked_steps(steps: Any) -> int:
    """The number of steps, if compiled blocks and captured graphs can take so many."""
    count = integer(steps, "steps", BLOCK, MAX_STEPS)
    if count % BLOCK:
        wants = f"a multiple of {BLOCK}, the steps in a compiled block"
        raise ValueError(f"steps: wants {wants}; got {count}, and {count - count % BLOCK} is one")
    return count


def checked_problem(
    x: Any = None,
    y: Any = None,
    degree: int = DEGREE,
    learn_rate: float = LEARN_RATE,
    precision: str = "single",
    device: str = "cpu",
) -> Problem:
    """The arguments of `autograd_ladder` as tensors; raises what it says."""
    if x is None and y is None:
        x, y = samples()
    if not isinstance(precision, str) or precision not in TOLERANCE:
        raise ValueError(f"precision: wants {' or '.join(TOLERANCE)}, got {shown(precision)}; choose one of them")
    if not isinstance(device, str) or device not in ("cpu", "cuda"):
        raise ValueError(f"device: wants cpu or cuda, got {shown(device)}; choose one of them")
    reason = missing_cuda() if device == "cuda" else None
    if reason is not None:
        raise BackendUnavailableError(f"device cuda cannot be used: {reason}")
    checked = FitProblem.checked(x, y, degree, learn_rate=learn_rate, precision=precision)
    x, y = (torch.from_numpy(values.reshape(-1, 1)).to(device) for values in checked.arrays())
    return Problem(x, y, checked.degree, checked.learn_rate)


Answer = tuple[torch.Tensor, torch.Tensor]
"""Weights and errors, float64 on the CPU."""


def _verified(
    rung: Rung, problem: Problem, steps: int, expected: Answer | None, precision: str
) -> tuple[Contender, Answer]:
    """The rung, ready to be timed, and its answer.

    Raises:
        ValueError: the first rung does not stay finite.
        ArithmeticError: the answer is not the first rung's.
    """
    with warnings.catch_warnings():
        # torch's compiler imports torch.utils.mkldnn, which torch itself deprecates
        warnings.filterwarnings("ignore", r"`torch\.jit\.script", DeprecationWarning)
        loop = rung.begin(problem)
        weights, errors = (tensor.double().cpu() for tensor in loop(steps))  # compiles, too
    if expected is None:
        if not bool(weights.isfinite().all()):
            raise ValueError(
                f"learn_rate: {problem.learn_rate:g} diverges within {steps:,} steps; choose a smaller one"
            )
        expected = weights, errors
    deviation = float((weights - expected[0]).abs().max())
    shares = deviation / float(expected[0].abs().max()), float((errors / expected[1] - 1).abs().max())
    for what, share, tolerance in zip(("weights", "errors"), shares, TOLERANCE[precision], strict=True):
        if not share <= tolerance:
            raise ArithmeticError(
                f"{rung.name}: after {steps:,} steps its {what} are off by a share of {share:.1e}, above {tolerance:g}"
            )
    count = count_for(SLICE_SECONDS, partial(_seconds, loop, problem.on_gpu), BLOCK)
    return Contender(rung, loop, deviation, count, problem.on_gpu), (weights, errors)


def _seconds(loop: Loop, on_gpu: bool, steps: int) -> float:
    return seconds_of(lambda: loop(steps)[0].cpu(), on_gpu)  # which waits for a GPU
