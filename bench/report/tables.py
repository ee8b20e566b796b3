"""The tables of the report and of README.md: from rows of results to cells of text, for the page and for `markdown`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fastpoly._backends import NAMES
from fastpoly._post import PUBLISHED_SECONDS

from .figures import DASH, count, deviation, measured, nanoseconds, seconds, times
from .results import Bar, Fidelity, NotMeasured, Run, Rung, Timing

Tone = Literal["", "ours", "holds", "short", "quiet", "strong"]

OURS = (frozenset(NAMES) - PUBLISHED_SECONDS.keys() - {"compile", "compile-gpu"}) | {
    "auto",
    "descend",
    "fused",
    "triton",
}
"""The names under which fastpoly's own loops are measured, those of `fit` and of `descend`; all others are peers, as
torch.compile is."""


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, how it is meant, and what is said of it in small letters where there is room."""

    text: str
    tone: Tone = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A heading; numbers stand to the right. `wide` is for sentences."""

    title: str
    numeric: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are columns; the first cell names its row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def without_empty_columns(self) -> Table:
        """Only columns where some row has something."""
        return self._kept(
            [i for i in range(len(self.columns)) if any(row[i].text not in ("", DASH) for row in self.rows)]
        )

    def only(self, *titles: str) -> Table:
        """The columns with these titles, in their order."""
        return self._kept([i for i, column in enumerate(self.columns) if column.title in titles])

    def _kept(self, kept: Sequence[int]) -> Table:
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return Table(tuple(self.columns[i] for i in kept), rows)


def _table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Table:
    return Table(tuple(columns), tuple(tuple(row) for row in rows)).without_empty_columns()


NAME = Column("backend", numeric=False)
PRECISION = Column("precision", numeric=False)


def is_ours(timing: Timing) -> bool:
    """Is it one of fastpoly's loops, and none of the post's and no peer?"""
    return timing.backend.partition(",")[0] in OURS  # "spectral, one x" is


def fastest(timings: Iterable[Timing]) -> Timing | None:
    """The one that takes the least, of those that were measured."""
    return min((t for t in timings if t.seconds), key=lambda t: t.seconds or 0, default=None)


def _tone(timing: Timing) -> Tone:
    return "ours" if is_ours(timing) else ""


def label(timing: Timing) -> str:
    """A backend of fastpoly's by that name, anything else as the benchmark calls it; and whether it ran fewer steps."""
    if timing.backend not in NAMES:
        return timing.name
    fewer = timing.steps_run and timing.steps and timing.steps_run < timing.steps
    return f"{timing.backend} (from {count(timing.steps_run)} steps)" if fewer else timing.backend


YARDSTICKS = {"numpy": "numpy", "torch-autograd-gpu": "autograd"}
"""Of the post's loops those that others are compared with, on a CPU and on a GPU, and what to call them."""


def post(run: Run) -> Table:
    """Every backend on the post's problem, beside what the post published; compared with the first of YARDSTICKS."""
    timings = run.of("post")
    slow = {t.backend: t.seconds for t in timings if t.seconds}
    yardstick = next((name for name in YARDSTICKS if name in slow), "numpy")
    base = slow.get(yardstick)
    columns = [
        NAME,
        PRECISION,
        Column("now"),
        Column(f"× {YARDSTICKS[yardstick]}"),
        Column("in 2017"),
        Column("off by"),
    ]
    return _table(
        columns,
        (
            (
                Cell(label(t), _tone(t)),
                Cell(t.precision, "quiet"),
                Cell(seconds(t.seconds), "strong"),
                Cell(times(base / t.seconds if base and t.seconds else None), _tone(t)),
                Cell(seconds(t.published) if t.published else "", "quiet"),
                Cell(deviation(t.deviation), "quiet"),
            )
            for t in timings
        ),
    )


def peers(run: Run) -> Table:
    """Who else runs the post's problem, fastest first within a precision."""
    timings = [t for t in run.of("peers") if t.model in ("", "post")]
    timings.sort(key=lambda t: (t.precision, t.seconds or float("inf")))
    columns = [NAME, PRECISION, Column("seconds"), Column("a step"), Column("to the fastest"), Column("off by")]
    return _table([*columns, Column("", numeric=False)], (_peer(t) for t in timings))


def _peer(timing: Timing) -> list[Cell]:
    return [
        Cell(timing.name, _tone(timing)),
        Cell(timing.precision, "quiet"),
        Cell(seconds(timing.seconds), "strong"),
        Cell("" if timing.different_method else nanoseconds(timing.ns_per_step)),
        Cell(times(timing.to_fastest)),
        Cell(deviation(timing.deviation), "quiet"),
        Cell("another method" if timing.different_method else "", "quiet"),
    ]


def zoo_timings(run: Run) -> list[Timing]:
    """Those of losses other than the post's."""
    return [t for t in run.timings if t.group in ("peers", "zoo") and t.model not in ("", "post")]


def contender(timing: Timing) -> str:
    """Who ran, whatever the setting: "JAX" for "JAX, unroll 8", "torch.compile" for it "(from 4,000 steps)"."""
    return re.split(r",| \(", timing.name)[0]


def zoo(run: Run) -> Table:
    """A row for each loss and precision, a column for each contender, a step's time in each cell."""
    timings = zoo_timings(run)
    contenders = {contender(t): _tone(t) for t in sorted(timings, key=is_ours)}
    columns = [Column("loss", numeric=False), PRECISION, *map(Column, contenders), Column("fastest peer / ours")]
    rows = []
    for model, precision in dict.fromkeys((t.model, t.precision) for t in timings):
        row = [t for t in timings if (t.model, t.precision) == (model, precision)]
        best = {name: _step(t for t in row if contender(t) == name) for name in contenders}
        peer, ours = _step(t for t in row if not is_ours(t)), _step(filter(is_ours, row))
        rows.append(
            [
                Cell(model),
                Cell(precision, "quiet"),
                *(Cell(nanoseconds(best[name]), tone) for name, tone in contenders.items()),
                Cell(times(peer / ours if peer and ours else None), "strong"),
            ]
        )
    return _table(columns, rows)


def _step(timings: Iterable[Timing]) -> float | None:
    """Nanoseconds a step of the fastest."""
    return min((t.ns_per_step for t in timings if t.ns_per_step), default=None)


def loss_of(run: Run, model: str, precision: str) -> Table:
    """Who runs one loss of the zoo, slowest first: the README's example."""
    timings = [t for t in zoo_timings(run) if (t.model, t.precision) == (model, precision) and t.seconds]
    best = [fastest(t for t in timings if contender(t) == name) for name in dict.fromkeys(map(contender, timings))]
    shown = sorted((t for t in best if t), key=lambda t: -(t.seconds or 0))
    steps = count(shown[0].steps) if shown else ""
    columns = [Column(f"{steps} steps, {precision}", numeric=False), Column("seconds"), Column("a step")]
    return _table(
        columns, ((Cell(t.name, _tone(t)), Cell(seconds(t.seconds)), Cell(nanoseconds(t.ns_per_step))) for t in shown)
    )


def bars(run: Run, source: str = "") -> Table:
    """Each figure beside what it is held to, by `source` or by anyone, and what was not measured, with the reason."""
    columns = [Column("what", numeric=False), Column("measured"), Column("bar"), Column("", numeric=False)]
    columns.append(Column("source", numeric=False, wide=True))
    shown = [bar for bar in run.bars if bar.source.startswith(source)]
    shown.sort(key=lambda bar: not bar.source.startswith("docs/bars.md: promises"))
    return _table(columns, [*map(_bar, shown), *map(_missing_bar, run.missing_bars)])


def verdict(bar: Bar) -> Cell:
    """Whether it holds."""
    if bar.holds is None or bar.value is None:
        return Cell("not measured", "quiet")
    return Cell("holds", "holds") if bar.holds else Cell("falls short", "short")


def _bar(bar: Bar) -> list[Cell]:
    sign = "≤" if bar.at_most else "≥"
    limit = (
        "" if bar.limit is None else f"{sign} {bar.limit:,g}{bar.unit if bar.unit == '×' else f' {bar.unit}'}".rstrip()
    )
    return [
        Cell(bar.name),
        Cell(measured(bar.value, bar.unit), "strong"),
        Cell(limit),
        verdict(bar),
        Cell(bar.source, "quiet"),
    ]


def _missing_bar(item: NotMeasured) -> list[Cell]:
    return [Cell(item.name), Cell(DASH), Cell(""), Cell(f"not measured: {item.reason}", "quiet"), Cell("")]


def ladder(run: Run) -> Table:
    """The post's autograd loop, one change at a time."""
    first = next((rung.ns_per_step for rung in run.rungs if rung.ns_per_step), None)
    columns = [Column("loop", numeric=False), Column("a step"), Column("saved"), Column("of the first")]
    columns += [Column("off by"), Column("why", numeric=False, wide=True)]
    return _table(columns, (_rung(rung, first) for rung in run.rungs))


def _rung(rung: Rung, first: float | None) -> list[Cell]:
    missing = f" Not measured: {rung.not_measured}." if rung.not_measured else ""
    return [
        Cell(rung_name(rung), note=rung.change),
        Cell(nanoseconds(rung.ns_per_step), "strong"),
        Cell("" if rung.removed_ns is None else nanoseconds(rung.removed_ns)),
        Cell(share(rung.removed_ns, first)),
        Cell(deviation(rung.deviation), "quiet"),
        Cell(rung.why.replace("`", "") + missing, "quiet"),
    ]


def rung_name(rung: Rung) -> str:
    """Its name, and whether the rungs that follow do without it."""
    return rung.name if rung.kept else f"{rung.name} (aside)"


def share(part: float | None, whole: float | None) -> str:
    """Per cent of the whole."""
    return "" if part is None or not whole else f"{100 * part / whole:.1f} %".replace("-", "−")


def split(run: Run) -> Table:
    """Where the time of the eager step goes."""
    whole = sum(part.ns or 0 for part in run.split)
    columns = [
        Column("part", numeric=False),
        Column("a step"),
        Column("share"),
        Column("from", numeric=False, wide=True),
    ]
    return _table(
        columns,
        (
            (
                Cell(part.part),
                Cell(nanoseconds(part.ns), "strong"),
                Cell(share(part.ns, whole)),
                Cell(part.source, "quiet"),
            )
            for part in run.split
        ),
    )


def fidelity(rows: Sequence[Fidelity]) -> Table:
    """How far from the truth each backend may be, and was."""
    columns = [NAME, PRECISION, Column("weights off by"), Column("promised"), Column("mse off by"), Column("promised")]
    return _table(
        [*columns, Column("problems")],
        (
            (
                Cell(row.backend),
                Cell(row.precision, "quiet"),
                Cell(deviation(row.weights), "strong"),
                Cell(deviation(row.weights_bound), "quiet"),
                Cell(deviation(row.mse), "strong"),
                Cell(deviation(row.mse_bound), "quiet"),
                Cell(count(row.problems), "quiet"),
            )
            for row in rows
        ),
    )


def cold(run: Run) -> Table:
    """From a fresh process to its first result, by what its caches hold."""
    timings = run.of("cold")
    caches = list(dict.fromkeys(t.cache for t in timings))
    columns = [Column("process", numeric=False), PRECISION]
    columns += [Column(f"{cache} caches" if cache else "seconds") for cache in caches]
    rows = []
    names = [(t.name.removesuffix(f", {t.cache} caches"), t.precision) for t in timings]
    for name, precision in dict.fromkeys(names):
        row = {t.cache: t for t, named in zip(timings, names, strict=True) if named == (name, precision)}
        cells = [Cell(seconds(row[cache].seconds) if cache in row else DASH, "strong") for cache in caches]
        rows.append([Cell(name, _tone(next(iter(row.values())))), Cell(precision, "quiet"), *cells])
    return _table(columns, rows)


def machine(run: Run) -> Table:
    """What was measured on, and with which versions."""
    facts = [("device", run.device)]
    if run.on_gpu and run.processor:
        facts.append(("processor", run.processor))
    facts += [("cores", "" if run.cores is None else count(run.cores)), ("measured", run.date), *run.versions.items()]
    facts += [("how", said_of(run))]
    columns = Column("", numeric=False), Column("", numeric=False)
    return Table(columns, tuple((Cell(key), Cell(value)) for key, value in facts if value))


def place(run: Run) -> str:
    """The device that a run's figures are of, and how much of it: what stands over them."""
    cores = f"{count(run.cores)} cores" if run.cores else ""
    if not run.on_gpu:
        return f"{run.device} ({cores})" if cores else run.device
    beside = f"{cores} of {run.processor}" if cores and run.processor else cores
    return f"{run.device} (a GPU{f', beside it {beside}' if beside else ''})"


def said_of(run: Run) -> str:
    """What a reader must know of how the figures came to be, if anything."""
    parts = ["cut before its end, some figures are missing" if run.partial else "", run.provenance]
    return "; ".join(filter(None, parts))


def said_shortly(run: Run) -> str:
    """The first of it, for what stands over a table."""
    return said_of(run).partition(";")[0]


def not_measured(run: Run) -> Table:
    """What the run left out, and why."""
    columns = [
        Column("what", numeric=False),
        Column("group", numeric=False),
        Column("reason", numeric=False, wide=True),
    ]
    return _table(
        columns, ((Cell(item.name), Cell(item.group, "quiet"), Cell(item.reason)) for item in run.not_measured)
    )
