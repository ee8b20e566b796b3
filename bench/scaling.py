"""How time grows with a size, and where one method overtakes another: from rows that were measured, by straight lines
between logarithms."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import combinations


def curves(rows):
    """The rows of the group "scale" as {axis: {(backend, precision): [(size, seconds), ...]}}, sizes ascending."""
    found = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get("group") == "scale" and row.get("kind") == "timing":
            found[row["axis"]][row["backend"], row["precision"]].append((row[row["axis"]], row["seconds"]))
    return {axis: {key: sorted(points) for key, points in of.items()} for axis, of in found.items()}


def slope(points):
    """The exponent p of seconds ~ size^p, by least squares of the logarithms; None for fewer than two sizes."""
    logs = [(math.log(size), math.log(seconds)) for size, seconds in points]
    if len({size for size, _ in logs}) < 2:
        return None
    mean = [sum(column) / len(logs) for column in zip(*logs, strict=True)]
    spread = sum((a - mean[0]) ** 2 for a, _ in logs)
    return sum((a - mean[0]) * (b - mean[1]) for a, b in logs) / spread


def slopes(rows):
    """For each curve its exponent over all sizes, and over the last three, where what does not grow is least."""
    return [
        {
            "axis": axis,
            "backend": backend,
            "precision": precision,
            "slope": slope(points),
            "slope_at_end": slope(points[-3:]),
            "points": points,
        }
        for axis, of in curves(rows).items()
        for (backend, precision), points in of.items()
    ]


def crossing(a, b):
    """Where curve `a`, the faster at first, is overtaken by `b`, or None.

    The curves are compared at the sizes that both have. Between two of these each is a straight line in logarithms.
    """
    a, b = dict(a), dict(b)
    lead = None
    for size in sorted(a.keys() & b.keys()):
        gap = math.log(b[size] / a[size])
        if lead is not None and lead[1] > 0 >= gap:
            share = lead[1] / (lead[1] - gap)
            return lead[0] * (size / lead[0]) ** share
        if lead is None and gap <= 0:
            return None
        lead = size, gap
    return None


def crossovers(rows):
    """Every pair of curves that cross once: up to which size the one is faster, and from there on the other."""
    found = []
    for axis, of in curves(rows).items():
        for one, other in combinations(of, 2):
            for first, then in ((one, other), (other, one)):
                at = crossing(of[first], of[then])
                if at is not None:
                    found.append(
                        {"axis": axis, "at": at, "from": " ".join(first), "to": " ".join(then)},
                    )
    return sorted(found, key=lambda row: (row["axis"], row["at"]))
