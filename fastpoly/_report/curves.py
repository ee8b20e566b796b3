"""How time and memory grow: curves from the timings of the group "scale", their slopes, where one overtakes another.

A curve holds timings that differ in one size alone, or whose `axis` says what is varied. Sizes span decades, so between
two measurements everything is taken to be a power of the size: a straight line on log-log paper.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .results import Timing
from .tables import is_ours

SIZES = {"n": "samples", "degree": "degree", "batch": "problems in one call", "steps": "steps"}
MEASURES = {"seconds": "seconds", "memory_mib": "MiB"}


@dataclass(frozen=True)
class Curve:
    """What one backend took at ascending sizes, all else equal. `fixed` says what was held, by name."""

    name: str
    ours: bool
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

    Of a backend with several (at different values of the other sizes) the one with the most points is taken.
    """
    points: dict[tuple[str, bool], dict[tuple[float | None, ...], dict[float, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for timing in timings:
        if timing.axis not in ("", size):
            continue
        where, value = getattr(timing, size), getattr(timing, measure)
        if where is not None and where > 0 and value is not None and value > 0:
            name = f"{timing.backend or timing.name} {timing.precision}".strip()
            held = () if timing.axis else tuple(getattr(timing, other) for other in SIZES if other != size)
            points[name, is_ours(timing)][held][where] = value
    found = []
    for (name, ours), at in points.items():
        longest = sorted(max(at.values(), key=len).items())
        if len(longest) > 1:
            found.append(Curve(name, ours, *zip(*longest, strict=True)))
    return sorted(found, key=lambda curve: -curve.values[-1])


def crossovers(among: Sequence[Curve]) -> list[Crossover]:
    """Where the least of all curves passes from one to another."""
    sizes = sorted({size for curve in among for size in curve.sizes})
    found: list[Crossover] = []
    for a, b in pairwise(sizes):
        found += _between(among, a, b)
    return found


def _between(among: Sequence[Curve], a: float, b: float) -> list[Crossover]:
    """Those from size a to size b, between which every curve is straight: the lower envelope of lines."""
    lines = []  # each as its logarithm at b, at a, and its name
    for curve in among:
        u, v = curve.at(a), curve.at(b)
        if u is not None and v is not None:
            lines.append((math.log(v), math.log(u), curve.name))
    found = []
    least = min(lines, key=lambda line: (line[1], line[0]), default=None)
    passed = 0.0  # of the way from a to b
    while least is not None:
        v, u, name = least
        steeper = [((w - u) / ((w - u) + (v - z)), (z, w, other)) for z, w, other in lines if z < v and w >= u]
        met = min((meeting for meeting in steeper if meeting[0] > passed), default=None)
        if met is None:
            break
        passed, least = met
        found.append(Crossover(a * (b / a) ** passed, math.exp(u + passed * (v - u)), name, least[2]))
    return found
