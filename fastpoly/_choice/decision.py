"""The backend that is done the soonest: a function of what backends cost, of the steps and of what was taken before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .costs import Cost

ALLOWED, EXCESS = 1.3, 0.05
"""What was taken before is taken again, unless it costs so many times what the best does and so many seconds more: a
run that is split, goes on or is repeated in another process then has one and the same arithmetic."""

LOADING = 0.5
"""And that is counted without so many seconds until it begins: a kernel that is there already must be loaded by every
process, and one that takes 100 steps takes the same ones as its parent."""

NEAR = 2.0
"""The model is off by less than this, so that a rival which costs more than so many times as much is none."""

TRIAL_STEPS, PART = 5, 20
"""Steps that are timed; of a run of less than PART times as many none are: that would be a part of it which counts."""


@dataclass(frozen=True)
class Choice:
    """What to take, and why in words.

    Attributes:
        order: all backends, what was chosen first and then by their cost.
        reason: a sentence without its end.
        timed: seconds of a step of those that were timed to find out.
    """

    order: tuple[str, ...]
    reason: str
    timed: Mapping[str, float]

    @property
    def backend(self) -> str:
        """What was chosen."""
        return self.order[0]


Measure = Callable[[str], "float | None"]
"""Begin a backend's loop and time some steps of it: seconds of one, or None if it cannot run."""


def is_near(costs: Mapping[str, Cost], steps: int, before: str | None = None) -> bool:
    """Are there two between which the model cannot tell, and does it matter?"""
    order = sorted(cost.of(steps) for cost in costs.values())
    if before is not None and before in costs and _stays(costs[before], steps, order[0]):
        return False
    return len(order) > 1 and order[0] >= EXCESS and order[1] < max(NEAR * order[0], order[0] + EXCESS)


def choose(costs: Mapping[str, Cost], steps: int, before: str | None = None, measure: Measure | None = None) -> Choice:
    """Choose among backends.

    Args:
        costs: of each that can run the step; with those that begin the soonest first, which wins where all is equal.
        before: what was taken for this step the last time.
        measure: for two that come near each other. Without it the model alone decides.
    """
    left = dict(costs)
    timed: dict[str, float] = {}
    while True:
        order = sorted(left, key=lambda name: left[name].of(steps))
        best = order[0]
        least = left[best].of(steps)
        if before is not None and before in left and _stays(left[before], steps, least):
            order = [before, *(name for name in order if name != before)]
            return Choice(tuple(order), f"{before} as for this loss before, {_told(left, order, steps)}", timed)
        near = [name for name in order if left[name].of(steps) < max(NEAR * least, least + EXCESS)]
        if least < EXCESS or len(near) < 2 or measure is None or steps < PART * TRIAL_STEPS:
            break
        # What is ready is timed first; what must be compiled is only if it is the best: then that is no loss.
        trial = next((name for name in near if name not in timed and (name == best or left[name].ready < EXCESS)), None)
        trial = next((name for name in near if name not in timed and left[name].ready < EXCESS), trial)
        if trial is None:
            break
        seconds = measure(trial)
        if seconds is None:
            del left[trial]
            if not left:
                return Choice(tuple(costs), "no other could run", timed)
            continue
        timed[trial] = seconds
        left[trial] = Cost(0.0, seconds)
    how = "as timed" if best in timed else "as modelled"
    return Choice(tuple(order), f"{best} {how}, {_told(left, order, steps)}", timed)


def _stays(taken: Cost, steps: int, least: float) -> bool:
    """Is what was taken before good enough, where the best costs `least`?"""
    return taken.of(steps) - min(taken.ready, LOADING) <= max(ALLOWED * least, least + EXCESS)


def _told(costs: Mapping[str, Cost], order: list[str], steps: int) -> str:
    """What the first one and the next best one cost, in words."""
    parts = []
    for name in order[:2]:
        cost = costs[name]
        ready = f" after {_seconds(cost.ready)}" if cost.ready >= 1e-3 else ""
        parts.append(f"{name} {_seconds(cost.of(steps))} ({_seconds(cost.step)} a step{ready})")
    return f"for {steps:,} steps: " + ", ".join(parts)


def _seconds(value: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 1e9:.3g} ns"
