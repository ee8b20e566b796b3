"""What the profiles return: numbers and names, no torch, ready for a table, a picture and a JSON file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

CHECK_STEPS = 2000
"""After which the weights are compared: they have moved by a hundredth then, and float32 rounds that at 1e-9."""


@dataclass(frozen=True)
class RungResult:
    """One rung of the ladder, measured.

    Attributes:
        name, change, why: what the loop is, what was changed, and why that costs what it costs.
        kept: was the change kept for the rungs that follow?
        after: the name of the rung that was changed; None for the first.
        ns_per_step: median over the rounds, see `rounds.seconds_of`; None if it was not measured.
        removed_ns: what the change took away: the median difference to the rung `after`, of runs of these two alone;
            below 0 if it made the step slower.
        deviation: of the weights from the first rung's, the largest; of `check_steps` steps.
        not_measured: None, or why.
    """

    name: str
    change: str
    why: str
    kept: bool
    after: str | None = None
    ns_per_step: float | None = None
    removed_ns: float | None = None
    deviation: float | None = None
    not_measured: str | None = None


@dataclass(frozen=True)
class Ladder:
    """The rungs, from the post's loop to the fused one.

    Attributes:
        rungs: in order.
        precision: "single" or "double".
        device: "cpu" or "cuda".
        check_steps: after so many steps the weights of each rung were found to be the first one's.
        rounds: how often each was timed.
        first_ns: the first rung once more, timed by itself, between the pairs.
    """

    rungs: tuple[RungResult, ...]
    precision: str
    device: str
    check_steps: int
    rounds: int
    first_ns: float

    @property
    def measured(self) -> tuple[RungResult, ...]:
        """The rungs that could run here."""
        return tuple(rung for rung in self.rungs if rung.ns_per_step is not None)

    @property
    def last(self) -> RungResult:
        """The last of the rungs that were measured and kept."""
        return [rung for rung in self.measured if rung.kept][-1]

    @property
    def explained_ns(self) -> float:
        """What the changes that were kept took away, and what was left at the end. Each term is a measurement of its
        own, so that this need not be `first_ns`, and tells how good they are.
        """
        removed = sum(rung.removed_ns or 0.0 for rung in self.measured if rung.kept)
        return removed + (self.last.ns_per_step or 0.0)

    @property
    def explained(self) -> float:
        """`explained_ns` as a share of `first_ns`; 1 explains all."""
        return self.explained_ns / self.first_ns

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        rungs = [asdict(rung) | {"precision": self.precision, "steps": self.check_steps} for rung in self.rungs]
        return {**asdict(self), "explained_ns": self.explained_ns, "explained": self.explained, "rungs": rungs}


@dataclass(frozen=True)
class Part:
    """A part of a step's time.

    Attributes:
        part: its name.
        ns: nanoseconds a step. A difference of two measurements may be below 0 where there is nothing to measure.
        source: which measurements it comes from.
    """

    part: str
    ns: float
    source: str


@dataclass(frozen=True)
class Split:
    """Where the time of an eager step goes.

    Attributes:
        total_ns: the step, measured.
        parts: they add up to it; the last one is the rest.
    """

    total_ns: float
    parts: tuple[Part, ...]

    def as_json(self) -> list[dict[str, Any]]:
        """The parts, as JSON has them."""
        return [{"part": part.part, "ns": part.ns, "from": part.source} for part in self.parts]


@dataclass(frozen=True)
class LossProfile:
    """A loss of the user's own, three ways.

    Attributes:
        ns_per_step: by way: "eager", "compile", "fused"; those that can run.
        begin_seconds: by way: what it takes before the first step: tracing, compiling.
        not_measured: by way: why not.
        split: of the eager step.
    """

    ns_per_step: dict[str, float]
    begin_seconds: dict[str, float]
    not_measured: dict[str, str]
    split: Split

    @property
    def gain(self) -> float | None:
        """How many times faster a fused step is than an eager one; None if the loss cannot be fused."""
        if "fused" not in self.ns_per_step:
            return None
        return self.ns_per_step["eager"] / self.ns_per_step["fused"]

    @property
    def pays_after(self) -> int | None:
        """The number of steps after which fusing has won back its beginning; None if it never does."""
        if self.gain is None or self.gain <= 1:
            return None
        saved = self.ns_per_step["eager"] - self.ns_per_step["fused"]
        return int(1e9 * self.begin_seconds["fused"] / saved) + 1

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        told = {"gain": self.gain, "pays_after_steps": self.pays_after, "split": self.split.as_json()}
        return {**asdict(self), **told}
