"""The tables of the report and of the pages: from rows of results to cells of text, for the page and for `markdown`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fastpoly._backends import NAMES
from fastpoly._post import PUBLISHED_SECONDS

from .figures import DASH, count, deviation, measured, nanoseconds, seconds, times
from .results import Bar, Fidelity, NotMeasured, Run, Rung, Timing

Tone = Literal["", "ours", "holds", "short", "quiet", "strong"]

OURS = {*NAMES, "auto", "descend", "fused"} - {*PUBLISHED_SECONDS, "compile", "compile-gpu"}
"""The names under which fastpoly's own loops are measured, those of `fit` and of `descend`; all others are peers, as
torch.compile is."""


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, how it is meant, and what is said of it in small letters where there is room."""

    text: str
    tone: Tone = ""
    note: str = ""


quiet, strong = partial(Cell, tone="quiet"), partial(Cell, tone="strong")


@dataclass(frozen=True)
class Column:
    """A heading; numbers stand to the right. `wide` is for sentences."""

    title: str
    numeric: bool = True
    wide: bool = False


words = partial(Column, numeric=False)
sentences = partial(Column, numeric=False, wide=True)


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are columns; the first cell names its row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def only(self, *titles: str) -> Table:
        """The columns with these titles, in their order."""
        return self._kept([i for i, column in enumerate(self.columns) if column.title in titles])

    def _kept(self, kept: Sequence[int]) -> Table:
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return Table(tuple(self.columns[i] for i in kept), rows)


def _table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Table:
    """Of those columns where some row has something."""
    table = Table(tuple(columns), tuple(tuple(row) for row in rows))
    some = [i for i in range(len(columns)) if any(row[i].text not in ("", DASH) for row in table.rows)]
    return table._kept(some)


NAME, PRECISION = words("backend"), words("precision")


def is_ours(timing: Timing) -> bool:
    """Is it one of fastpoly's loops, and none of the post's and no peer?"""
    return timing.backend.partition(",")[0] in OURS  # "spectral, one x" is


def fastest(timings: Iterable[Timing]) -> Timing | None:
    """The one that takes the least, of those that were measured."""
    return min((t for t in timings if t.seconds), key=lambda t: t.seconds or 0, default=None)


def _tone(timing: Timing) -> Tone:
    return "ours" if is_ours(timing) else ""


def _named(text: str, timing: Timing) -> Cell:
    return Cell(text, _tone(timing))


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

    def row(t: Timing) -> list[Cell]:
        ratio = times(base / t.seconds if base and t.seconds else None)
        now, then = strong(seconds(t.seconds)), quiet(seconds(t.published) if t.published else "")
        return [_named(label(t), t), quiet(t.precision), now, _named(ratio, t), then, quiet(deviation(t.deviation))]

    columns = Column("now"), Column(f"× {YARDSTICKS[yardstick]}"), Column("in 2017"), Column("off by")
    return _table([NAME, PRECISION, *columns], map(row, timings))


def then_and_now(run: Run) -> Table:
    """The post's loops beside the fastest of fastpoly's that computes alike, and below them the fastest of all."""

    def named(t: Timing | None) -> list[Cell]:
        return [strong(seconds(t.seconds)), Cell(f"{t.backend}, {t.precision}", "ours")] if t else [Cell(DASH)] * 2

    timings = run.of("post")
    published = [t for t in timings if t.published]
    rows = [
        [Cell(label(t)), Cell(seconds(t.published)), Cell(seconds(t.seconds)), *named(_alike(t, timings))]
        for t in published
    ]
    if rows:
        rows.append([Cell("the fastest of all"), Cell(""), Cell(""), *named(fastest(filter(is_ours, timings)))])
    columns = map(Column, ("in 2017", "it now", "fastpoly"))
    return _table([words("the post's loop"), *columns, words("by")], rows)


def post_and_ours(run: Run) -> list[Timing]:
    """The timings in that table."""
    timings = run.of("post")
    published = [t for t in timings if t.published]
    ours = [_alike(t, timings) for t in published] + [fastest(filter(is_ours, timings))]
    return published + list(dict.fromkeys(t for t in ours if t))


def _alike(then: Timing, timings: Iterable[Timing]) -> Timing | None:
    kind = "autograd" in then.backend, then.precision
    return fastest(t for t in timings if is_ours(t) and ("autograd" in t.backend, t.precision) == kind)


def peers(run: Run) -> Table:
    """Who else runs the post's problem, fastest first within a precision."""

    def row(t: Timing) -> list[Cell]:
        step = Cell("" if t.different_method else nanoseconds(t.ns_per_step))
        figures = [strong(seconds(t.seconds)), step, Cell(times(t.to_fastest)), quiet(deviation(t.deviation))]
        other = quiet("another method" if t.different_method else "")
        return [_named(t.name, t), quiet(t.precision), *figures, other]

    timings = [t for t in run.of("peers") if t.model in ("", "post")]
    timings.sort(key=lambda t: (t.precision, t.seconds or float("inf")))
    figures = map(Column, ("seconds", "a step", "to the fastest", "off by"))
    return _table([NAME, PRECISION, *figures, words("")], map(row, timings))


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
    columns = [words("loss"), PRECISION, *map(Column, contenders), Column("fastest peer / ours")]
    rows = []
    for model, precision in dict.fromkeys((t.model, t.precision) for t in timings):
        row = [t for t in timings if (t.model, t.precision) == (model, precision)]
        best = [
            Cell(nanoseconds(_step(t for t in row if contender(t) == name)), tone) for name, tone in contenders.items()
        ]
        peer, ours = _step(t for t in row if not is_ours(t)), _step(filter(is_ours, row))
        rows.append([Cell(model), quiet(precision), *best, strong(times(peer / ours if peer and ours else None))])
    return _table(columns, rows)


def _step(timings: Iterable[Timing]) -> float | None:
    """Nanoseconds a step of the fastest."""
    return min((t.ns_per_step for t in timings if t.ns_per_step), default=None)


def loss_of(run: Run, model: str, precision: str) -> Table:
    """Who runs one loss of the zoo, slowest first: the example of docs/losses.md."""
    timings = [t for t in zoo_timings(run) if (t.model, t.precision) == (model, precision) and t.seconds]
    best = [fastest(t for t in timings if contender(t) == name) for name in dict.fromkeys(map(contender, timings))]
    shown = sorted((t for t in best if t), key=lambda t: -(t.seconds or 0))
    steps = count(shown[0].steps) if shown else ""
    columns = [words(f"{steps} steps, {precision}"), Column("seconds"), Column("a step")]
    rows = ([_named(t.name, t), Cell(seconds(t.seconds)), Cell(nanoseconds(t.ns_per_step))] for t in shown)
    return _table(columns, rows)


def bars(run: Run, source: str = "") -> Table:
    """Each figure beside what it is held to, by `source` or by anyone, and what was not measured, with the reason."""
    columns = [words("what"), Column("measured"), Column("bar"), words(""), sentences("source")]
    shown = [bar for bar in run.bars if bar.source.startswith(source)]
    shown.sort(key=lambda bar: not bar.source.startswith("docs/bars.md: promises"))
    return _table(columns, [*map(_bar, shown), *map(_missing_bar, run.missing_bars)])


def verdict(bar: Bar) -> Cell:
    """Whether it holds."""
    if bar.holds is None or bar.value is None:
        return quiet("not measured")
    return Cell("holds", "holds") if bar.holds else Cell("falls short", "short")


def _bar(bar: Bar) -> list[Cell]:
    limit = "" if bar.limit is None else f"{'≤' if bar.at_most else '≥'} {bar.limit:,g}"
    limit += "" if bar.limit is None else "×" if bar.unit == "×" else f" {bar.unit}".rstrip()
    return [Cell(bar.name), strong(measured(bar.value, bar.unit)), Cell(limit), verdict(bar), quiet(bar.source)]


def _missing_bar(item: NotMeasured) -> list[Cell]:
    return [Cell(item.name), Cell(DASH), Cell(""), quiet(f"not measured: {item.reason}"), Cell("")]


def ladder(run: Run) -> Table:
    """The post's autograd loop, one change at a time."""
    first = next((rung.ns_per_step for rung in run.rungs if rung.ns_per_step), None)

    def row(rung: Rung) -> list[Cell]:
        missing = f" Not measured: {rung.not_measured}." if rung.not_measured else ""
        saved = Cell("" if rung.removed_ns is None else nanoseconds(rung.removed_ns))
        figures = [strong(nanoseconds(rung.ns_per_step)), saved, Cell(share(rung.removed_ns, first))]
        why = quiet(rung.why.replace("`", "") + missing)
        return [Cell(rung_name(rung), note=rung.change), *figures, quiet(deviation(rung.deviation)), why]

    figures = map(Column, ("a step", "saved", "of the first", "off by"))
    return _table([words("loop"), *figures, sentences("why")], map(row, run.rungs))


def rung_name(rung: Rung) -> str:
    """Its name, and whether the rungs that follow do without it."""
    return rung.name if rung.kept else f"{rung.name} (aside)"


def share(part: float | None, whole: float | None) -> str:
    """Per cent of the whole."""
    return "" if part is None or not whole else f"{100 * part / whole:.1f} %".replace("-", "−")


def split(run: Run) -> Table:
    """Where the time of the eager step goes."""
    whole = sum(part.ns or 0 for part in run.split)
    columns = [words("part"), Column("a step"), Column("share"), sentences("from")]
    return _table(
        columns,
        ([Cell(p.part), strong(nanoseconds(p.ns)), Cell(share(p.ns, whole)), quiet(p.source)] for p in run.split),
    )


def fidelity(rows: Sequence[Fidelity]) -> Table:
    """How far from the truth each backend may be, and was."""

    def row(of: Fidelity) -> list[Cell]:
        weights = strong(deviation(of.weights)), quiet(deviation(of.weights_bound))
        mse = strong(deviation(of.mse)), quiet(deviation(of.mse_bound))
        return [Cell(of.backend), quiet(of.precision), *weights, *mse, quiet(count(of.problems))]

    figures = map(Column, ("weights off by", "promised", "mse off by", "promised", "problems"))
    return _table([NAME, PRECISION, *figures], map(row, rows))


def cold(run: Run) -> Table:
    """From a fresh process to its first result, by what its caches hold."""
    timings = run.of("cold")
    caches = list(dict.fromkeys(t.cache for t in timings))
    columns = [words("process"), PRECISION]
    columns += [Column(f"{cache} caches" if cache else "seconds") for cache in caches]
    rows = []
    names = [(t.name.removesuffix(f", {t.cache} caches"), t.precision) for t in timings]
    for name, precision in dict.fromkeys(names):
        row = {t.cache: t for t, named in zip(timings, names, strict=True) if named == (name, precision)}
        cells = [strong(seconds(row[cache].seconds) if cache in row else DASH) for cache in caches]
        rows.append([_named(name, next(iter(row.values()))), quiet(precision), *cells])
    return _table(columns, rows)


def machine(run: Run) -> Table:
    """What was measured on, and with which versions."""
    facts = [("device", run.device)]
    if run.on_gpu and run.processor:
        facts.append(("processor", run.processor))
    facts += [("cores", "" if run.cores is None else count(run.cores)), ("measured", run.date), *run.versions.items()]
    facts += [("how", said_of(run))]
    return Table((words(""), words("")), tuple((Cell(key), Cell(value)) for key, value in facts if value))


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
    columns = [words("what"), words("group"), sentences("reason")]
    return _table(columns, ([Cell(item.name), quiet(item.group), Cell(item.reason)] for item in run.not_measured))
