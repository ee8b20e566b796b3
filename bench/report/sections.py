"""The sections of the report, in their order. One that has nothing to show is left out, and `missing` says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fastpoly._post import STEPS

from . import charts, tables
from .curves import MEASURES, SIZES, Crossover, crossovers, curves
from .results import Results, Run


@dataclass(frozen=True)
class Part:
    """A picture and a table, or one of them. `title` names both; `said` are sentences below."""

    title: str
    table: tables.Table | None = None
    picture: Callable[[], Any] | None = None
    caption: str = ""
    said: tuple[str, ...] = ()
    unless_drawn: tuple[str, ...] = ()  # said where there are no pictures
    headed: bool = False
    name: str = ""  # of the picture, where a section has several

    @property
    def empty(self) -> bool:
        """Has it nothing to show?"""
        return not (self.picture or self.said or (self.table and self.table.rows))


@dataclass(frozen=True)
class Shown:
    """What a section shows of one run, of number `number`."""

    number: int
    run: Run
    parts: tuple[Part, ...]


@dataclass
class Section:
    """A part of the page: `parts(run)` is what it shows of each run."""

    name: str
    title: str
    words: str
    parts: Callable[[Run], Iterable[Part]] = lambda run: ()  # noqa: ARG005
    shown: list[Shown] = field(default_factory=list)
    whole: list[Part] = field(default_factory=list)  # of all runs together

    @property
    def empty(self) -> bool:
        """Has it nothing to show?"""
        return not (self.shown or self.whole)


def _post(run: Run) -> Iterable[Part]:
    timings = [t for t in run.of("post") if t.seconds]
    if timings:
        title = f"Seconds for {STEPS:,} steps"
        picture = lambda: charts.then_and_now(timings)  # noqa: E731
        yield Part(title, tables.post(run), picture, f"{title}, on a logarithmic scale.")


def _ladder(run: Run) -> Iterable[Part]:
    if any(rung.ns_per_step for rung in run.rungs):
        share = f"are {100 * (run.explained or 0):.0f} % of the first loop’s time."
        total = "" if run.explained is None else f"What was removed and what is left, each measured by itself, {share}"
        title = "A step’s time after each change"
        yield Part(title, tables.ladder(run), lambda: charts.waterfall(run.rungs), total)


def _split(run: Run) -> Iterable[Part]:
    if any((part.ns or 0) > 0 for part in run.split):
        title = "The parts of one eager autograd step"
        picture = lambda: charts.stacked(run.split)  # noqa: E731
        yield Part(title, tables.split(run), picture, "From the left, in the order of the table.")


def _scale(run: Run) -> Iterable[Part]:
    for size in SIZES:
        for measure in MEASURES:
            lines = curves(run.of("scale"), size, measure)
            if not lines:
                continue
            marks = crossovers(lines) if measure == "seconds" else []
            precisions = {line.precision for line in lines}
            title = f"{'Time' if measure == 'seconds' else 'Memory'} by {SIZES[size]}"
            title += f", {precisions.pop()}" if len(precisions) == 1 else ""
            yield Part(
                title,
                picture=lambda at=(lines, size, measure, marks): charts.growth(*at),
                said=tuple(_overtakes(mark, size) for mark in marks),
                unless_drawn=tuple(f"{line.name} grows as the power {line.slope:.1f}." for line in lines),
                headed=True,
                name=f"{size}-{measure}",
            )


def _overtakes(mark: Crossover, size: str) -> str:
    rounded = float(f"{mark.size:.2g}")  # an interpolation knows no more
    place = f"degree {math.ceil(mark.size)}" if size == "degree" else f"{rounded:,.0f} {SIZES[size].split()[0]}"
    return f"From {place} on, {mark.after} is faster than {mark.before}."


def _table(make: Callable[[Run], tables.Table], title: str) -> Callable[[Run], Iterable[Part]]:
    return lambda run: [Part(title, make(run))]


def sections(results: Results) -> list[Section]:
    """All that have something to show, from first to last."""
    made = [
        Section(
            "post",
            "The post’s table, then and now",
            "“× numpy” is how many times as fast as the post’s numpy loop on the same machine, “× autograd” as "
            "its autograd loop on the same GPU; “in 2017” is what the post published. “Off by” is the largest "
            "difference of the weights from where a run of that precision must end: arithmetic of 60 digits (double), "
            "the digits that the post prints (mixed), the torch loop (single).",
            _post,
        ),
        Section(
            "bars",
            "What it is held to",
            "Ratios of medians and limits, each with its bar; docs/bars.md says why. On a CPU both sides are timed in "
            "turn in one process; on a GPU each in a process of its own.",
            _table(tables.bars, "Ratios and limits, each with its bar"),
        ),
        Section(
            "ladder",
            "What makes autograd faster",
            "The post ends: “I would appreciate comments on changes to my code that will result in faster autograd "
            "execution.” Here they are: its autograd loop, one change at a time, each measured, each giving the same "
            "weights. Changes marked (aside) were tried and taken back.",
            _ladder,
        ),
        Section("split", "Where a step’s time goes", "One step of the post’s autograd loop, as it is.", _split),
        Section(
            "peers",
            "Against the peers",
            "The post’s problem in other hands, on the same machine in the same run. Where fewer steps were run, the "
            "name says so and the seconds are scaled to all of them. What is not gradient descent is marked; it ends "
            "elsewhere, at the minimum.",
            _table(tables.peers, "Peers on the post’s problem"),
        ),
        Section(
            "zoo",
            "Any loss",
            "Other losses, written in torch and differentiated by torch’s autograd: the time of one step.",
            _table(tables.zoo, "A step of each loss"),
        ),
        Section(
            "scale",
            "How it grows",
            "Both axes are logarithmic, so that a power of the size is a straight line. The number after a name is "
            "that power, over the last decade. A ring marks where another method becomes the fastest.",
            _scale,
        ),
        Section(
            "fidelity",
            "How true it is",
            "The largest deviation from arithmetic of 60 digits over the problems of tests/test_fidelity.py: the "
            "post’s, its siblings, random ones, tall ones. Relative to the largest weight or to 1. The test fails "
            "beyond what is promised.",
            whole=[Part("Deviation from the truth, by backend", tables.fidelity(results.fidelity))],
        ),
        Section(
            "cold",
            "Cold start",
            "A fresh process, from its start to its first result.",
            _table(tables.cold, "Cold start"),
        ),
        Section(
            "machine",
            "Machine and versions",
            "What all of this was measured on.",
            _table(tables.machine, "Machine and versions"),
        ),
        Section("missing", "What was not measured", "And why.", _table(tables.not_measured, "Not measured")),
    ]
    for section in made:
        parts = [tuple(part for part in section.parts(run) if not part.empty) for run in results.runs]
        section.shown = [Shown(i, results.runs[i], shown) for i, shown in enumerate(parts) if shown]
        section.whole = [part for part in section.whole if not part.empty]
    absent = [section.title for section in made[:-1] if section.empty]
    absent += [] if any(run.on_gpu for run in results.runs) else ["anything on a GPU"]
    if absent:
        made[-1].whole.append(Part("", said=(f"These results hold nothing for: {'; '.join(absent)}.",)))
    return [section for section in made if not section.empty]
