"""The sections of the report, in their order. One that has nothing to show is left out, and `missing` says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._post import STEPS
from . import charts, tables
from .curves import MEASURES, SIZES, Crossover, Curve, crossovers, curves
from .html import element, table, text
from .results import Results, Run

Draw = Callable[[str, str, Callable[[], Any]], str]
"""draw(name, title, picture): the figure that picture() makes as an SVG element, or "" where there are no pictures."""


@dataclass(frozen=True)
class Section:
    """A part of the page. `content(run, draw)` is made for each run; `draw` wants names that differ within a run."""

    name: str
    title: str
    words: str
    content: Callable[[Run, Draw], str]


def _figure(svg: str, caption: str = "") -> str:
    return element("figure", svg + (text("figcaption", caption) if caption else "")) if svg else ""


def _rows(shown: tables.Table, caption: str) -> str:
    return table(shown, caption) if shown.rows else ""


def _post(run: Run, draw: Draw) -> str:
    timings = [t for t in run.of("post") if t.seconds]
    if not timings:
        return ""
    title = f"Seconds for {STEPS:,} steps"
    svg = draw("post", title, lambda: charts.then_and_now(timings))
    figure = _figure(svg, f"{title}, on a logarithmic scale.")
    return element("div", figure + table(tables.post(run), title), class_="beside" if svg else "")


def _bars(run: Run, draw: Draw) -> str:  # noqa: ARG001
    return _rows(tables.bars(run), "Ratios and limits, each with its bar")


def _ladder(run: Run, draw: Draw) -> str:
    if not any(rung.ns_per_step for rung in run.rungs):
        return ""
    title = "A step’s time after each change"
    svg = draw("ladder", title, lambda: charts.waterfall(run.rungs))
    total = "" if run.explained is None else _explained(run.explained)
    return _figure(svg, total) + table(tables.ladder(run), title)


def _explained(share: float) -> str:
    return (
        f"What was removed and what is left, each measured by itself, are {100 * share:.0f} % of the first loop’s time."
    )


def _split(run: Run, draw: Draw) -> str:
    if not any((part.ns or 0) > 0 for part in run.split):
        return ""
    title = "The parts of one eager autograd step"
    svg = draw("split", title, lambda: charts.stacked(run.split))
    return _figure(svg, "From the left, in the order of the table.") + table(tables.split(run), title)


def _peers(run: Run, draw: Draw) -> str:  # noqa: ARG001
    return _rows(tables.peers(run), "Peers on the post’s problem")


def _zoo(run: Run, draw: Draw) -> str:  # noqa: ARG001
    return _rows(tables.zoo(run), "A step of each loss")


def _scale(run: Run, draw: Draw) -> str:
    grown = [(size, measure, curves(run.of("scale"), size, measure)) for size in SIZES for measure in MEASURES]
    made = [_growth(lines, size, measure, draw) for size, measure, lines in grown if lines]
    return element("div", "".join(made), class_="pair") if made else ""


def _growth(lines: Sequence[Curve], size: str, measure: str, draw: Draw) -> str:
    marks = crossovers(lines) if measure == "seconds" else []
    precisions = {line.precision for line in lines}
    title = f"{'Time' if measure == 'seconds' else 'Memory'} by {SIZES[size]}"
    title += f", {precisions.pop()}" if len(precisions) == 1 else ""
    svg = draw(f"{size}-{measure}", title, lambda: charts.growth(lines, size, measure, marks))
    said = [] if svg else [f"{line.name} grows as the power {line.slope:.1f}." for line in lines]
    said += [_overtakes(mark, size) for mark in marks]
    words = element("ul", "".join(text("li", line) for line in said), class_="plain") if said else ""
    return element("div", text("h3", title) + _figure(svg) + words)


def _overtakes(mark: Crossover, size: str) -> str:
    rounded = float(f"{mark.size:.2g}")  # an interpolation knows no more
    place = f"degree {math.ceil(mark.size)}" if size == "degree" else f"{rounded:,.0f} {SIZES[size].split()[0]}"
    return f"From {place} on, {mark.after} is faster than {mark.before}."


def _cold(run: Run, draw: Draw) -> str:  # noqa: ARG001
    return _rows(tables.cold(run), "Cold start")


def _machine(run: Run, draw: Draw) -> str:  # noqa: ARG001
    return table(tables.machine(run), "Machine and versions")


def _not_measured(run: Run, draw: Draw) -> str:  # noqa: ARG001
    return _rows(tables.not_measured(run), "Not measured")


MEASURED = (
    Section(
        "post",
        "The post’s table, then and now",
        "“× numpy” is how many times as fast as the post’s numpy loop on the same machine, “× autograd” as "
        "its autograd loop on the same GPU; “in 2017” is what the post published. “Off by” is the largest difference "
        "of the weights from where a run of that precision must end: arithmetic of 60 digits (double), the digits that "
        "the post prints (mixed), the torch loop (single).",
        _post,
    ),
    Section(
        "bars",
        "What it is held to",
        "Ratios of medians and limits, each with its bar; docs/bars.md says why. On a CPU both sides are timed in turn "
        "in one process; on a GPU each in a process of its own.",
        _bars,
    ),
    Section(
        "ladder",
        "What makes autograd faster",
        "The post ends: “I would appreciate comments on changes to my code that will result in faster autograd "
        "execution.” Here they are: its autograd loop, one change at a time, each measured, each giving the same "
        "weights. What stands aside is shown and taken back.",
        _ladder,
    ),
    Section("split", "Where a step’s time goes", "One step of the post’s autograd loop, as it is.", _split),
    Section(
        "peers",
        "Against the peers",
        "The post’s problem in other hands, on the same machine in the same run. Where fewer steps were run, the name "
        "says so and the seconds are scaled to all of them. What is not gradient descent is marked; it ends "
        "elsewhere, at the minimum.",
        _peers,
    ),
    Section(
        "zoo",
        "Any loss",
        "Other losses, written in torch and differentiated by torch’s autograd: the time of one step.",
        _zoo,
    ),
    Section(
        "scale",
        "How it grows",
        "Both axes are logarithmic, so that a power of the size is a straight line. The number after a name is that "
        "power, over the last decade. A ring marks where another method becomes the fastest.",
        _scale,
    ),
    Section("cold", "Cold start", "A fresh process, from its start to its first result.", _cold),
)

FIDELITY = Section(
    "fidelity",
    "How true it is",
    "The largest deviation from arithmetic of 60 digits over the problems of tests/test_fidelity.py: the post’s, its "
    "siblings, random ones, tall ones. Relative to the largest weight or to 1. The test fails beyond what is promised.",
    lambda run, draw: "",  # noqa: ARG005
)
MACHINE = Section("machine", "Machine and versions", "What all of this was measured on.", _machine)
MISSING = Section("missing", "What was not measured", "And why.", _not_measured)


def sections(results: Results, draw: Draw) -> list[tuple[str, str, str]]:
    """(name, title, content) of all that have something to show, from first to last."""
    made = [(section, _by_run(results, section, draw)) for section in MEASURED]
    shown = tables.fidelity(results.fidelity)
    made.insert(-1, (FIDELITY, _rows(shown, "Deviation from the truth, by backend")))
    made.append((MACHINE, _by_run(results, MACHINE, draw)))
    absent = [section.title for section, content in made if not content]
    if not any(run.on_gpu for run in results.runs):
        absent.append("anything on a GPU")
    said = text("p", f"These results hold nothing for: {'; '.join(absent)}.") if absent else ""
    made.append((MISSING, _by_run(results, MISSING, draw) + said))
    return [(s.name, s.title, text("p", s.words) + content) for s, content in made if content]


def _by_run(results: Results, section: Section, draw: Draw) -> str:
    """The content of each run that has some, under the name of its device where there are several."""
    made = ""
    for i, run in enumerate(results.runs):

        def draw_of_run(name: str, title: str, picture: Callable[[], Any], i: int = i) -> str:
            return draw(f"{name}-{i}", title, picture)

        content = section.content(run, draw_of_run)
        if content and len(results.runs) > 1:
            made += text("h3", f"On {tables.place(run)}")
        said = tables.said_shortly(run)
        if content and said:
            made += text("p", f"{said[0].upper()}{said[1:]}.", class_="quiet")
        made += content
    return made
