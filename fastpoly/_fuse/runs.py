"""Where a sequence repeats itself: stretches in which everything equals what stands one period before."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np


class Run(NamedTuple):
    """`times` periods from `start` on."""

    start: int
    period: int
    times: int

    @property
    def end(self) -> int:
        """The first place after it."""
        return self.start + self.period * self.times

    @property
    def saved(self) -> int:
        """How much less there is if all periods are written as one."""
        return self.period * (self.times - 1)


def repeated(sequence: Iterable[Hashable], least: int, worth: int) -> list[Run]:
    """Runs of at least `least` periods that do not overlap and save at least `worth`, those that save most first.

    Of overlapping runs the one that saves less is cut. N log N: neighbours of 1, 2, 4, ... places get names, and where
    the distance to the last equal name stays the same there is a run (prefix doubling). Short names find short periods,
    long ones those within which something shorter repeats itself.
    """
    names = _named(sequence)
    taken: list[Run] = []
    for run in sorted(_stretches(names, least), key=lambda run: (-run.saved, run.start)):
        start, end = run.start, run.end
        for other in taken:
            if other.start <= start < other.end:
                start = other.end
            if other.start < end <= other.end or (start < other.start and end > other.end):
                end = other.start
        count = (end - start) // run.period
        cut = Run(start, run.period, count)
        if count >= least and cut.saved >= worth:
            taken.append(cut)
    return taken


def _named(keys: Iterable[Hashable]) -> np.ndarray[Any, Any]:
    """A number for each key, the same for equal ones."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def _stretches(names: np.ndarray[Any, Any], least: int) -> Iterator[Run]:
    """All stretches of at least `least` periods, as long as they go."""
    found: set[tuple[int, int]] = set()
    breaks: dict[int, np.ndarray[Any, Any]] = {}  # of each period: where the sequence differs from one period before
    wide, width = names, 1
    while len(wide) > width and width <= len(names) // least:  # no longer period comes often enough
        order = np.argsort(wide, kind="stable")
        distance = np.zeros(len(wide), np.int64)  # to the last place of the same name
        distance[order[1:]] = np.where(wide[order[1:]] == wide[order[:-1]], np.diff(order), 0)
        steady = (distance[1:] == distance[:-1]) & (distance[1:] > 0)
        for i in np.flatnonzero(steady & ~np.append(False, steady[:-1])).tolist():
            period = int(distance[i + 1])
            if period not in breaks:
                differs = np.flatnonzero(names[period:] != names[:-period]) + period
                breaks[period] = np.concatenate([[period - 1], differs, [len(names)]])
            at = int(np.searchsorted(breaks[period], i + 1))
            start, end = int(breaks[period][at - 1]) + 1 - period, int(breaks[period][at])
            if end - start >= least * period and (start, period) not in found:
                found.add((start, period))
                yield Run(start, period, (end - start) // period)
        pairs = wide[:-width] * (int(wide.max()) + 1) + wide[width:]
        wide = np.unique(pairs, return_inverse=True)[1]
        width *= 2


def components(edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """The strongly connected components of a graph, each after those it has edges to (Tarjan's, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in range(len(edges)):
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            at, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(edges[other])))
                    break
                if other in on_stack:
                    low[at] = min(low[at], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == at:
                            break
                    found.append(sorted(component))
    return found
