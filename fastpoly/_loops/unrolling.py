"""How many steps a graph holds, found out while it runs.

A longer graph costs less between its steps, and more to capture. Whoever captures does not know how many steps will be
asked for. So a graph is replaced by one GROWTH times as long as soon as running has taken as long as capturing that one
will: then capturing takes half of the time at most. It ends when longer graphs are no faster.
"""

from __future__ import annotations

GROWTH = 4
"""Each graph is worth its capture by then, and few are captured: 8, 32 and 128 steps."""

FASTER = 0.95
"""A graph that takes more than this part of the time of the one before was not worth its capture: clocks are as noisy.

Neither number is measured on a GPU yet.
"""


class Unrolling:
    """Chooses the number of steps of a graph by the time that capturing and running take.

    Attributes:
        size: steps in the graph that is in use.
        most: steps that no graph has more of.
    """

    def __init__(self, first: int, most: int) -> None:
        self.size, self.most = first, most
        self._capture = 0.0  # seconds that capturing this graph took
        self._spent = 0.0  # seconds of running it
        self._step = float("inf")  # seconds of a step, the best measured
        self._before = float("inf")  # the same, of the graph before

    def captured(self, size: int, seconds: float) -> None:
        """A graph of `size` steps is in use; capturing it took so long."""
        self.size, self._capture = size, seconds
        self._before, self._step, self._spent = self._step, float("inf"), 0.0

    def ran(self, steps: int, seconds: float) -> None:
        """Running so many steps took so long."""
        self._spent += seconds
        self._step = min(self._step, seconds / steps)

    def larger(self) -> int | None:
        """The number of steps of the graph that should be captured now, if one should."""
        size = self.size * GROWTH
        if size > self.most or self._spent < self._capture * GROWTH or self._step > FASTER * self._before:
            return None
        return size
