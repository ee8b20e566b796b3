"""The end of what `make gpu` prints: figures, bars, failures, what is left. At most 100 lines of 118 letters.

Whoever called it on a lent machine sees the last 12,000 letters and nothing before.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import tables

from . import bars
from .book import Book
from .grid import choices

MOST, WIDTH = 100, 118


def lines(book: Book, path: Path) -> list[str]:
    """The text."""
    read = json.loads(path.read_text())
    told = [_failed(row) for row in book.failures()]
    failures = ["", f"failures: {len(told)}", *told[:20]] if told else ["", "no failures"]
    shown = [*failures, *_operations(book), *_left(book, read), "", f"wrote {path.name}"]
    figures = [*_figures(read), *_choices(book)]
    room = MOST - len(shown)
    if len(figures) > room:
        figures = [*figures[: room - 1], f"... and {len(figures) - room + 1} lines more: {path.name}"]
    return [line.replace("\n", " ")[:WIDTH] for line in [*figures, *shown]]


def _figures(read: dict) -> list[str]:  # type: ignore[type-arg]
    """Bars first, then times, a line each."""
    rows = [{"group": row["group"], **row["extra_info"]} for row in read["benchmarks"]]
    judged = [row for row in rows if row["kind"] in ("ratio", "limit")]
    found = [f"{_bar(row)}" for row in judged]
    times = [row for row in rows if row["kind"] == "timing" and (row["group"] != "peers" or "JAX" in row["name"])]
    step = [
        (_named(row), tables.seconds(row["seconds"]), tables.seconds((row["ns_per_step"] or 0) / 1e9)) for row in times
    ]
    return ["bars", *found, "", *tables.aligned(("", "seconds", "a step"), step)]


def _named(row: dict) -> str:  # type: ignore[type-arg]
    model = "" if row["model"] == "post" else f"{row['model']}: "
    return f"{model}{row['name']} {row['precision']}"


def _bar(row: dict) -> str:  # type: ignore[type-arg]
    holds = "holds      " if row["holds"] else "FALLS SHORT"
    sign = "<=" if row["at_most"] else ">="
    if row["kind"] == "limit":
        return f"{holds} {row['value']:8.4g} {sign} {row['limit']:5.4g} {row['unit']:2} {row['name']}"
    return f"{holds} {row['ratio']:8.4g} {sign} {row['bar']:5.4g}    {row['of']} / {row['to']}"


def _choices(book: Book) -> list[str]:
    found = list(choices(book.rows))
    if not found:
        return []
    bad = [choice for choice in found if not choice.good]
    told = [
        f"  {c.model}, {c.steps:,} steps: took {c.took}, {tables.seconds(c.seconds) or 'not timed'}; "
        f"{c.best} would take {tables.seconds(c.least)}"
        for c in bad
    ]
    return ["", f"auto takes the fastest, or one within a fifth of it: {len(found) - len(bad)} of {len(found)}", *told]


def _operations(book: Book) -> list[str]:
    found = Counter(bars.verdict(row) for row in book.rows if "op" in row)
    wrong = [
        f"  {bars.verdict(row)}: {row['op']}" for row in book.rows if "op" in row and bars.verdict(row) in bars.WRONG
    ]
    said = ", ".join(f"{count} {verdict}" for verdict, count in found.most_common())
    return ["", f"operations: {said}", *wrong[:12]] if found else []


def _failed(row: dict) -> str:  # type: ignore[type-arg]
    return f"  {row['stage']}: {row['unit']} {row['ended']}: {row.get('error', '')}".replace("\n", " ")


def _left(book: Book, read: dict) -> list[str]:  # type: ignore[type-arg]
    failed = {f"{row['stage']}: {row['unit']}" for row in book.failures()}
    rows = [row for row in read["fastpoly"]["not_measured"] if row["group"] == "gpu" and row["name"] not in failed]
    left = [f"  {row['name']}: {row['reason']}" for row in rows]
    return ["", f"not measured: {len(left)}", *left[:25]] if left else []
