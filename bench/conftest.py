"""How fastpoly is measured: two things in turn in one process, the ratio of their medians, the answer asserted first.

`versus` is the only way to a ratio: it alternates both sides, so that whatever else the machine does falls on both, and
its rows are printed together at the end with the bar that each is held against. A bar that is missed is shown, not
failed: this is a measurement. With `--benchmark-disable` each side runs once, for the answers alone.
"""

import statistics
import time
from dataclasses import dataclass

import numpy as np
import pytest

from fastpoly._post import samples

ROWS = pytest.StashKey[list]()
LIMITS = pytest.StashKey[list]()


@dataclass(frozen=True)
class Ratio:
    """One row of the table. The ratio is `of / to`, and holds when it is at least, or at most, the bar."""

    of: str
    to: str
    ratio: float
    bar: float
    at_most: bool
    seconds_of: float
    seconds_to: float

    @property
    def holds(self):
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar


@pytest.fixture(scope="session")
def post():
    """The post's problem as vectors."""
    x, y = samples()
    return x.ravel(), y.ravel()


@pytest.fixture
def versus(request, benchmark):
    """versus(of, to, rounds=, inner=, times=, at_least= or at_most=): time two (name, function) in turn.

    Each round calls each side `inner` times; its seconds are multiplied by `times` (for what is extrapolated).
    """

    def run(of, to, *, rounds=9, inner=(1, 1), times=(1, 1), at_least=None, at_most=None):
        seconds = ([], [])
        for _, function in (of, to):
            function()  # warm
        for _ in range(1 if benchmark.disabled else rounds):
            for (_, function), repeats, into in zip((of, to), inner, seconds, strict=True):
                for _ in range(repeats):
                    started = time.perf_counter()
                    function()
                    into.append(time.perf_counter() - started)
        medians = [statistics.median(s) * factor for s, factor in zip(seconds, times, strict=True)]
        bar, most = (at_most, True) if at_least is None else (at_least, False)
        row = Ratio(of[0], to[0], medians[0] / medians[1], bar, most, *medians)
        benchmark.extra_info.update(of=row.of, to=row.to, ratio=row.ratio, bar=bar, at_most=most, holds=row.holds)
        benchmark.extra_info.update(numpy=np.__version__)
        if not benchmark.disabled:
            request.config.stash.setdefault(ROWS, []).append(row)
        benchmark.pedantic(to[1] if most is False else of[1], rounds=3)
        return row

    return run


@pytest.fixture
def limits(request, benchmark):
    """limits(name, value, limit, unit): a row of the table for what is not a time."""

    def run(name, value, limit, unit):
        benchmark.extra_info.update(name=name, value=value, limit=limit, unit=unit, holds=value <= limit)
        if benchmark.enabled:
            request.config.stash.setdefault(LIMITS, []).append((name, value, limit, unit))

    return run


def pytest_terminal_summary(terminalreporter, config):
    for name, value, limit, unit in config.stash.get(LIMITS, []):
        verdict = "holds" if value <= limit else "FALLS SHORT"
        terminalreporter.write_line(f"{name} {value:.1f} {unit}, limit {limit:g}: {verdict}")
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("ratios of medians, both sides in turn")
    wide = max(len(f"{row.of} / {row.to}") for row in rows)
    for row in rows:
        sign = "<=" if row.at_most else ">="
        verdict = "holds" if row.holds else "FALLS SHORT"
        seconds = f"{row.seconds_of:9.3g} s {row.seconds_to:9.3g} s"
        name = f"{row.of} / {row.to}"
        terminalreporter.write_line(f"{name:{wide}} {seconds}   {row.ratio:8.2f}  bar {sign} {row.bar:g}: {verdict}")
