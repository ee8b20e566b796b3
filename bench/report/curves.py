"""How time and memory grow: curves from the timings of the group "scale", their slopes, where one overtakes another.

A curve holds timings that differ in one size alone, or whose `axis` says what is varied. Sizes span decades, so between
two measurements everything is taken to be a power of the size: a straight line on log-log paper.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .results import Timing
from .tables import is_ours

SIZES = {"n": "samples", "degree": "degree", "batch": "problems in one call", "steps": "steps"}
MEASURES = {"seconds": "seconds", "memory_mib": "MiB"}
NOISE = 1.2
"""Whoever leads by less than a fifth may lead by chance."""


@dataclass(frozen=True)
class Curve:
    """What one backend took at ascending sizes, all else equal."""

    backend: str
    precision: str
    ours: bool
    name: str  # the backend, and its precision where there are several
    sizes: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def slope(self) -> float:
        """The power of the size that it grows with, over the last decade that was measured or the last two points."""
        last = self.sizes[-1]
        first = max((i for i, size in enumerate(self.sizes[:-1]) if size <= last / 10), default=len(self.sizes) - 2)
        return math.log(self.values[-1] / self.values[first]) / math.log(last / self.sizes[first])

    def at(self, size: float) -> float | None:
        """The value at `size`, or None outside of what was measured."""
        for (a, u), (b, v) in pairwise(zip(self.sizes, self.values, strict=True)):
            if a <= size <= b:
                return u * math.exp(math.log(v / u) * math.log(size / a) / math.log(b / a))
        return None


@dataclass(frozen=True)
class Crossover:
    """From `size` on, `after` takes less than `before`, which took the least until there."""

    size: float
    value: float
    before: str
    after: str


def curves(timings: Iterable[Timing], size: str, measure: str = "seconds") -> list[Curve]:
    """The curves of `measure` over one of SIZES, slowest at the end first. One point alone is no curve.

    A name tells its precision where there are several. Of a backend with several curves, at different values of the
    other sizes, the one with the most points is taken.
    """
    points: dict[tuple[str, str, bool], dict[tuple[float | None, ...], dict[float, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for timing in timings:
        if timing.axis not in ("", size):
            continue
        where, value = getattr(timing, size), getattr(timing, measure)
        if where is not None and where > 0 and value is not None and value > 0:
            who = timing.backend or timing.name, timing.precision, is_ours(timing)
            held = () if timing.axis else tuple(getattr(timing, other) for other in SIZES if other != size)
            points[who][held][where] = value
    found = []
    for who, at in points.items():
        longest = sorted(max(at.values(), key=len).items())
        if len(longest) > 1:
            found.append(Curve(*who, who[0], *zip(*longest, strict=True)))
    backends = [curve.backend for curve in found]
    found = [replace(c, name=f"{c.name} {c.precision}") if backends.count(c.name) > 1 else c for c in found]
    return sorted(found, key=lambda curve: -curve.values[-1])


def crossovers(among: Sequence[Curve]) -> list[Crossover]:
    """Where the least of all curves passes from one to another, and leads by more than NOISE at a size that follows.

    Who was not measured at smaller sizes overtakes nobody, and who is not measured any more is not overtaken.
    """
    found: list[Crossover] = []
    leader: Curve | None = None
    for size in sorted({size for curve in among for size in curve.sizes}):
        there = [(value, i) for i, curve in enumerate(among) if (value := curve.at(size)) is not None]
        least, i = min(there)
        led = None if leader is None else leader.at(size)
        if leader is not None and led is not None:
            if led < NOISE * least:
                continue
            where = _meeting(leader, among[i], size)
            if where is not None:
                found.append(Crossover(*where, leader.name, among[i].name))
        leader = among[i]
    return found


def _meeting(before: Curve, after: Curve, size: float) -> tuple[float, float] | None:
    """The last place up to `size` where `after` falls below `before`, and their value there."""
    sizes = [s for s in sorted({*before.sizes, *after.sizes}) if s <= size]
    for a, b in reversed(list(pairwise(sizes))):
        u, v, w, z = before.at(a), before.at(b), after.at(a), after.at(b)
        if u is None or v is None or w is None or z is None:
            return None
        if w >= u and z < v:  # between a and b both are straight
            share = math.log(w / u) / (math.log(w / u) + math.log(v / z))
            return a * (b / a) ** share, u * (v / u) ** share
    return None
