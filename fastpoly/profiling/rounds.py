"""Times of several things in turn, so that whatever else the machine does falls on all of them.

Requirements: figures that can be subtracted from each other, on a machine that neighbours slow down by half for a
second and then let go, and on which other programs take their turns. So what others take is left out of the time;
things run in slices, short beside such a spell, one after the other, again and again; and within a round each is
compared with one that all rounds have. Medians are taken of these comparisons, not of times that lie seconds apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

MOST_ROUNDS = 10**6
"""Hours of them."""

ROUNDS = 25
"""How often a loop is timed: half a second a round, with all rungs of the ladder and all pairs of them."""

PARTS_ROUNDS = 8 * ROUNDS
"""How often the parts of a step are: their slices are shorter, some hundredths of a second a round."""

SLICE_SECONDS = 0.01
"""What a loop runs at a time: 100 times what setting one up takes, and some hundredths of such a spell."""

CALLS_SECONDS = 0.001
"""What a call is repeated for: it needs no setting up. 10^4 times what reading the clock takes."""


def in_turn(runs: Sequence[Callable[[], float]], number: int) -> list[float]:
    """What each of `runs` returns. Every other round goes backwards: what one leaves behind in the caches is then not
    always met by the same other.
    """
    order = range(len(runs)) if number % 2 == 0 else range(len(runs) - 1, -1, -1)
    got = {i: runs[i]() for i in order}
    return [got[i] for i in range(len(runs))]


def seconds_of(run: Callable[[], object], on_gpu: bool = False) -> float:
    """How long `run` takes: by the clock on the wall, or the process's processor time where that is less.

    On an idle machine they are the same for one thread; several threads take more processor time than time. On a busy
    machine the processor time leaves out what other programs had of it. A GPU is waited for without a processor: there
    only the wall counts.
    """
    wall, processor = time.perf_counter(), time.process_time()
    run()
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    return wall if on_gpu else min(wall, processor)


@dataclass(frozen=True)
class Call:
    """What is timed, and the context that is entered around many calls of it and costs them nothing."""

    call: Callable[[], object]
    context: Callable[[], AbstractContextManager[object]] = nullcontext

    def seconds(self, count: int) -> float:
        """This thread's processor time for so many calls."""
        with self.context():
            started = time.thread_time()
            for _ in range(count):
                self.call()
            return time.thread_time() - started


def ns_of_each(seconds: Mapping[str, Callable[[int], float]], slice_seconds: float, rounds: int) -> dict[str, float]:
    """Nanoseconds that one of each takes, many of all of them in turn in every round: of the first the median, of the
    others that times the median of their shares of the first in the same round.

    Args:
        seconds: by name, what so many take.
        slice_seconds: how long each runs in a round, about.
        rounds: how many.
    """
    counts = [count_for(slice_seconds, of) for of in seconds.values()]
    runs = [lambda of=of, count=count: of(count) / count for of, count in zip(seconds.values(), counts, strict=True)]
    rows = [in_turn(runs, number) for number in range(rounds)]
    first = 1e9 * median(row[0] for row in rows)
    return {name: first * median(row[i] / row[0] for row in rows) for i, name in enumerate(seconds)}


def count_for(seconds: float, of: Callable[[int], float], multiple: int = 1) -> int:
    """How many take so many seconds, in multiples of `multiple`; `of` does a number of them and tells how long."""
    count = 2 * multiple
    while (taken := of(count)) < seconds / 4:
        count *= 4
    return max(1, round(count * seconds / taken / multiple)) * multiple
