"""Times of several things in turn, so that whatever else the machine does falls on all of them.

Requirements: figures that can be subtracted from each other on a machine that neighbours slow down by half for a second
and then let go. So things run in slices, short beside such a spell, one after the other, again and again; and within a
round each is compared with one that all rounds have. Medians are taken of these comparisons, not of times that lie
seconds apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

SLICE_SECONDS = 0.01
"""What runs at a time: 10^5 times the clock's own cost, and some hundredths of such a spell."""


def in_turn(runs: Sequence[Callable[[], float]], number: int) -> list[float]:
    """What each of `runs` returns. Every other round goes backwards: what one leaves behind in the caches is then not
    always met by the same other.
    """
    order = range(len(runs)) if number % 2 == 0 else range(len(runs) - 1, -1, -1)
    got = {i: runs[i]() for i in order}
    return [got[i] for i in range(len(runs))]


def ns_a_call(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Nanoseconds of a call of each, many calls of all of them in turn in every round: of the first the median, of the
    others that times the median of their shares of the first in the same round.
    """
    counts = {name: count_for_a_slice(lambda count, call=call: _called(call, count)) for name, call in calls.items()}  # type: ignore[misc]
    runs = [lambda call=call, count=counts[name]: _called(call, count) / count for name, call in calls.items()]  # type: ignore[misc]
    rows = [in_turn(runs, number) for number in range(rounds)]
    first = 1e9 * median(row[0] for row in rows)
    return {name: first * median(row[i] / row[0] for row in rows) for i, name in enumerate(calls)}


def count_for_a_slice(seconds_of: Callable[[int], float], multiple: int = 1) -> int:
    """How many take about SLICE_SECONDS, in multiples of `multiple`; `seconds_of` does so many and tells how long."""
    count = 2 * multiple
    while (seconds := seconds_of(count)) < SLICE_SECONDS / 4:
        count *= 4
    return max(1, round(count * SLICE_SECONDS / seconds / multiple)) * multiple


def _called(call: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - started
