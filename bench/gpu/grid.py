"""Does backend="auto" choose well? Each backend's step and first call say what a run of any length takes with it.

A run's estimated time is that of the first call, which compiles, and of its steps. `auto` is held against the least of
these; what it takes is from the stage `choices`, which asked it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .rows import Row

NEAR = 1.2
"""Of the least: what differs by less may differ by chance."""

BACKENDS = ("triton", "cudagraph", "compile", "eager")


@dataclass(frozen=True)
class Choice:
    """What `auto` took for a loss and a number of steps, and what would have been the best."""

    model: str
    steps: int
    took: str
    best: str
    seconds: float | None  # of what it took; None where that was not measured
    least: float

    @property
    def good(self) -> bool:
        """Is it the best, or nearly?"""
        return self.seconds is not None and self.seconds <= NEAR * self.least


def choices(rows: list[Row]) -> Iterator[Choice]:
    """One for each row of a choice whose backends were measured."""
    for row in rows:
        if row.get("kind") != "choice":
            continue
        estimated = {
            timed["backend"]: timed["first"] + row["steps"] * timed["ns_per_step"] / 1e9
            for timed in rows
            if timed.get("kind") == "timing" and timed.get("first") and timed["model"] == row["model"]
            if timed["backend"] in BACKENDS
        }
        if estimated:
            best = min(estimated, key=estimated.__getitem__)
            took = row["took"]
            yield Choice(row["model"], row["steps"], took, best, estimated.get(took), estimated[best])
