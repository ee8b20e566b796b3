"""The result file of a card: the form of bench/results_file.py, with the rows that it was made of, to go on from.

`<card>.json` when everything was done, `<card>-partial.json` when not; that says what is missing.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import results_file

from . import bars
from .book import RIGHT, Book
from .rows import Reader, Row

DETAILS = ("stage", "digest", "unit", "kind", "group")
"""Keys of a row that say where it is from; the rest is the figure's."""


@dataclass(frozen=True)
class Files:
    """Where the results of one card go: four files, of eight that may come back from a lent machine."""

    folder: Path
    card: str

    @property
    def whole(self) -> Path:
        return self.folder / f"{self.card}.json"

    @property
    def partial(self) -> Path:
        return self.folder / f"{self.card}-partial.json"

    @property
    def rows(self) -> Path:
        return self.folder / f"{self.card}-rows.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.card}-log.txt"

    def earlier(self, committed: Path) -> list[Row]:
        """The rows of earlier runs, here or among the committed results; each once."""
        found: dict[str, Row] = {}
        for files in (self, Files(committed, self.card)):
            for path in (files.whole, files.partial):
                if path.exists():
                    told = json.loads(path.read_text()).get("gpu", {}).get("rows", [])
                    found |= {json.dumps(row, sort_keys=True): row for row in told}
            found |= {json.dumps(row, sort_keys=True): row for row in Reader(files.rows)}
        return list(found.values())


def where(name: str) -> dict[str, str]:
    """The card and the versions: what a figure depends on, beside the sources."""
    versions = results_file.versions()
    return {"card": name, "cuda": _cuda(), **{key: versions[key] for key in versions if key != "c compiler"}}


def _cuda() -> str:
    import torch

    return str(torch.version.cuda)


def write(book: Book, files: Files, of: dict[str, str]) -> Path:
    """Write what the book has, in one step; the path."""
    missing = book.missing()
    path, other = (files.partial, files.whole) if missing else (files.whole, files.partial)
    fresh = path.with_suffix(".new")
    fresh.write_text(_of_nobody(json.dumps(content(book, of, partial=bool(missing)), indent=1, default=float)))
    fresh.replace(path)
    if not missing:
        other.unlink(missing_ok=True)
    return path


def _of_nobody(text: str) -> str:
    """Without the folders of this machine, which errors quote."""
    for folder in (Path(results_file.__file__).parents[1], tempfile.gettempdir(), sys.prefix, Path.home()):
        text = text.replace(f"{folder}/", "")
    return text


def content(book: Book, of: dict[str, str], *, partial: bool) -> dict[str, Any]:
    """What the file says."""
    driver = next((row for row in book.rows if row.get("kind") == "card"), {}).get("driver_version")
    versions = {key: value for key, value in of.items() if key != "card"} | ({"driver": driver} if driver else {})
    now = datetime.now(UTC)
    return {
        "machine_info": {"cpu": {"brand_raw": results_file.processor()}, "system": platform.system()},
        "commit_info": {"project": "fastpoly"},
        "benchmarks": benchmarks(book.in_order(), of["card"]),
        "datetime": now.isoformat(),
        "fastpoly": {
            "device": of["card"],
            "cores": results_file.cores(),
            "versions": versions,
            "quick": False,
            "partial": partial,
            "not_measured": not_measured(book),
            "date": now.date().isoformat(),
        },
        "gpu": {"rows": book.rows},
    }


def benchmarks(rows: list[Row], device: str) -> list[dict[str, Any]]:
    """Timings, and the bars that come of them, as pytest-benchmark would name them."""
    timings = [row for row in rows if row.get("kind") == "timing"]
    beside = {row["precision"] for row in timings if row["group"] == "peers"}
    ours = [row for row in timings if row["group"] == "post" and row["backend"] in bars.OURS]
    timings += [{**row, "group": "peers"} for row in ours if row["precision"] in beside]
    figures = [_timing(row, device) for row in timings]
    plain = [{"group": row["group"], **row["extra_info"]} for row in figures]
    for row, ratio in zip(figures, results_file.to_fastest(plain), strict=True):
        if ratio is not None:
            row["extra_info"]["to_fastest"] = ratio
    found = [
        {"group": "bars", "name": f"bar {i}", "stats": {}, "extra_info": {**bar, "device": device}}
        for i, bar in enumerate(bars.held(rows))
    ]
    return figures + found


def _timing(row: Row, device: str) -> dict[str, Any]:
    info = {key: value for key, value in row.items() if key not in DETAILS}
    stats = {
        "median": row["seconds"],
        "min": row["fastest_round"],
        "max": row["slowest_round"],
        "rounds": row["rounds"],
    }
    return {
        "group": row["group"],
        "name": f"{row['stage']}: {row['unit']}",
        "stats": stats,
        "extra_info": {"kind": "timing", **info, "device": device},
    }


def not_measured(book: Book) -> list[dict[str, str]]:
    """What has no figure, and why."""
    ends = [row for row in book.rows if row.get("ended", RIGHT) != RIGHT and row["stage"] != "tests"]
    found = [
        {"name": f"{row['stage']}: {row['unit']}", "group": "gpu", "reason": row.get("reason") or _why(row)}
        for row in ends
    ]
    left: dict[str, list[str]] = {}
    for stage, unit in book.missing():
        left.setdefault(stage.partition("_")[0] if stage.startswith("operations") else stage, []).append(unit)
    for stage, units in left.items():
        name = f"{stage}: {units[0]}" if units[0] and len(units) == 1 else stage
        told = f"the time was over; {len(units)} of it are left" if units[0] else "the time was over"
        found.append({"name": name, "group": "gpu", "reason": f"{told}; `make gpu` goes on there"})
    return found + [{"name": name, "group": "bars", "reason": why} for name, why in bars.open_ones(book.rows)]


def _why(row: Row) -> str:
    return f"{row['ended']}: {row.get('error', '')}"[:200]
