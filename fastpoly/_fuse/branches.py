"""Branches on a value that changes from step to step: both sides are traced, and chosen between in the kernel.

A loss that asks a tensor whether something is so is run once for each answer. Each run is differentiated by itself, so
that what is not finite on one side spoils nothing of the other. A side that raises an error of the loss's own is one
that must not be taken: the kernel looks, stops before that step, and eager torch raises the error.

Distributions of torch ask whether their arguments are valid, and raise if not: in a loop over time that is a question
or two an iteration. Where there would be too many sides, what they ask is not a branch but a condition of its side,
which raises where one of them does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from .._errors import UnsupportedOperationError

MOST_SIDES = 16
"""Of a loss: each is traced, and computed, as a whole."""


class TooManySidesError(Exception):
    """Nobody wants to trace them all."""


@dataclass
class Branches:
    """The questions of one run, and the answers to them.

    Attributes:
        given: the first answers, which this run must get.
        answers: all that it got; beyond `given` they are yes.
        asked: what was asked for, bools without values.
        required: bools, too: what must be so, or the function raises.
        requires: is what a distribution asks required, and no question?
    """

    given: list[bool] = field(default_factory=list)
    answers: list[bool] = field(default_factory=list)
    asked: list[torch.Tensor] = field(default_factory=list)
    required: list[torch.Tensor] = field(default_factory=list)
    requires: bool = False

    def answer(self, asked: torch.Tensor) -> bool:
        """The answer to the next question."""
        if len(self.answers) == MOST_SIDES:
            raise TooManySidesError
        at = len(self.answers)
        self.asked.append(asked)
        self.answers.append(self.given[at] if at < len(self.given) else True)
        return self.answers[-1]

    def require(self, valid: torch.Tensor) -> bool:
        """Take down that this must be so, if what a distribution asks is required."""
        if self.requires:
            self.required.append(valid)
        return self.requires

    def begin(self, given: list[bool]) -> None:
        """Another run."""
        self.given, self.answers, self.asked, self.required = given, [], [], []


@dataclass
class Side:
    """What one run came to: its results, or the error that it raised."""

    answers: list[bool]
    asked: list[torch.Tensor]
    results: list[torch.Tensor] | None
    error: Exception | None = None
    required: list[torch.Tensor] = field(default_factory=list)

    def broken(self) -> torch.Tensor | None:
        """Is not all so that is required?"""
        return ~torch.stack(self.required).all() if self.required else None


def every_side(branches: Branches, run: Callable[[], Sequence[torch.Tensor]]) -> list[Side]:
    """Run with all answers, from yes everywhere on.

    Raises:
        TooManySidesError: there are more than MOST_SIDES.
    """
    try:
        return _every_side(branches, run)
    except TooManySidesError:
        if branches.requires:
            raise
        branches.requires = True
        return _every_side(branches, run)


def _every_side(branches: Branches, run: Callable[[], Sequence[torch.Tensor]]) -> list[Side]:
    sides: list[Side] = []
    given: list[bool] | None = []
    while given is not None:
        if len(sides) == MOST_SIDES:
            raise TooManySidesError
        branches.begin(given)
        try:
            side = Side(branches.answers, branches.asked, list(run()), required=branches.required)
        except (UnsupportedOperationError, TooManySidesError):
            raise
        except Exception as error:
            if not branches.asked:  # it raises whatever is answered
                raise
            side = Side(branches.answers, branches.asked, None, error.with_traceback(None))
        sides.append(side)
        given = _following(side.answers)
    return sides


def _following(answers: list[bool]) -> list[bool] | None:
    """The answers to begin with next: the last yes becomes a no."""
    for at in reversed(range(len(answers))):
        if answers[at]:
            return [*answers[:at], False]
    return None


def merged(sides: Sequence[Side], depth: int = 0) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """What comes of all sides, chosen by what was asked; and whether a side is taken that raises, if there is one."""
    first = sides[0]
    if len(first.answers) == depth:
        if first.results is None:
            raise first.error or RuntimeError
        return first.results, first.broken()
    asked = first.asked[depth]
    parts = [[side for side in sides if side.answers[depth] is answer] for answer in (True, False)]
    found: list[tuple[list[torch.Tensor] | None, torch.Tensor | None]] = []
    for part in parts:
        try:
            found.append(merged(part, depth + 1))
        except Exception as error:
            if not any(side.error is error for side in part):
                raise
            found.append((None, None))
    (yes, wrong_if), (no, wrong_else) = found
    if yes is None and no is None:
        raise next(side.error for side in sides if side.error is not None)
    if yes is None or no is None:
        also = wrong_else if yes is None else wrong_if
        wrong = asked if yes is None else ~asked
        return (no if yes is None else yes) or [], wrong if also is None else wrong | also
    if [(a.shape, a.dtype) for a in yes] != [(a.shape, a.dtype) for a in no]:
        raise UnsupportedOperationError(
            "the loss cannot be fused: what it returns differs in shape or dtype by a value that changes from step to "
            "step. Way out: torch.where, or backend='eager'"
        )
    wrongs = [(asked if side is wrong_if else ~asked) & side for side in (wrong_if, wrong_else) if side is not None]
    wrong_at_all = wrongs[0] | wrongs[1] if len(wrongs) == 2 else wrongs[0] if wrongs else None
    return [torch.where(asked, a, b) for a, b in zip(yes, no, strict=True)], wrong_at_all
