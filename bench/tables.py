"""The rows of a run as tables of text: one a group, the bars, and what was not measured."""

from __future__ import annotations

import results_file
from report.curves import crossovers, curves
from report.results import timing

TITLES = {
    "post": "the post's problem: 100 samples, degree 4, 200,000 steps",
    "peers": "the post's problem, by us and by others",
    "zoo": "other losses, 100 samples",
    "scale": "how time grows",
    "cold": "a fresh process, from its start to the first result",
    "ladder": "the autograd ladder",
    "bars": "bars: ratios of medians, both sides in turn",
}


def all_of(rows, not_measured):
    """(title, lines) of every table that has a row."""
    rows = [row | {"to_fastest": ratio} for row, ratio in zip(rows, results_file.to_fastest(rows), strict=True)]
    for group, title in TITLES.items():
        found = [row for row in rows if row["group"] == group and row["kind"] == "timing"]
        if group == "scale":
            for axis in dict.fromkeys(row["axis"] for row in found):
                yield f"{title} with {axis}", growth([row for row in found if row["axis"] == axis])
        elif found:
            yield title, list(aligned(*timings(found)))
    bars = [row for row in rows if row["kind"] in ("ratio", "limit")]
    if bars:
        yield TITLES["bars"], list(aligned(*verdicts(bars)))
        missed = sum(not row["holds"] for row in bars)
        yield f"{len(bars) - missed} of {len(bars)} bars hold", []
    if not_measured:
        yield "not measured", [f"{row['name']}: {row['reason']}" for row in not_measured]


def aligned(header, body):
    """Lines of a table whose first column is text and whose others are numbers."""
    table = [header, *body]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for cells in table:
        first, *others = zip(cells, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


def seconds(value):
    return (
        "" if value is None else f"{value:,.1f} s" if value >= 10 else f"{value:.3g} s" if value >= 1 else small(value)
    )


def small(value):
    """Of a second."""
    for factor, unit in ((1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def number(value, form):
    return "" if value is None else format(value, form)


def timings(rows):
    header = ("", "model", "precision", "seconds", "ns a step", "to fastest", "off by", "published")
    body = [
        (
            row["name"] + (", another method" if row.get("different_method") else ""),
            row["model"],
            row["precision"],
            seconds(row["seconds"]),
            number(row["ns_per_step"], ",.0f" if (row["ns_per_step"] or 0) >= 100 else ".3g"),
            number(row["to_fastest"], ",.2f"),
            number(row.get("deviation"), ".0e"),
            seconds(row.get("published")),
        )
        for row in rows
    ]
    return header, body


def growth(rows):
    """A line a curve: seconds at each size, and the power of the size that they grow with; then the crossovers."""
    axis = rows[0]["axis"]
    sizes = sorted({row[axis] for row in rows})
    found = curves([timing(row["group"], row) for row in rows], axis)
    slopes = {(curve.backend, curve.precision): curve.slope for curve in found}
    header = (axis, *(f"{size:g}" if size < 1000 else f"{size:.0e}".replace("e+0", "e") for size in sizes), "slope")
    body = []
    for of in dict.fromkeys((row["backend"], row["precision"]) for row in rows):
        points = {row[axis]: row["seconds"] for row in rows if (row["backend"], row["precision"]) == of}
        cells = (seconds(points.get(size)) for size in sizes)
        body.append((" ".join(of), *cells, number(slopes.get(of), ".2f")))
    return [
        *aligned(header, body),
        *(f"from {mark.size:,.2g} on {mark.after} overtakes {mark.before}" for mark in crossovers(found)),
    ]


def verdicts(rows):
    header = ("", "", "", "measured", "bar", "", "set by")
    body = []
    for row in rows:
        verdict = "holds" if row["holds"] else "FALLS SHORT"
        if row["kind"] == "limit":
            measured, bar = f"{row['value']:.1f} {row['unit']}", f"{'<=' if row['at_most'] else '>='} {row['limit']:g}"
            body.append((row["name"], "", "", measured, bar, verdict, row["source"]))
        else:
            sides = seconds(row["seconds_of"]), seconds(row["seconds_to"])
            measured, bar = f"{row['ratio']:,.2f}", f"{'<=' if row['at_most'] else '>='} {row['bar']:g}"
            body.append((f"{row['of']} / {row['to']}", *sides, measured, bar, verdict, row["source"]))
    return header, body
