"""Times of several things in turn: whatever else the machine does then falls on all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

Run = Callable[[], object]


def timed(run: Run) -> float:
    """Seconds that `run` takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def in_rounds(runs: Sequence[Run], rounds: int, done: Callable[[int], object] = lambda _: None) -> list[list[float]]:
    """Seconds of each of `runs` in every round, (len(runs), rounds). Every other round goes backwards, so that what
    one leaves behind in the caches is not always met by the same other. `done` is told the number of rounds so far.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        order = range(len(runs)) if number % 2 == 0 else reversed(range(len(runs)))
        for i in order:
            seconds[i].append(timed(runs[i]))
        done(number + 1)
    return seconds


def medians(runs: Sequence[Run], rounds: int) -> list[float]:
    """The median of each, in seconds."""
    return [statistics.median(one) for one in in_rounds(runs, rounds)]


def difference(of: Run, minus: Run, rounds: int, each: tuple[float, float] = (1.0, 1.0)) -> float:
    """The median, over rounds of both, of the seconds of `of` less those of `minus`, each times its factor."""
    first, second = in_rounds((of, minus), rounds)
    return statistics.median(a * each[0] - b * each[1] for a, b in zip(first, second, strict=True))
