"""`fastpoly demo`: the post's comparison, now."""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from .._backends import Backend, backends
from .._fit import solve
from .._monitor import Progress
from .._near import near
from .._post import DEGREE, LEARN_RATE, PUBLISHED_SECONDS, REFERENCES, STEPS, samples
from .._problem import FitProblem
from .._progress import new_bar
from .._result import FitResult
from . import fit_plots, plots
from .write import existing, make_folder, write_json, wrote

QUICK_SECONDS = 0.1
"""A run below this is repeated, and its median shown: a single one shows the machine's noise."""

REPEATS = 25


@dataclass(frozen=True)
class Row:
    """One line of the comparison. `difference` is None where there is no reference to compare with."""

    name: str
    backend: str
    precision: str
    seconds: float
    final_error: float | None
    difference: float | None
    right: bool | None
    result: FitResult


def run_demo(out: Path, steps: int, only: Sequence[str], slow: bool, console: Console) -> bool:
    """Run the comparison, show it while it runs, write it into `out`. True if every row that can be judged is right.

    Raises:
        ValueError: no such backend, or nothing is left to run.
        KeyboardInterrupt: Ctrl-C; the rows that were done are shown and written, and the message says so.
    """
    wanted = _wanted(only, slow)
    plan = [(backend, precision) for backend in wanted if backend.available for precision in _precisions(backend)]
    missing = [backend for backend in wanted if not backend.available]
    if not plan:
        reasons = [f"{backend.name}: {backend.unavailable}" for backend in missing]
        raise ValueError(f"nothing to run: {'; '.join(reasons) or '--no-slow leaves out the loops of the post'}")
    FitProblem.checked(*samples(), DEGREE, steps, LEARN_RATE)  # so that a mistake is told before there is a folder
    make_folder(out)

    rows: list[Row] = []
    interrupted = False
    try:
        _run(plan, steps, rows, console)
    except KeyboardInterrupt:
        interrupted = True
    console.print(_table(rows))
    for backend in missing:
        console.print(f"{backend.name} did not run: {backend.unavailable}", markup=False, highlight=False)
    _write(out, rows, missing, steps, console)
    wrong = [row.name for row in rows if row.right is False]
    if wrong:
        console.print(f"[red]wrong: {', '.join(wrong)}[/]")
    if interrupted:
        raise KeyboardInterrupt(f"interrupted after {len(rows)} of {len(plan)} rows; what is done is in {out}")
    return not wrong


def _wanted(only: Sequence[str], slow: bool) -> list[Backend]:
    known = backends()
    unknown = set(only) - {backend.name for backend in known}
    if unknown:
        names = ", ".join(backend.name for backend in known)
        meant = near(min(unknown), (backend.name for backend in known))
        raise ValueError(f"--only: wants one of {names}; got {', '.join(sorted(unknown))}{meant}")
    wanted = [backend for backend in known if backend.name in (only or [b.name for b in known])]
    return [backend for backend in wanted if slow or backend.name not in PUBLISHED_SECONDS]


def _run(plan: Sequence[tuple[Backend, str]], steps: int, rows: list[Row], console: Console) -> None:
    """Add a row to `rows` for each backend and precision, where Ctrl-C leaves those that are done."""
    progress = new_bar(console)
    title = f"degree {DEGREE} to sin(x), 100 samples, {steps:,} steps, learn rate {LEARN_RATE:g}"
    console.print(title, highlight=False)
    with Live(Group(_table(rows), progress), console=console, refresh_per_second=8, transient=True) as live:
        for backend, precision in plan:
            task = progress.add_task(f"{backend.name} {precision}", total=steps)

            def report(done: int, of: int, task: Any = task) -> None:
                progress.update(task, completed=done, total=of)

            rows.append(_measure(backend, precision, steps, report))
            progress.remove_task(task)
            live.update(Group(_table(rows), progress))


def _precisions(backend: Backend) -> tuple[str, ...]:
    if backend.name in PUBLISHED_SECONDS:
        return ("mixed" if backend.name == "numpy" else "single",)
    return ("single",) if backend.name == "compile" else backend.precisions  # it compiles for seconds


def _measure(backend: Backend, precision: str, steps: int, report: Progress) -> Row:
    x, y = samples()

    def run(steps: int, progress: Progress | None = None) -> FitResult:
        problem = FitProblem.checked(x, y, DEGREE, steps, LEARN_RATE, precision=precision)
        return solve(problem, backend.name, progress)

    run(1)  # imports, compiles
    result = run(steps, report)
    seconds = [result.seconds]
    while len(seconds) < REPEATS and seconds[0] < QUICK_SECONDS:
        seconds.append(run(steps).seconds)
    reference = REFERENCES[precision] if steps == STEPS else None
    difference = None if reference is None else float(np.abs(result.weights - reference.weights).max())
    return Row(
        name=f"{backend.name} {precision}",
        backend=backend.name,
        precision=precision,
        seconds=statistics.median(seconds),
        final_error=float(result.mse[-1]) if steps else None,
        difference=difference,
        right=None if reference is None or difference is None else difference <= reference.tolerance,
        result=result,
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("backend", no_wrap=True, style="bold")
    table.add_column("precision", no_wrap=True)
    for heading in ("seconds", "x numpy", "final mse", "off by"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    base = next((row.seconds for row in rows if row.backend == "numpy"), None)
    for row in rows:
        table.add_row(
            row.backend,
            row.precision,
            f"{row.seconds:.1f}" if row.seconds >= 1 else f"{row.seconds:.3g}",
            _or_dash(base and base / row.seconds, lambda ratio: f"{ratio:,.2f}" if ratio < 10 else f"{ratio:,.0f}"),
            _or_dash(row.final_error, lambda error: f"{error:.7f}"),
            _or_dash(row.difference, lambda difference: f"{difference:.0e}"),
            {True: "[green]right[/]", False: "[red]wrong[/]", None: ""}[row.right],
        )
    return table


def _or_dash(value: float | None, shown: Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)


def _write(out: Path, rows: Sequence[Row], missing: Sequence[Backend], steps: int, console: Console) -> None:
    before = existing(out / name for name in ("demo.json", "fit.png", "mse.png", "seconds.png"))
    written = [write_json(out / "demo.json", _as_json(rows, missing, steps))]
    if rows:
        x, y = samples()
        try:
            result = rows[-1].result
            drawn = fit_plots.Drawn(x.ravel(), y.ravel(), None, result, "x", "sin(x)")
            written.append(fit_plots.fit_picture(out / "fit.png", drawn))
            if steps:
                written.append(fit_plots.mse_picture(out / "mse.png", result))
            bars = [(row.name, row.backend, row.seconds) for row in rows]
            written.append(plots.seconds_by_backend(out / "seconds.png", bars, steps))
        except ModuleNotFoundError as error:
            console.print(f"no pictures: {error}", markup=False, highlight=False)
    console.print(wrote(written, before), markup=False, highlight=False)


def _as_json(rows: Sequence[Row], missing: Sequence[Backend], steps: int) -> dict[str, Any]:
    return {
        "problem": {"samples": 100, "degree": DEGREE, "steps": steps, "learn_rate": LEARN_RATE},
        "machine": _machine(),
        "rows": [
            {
                "backend": row.backend,
                "precision": row.precision,
                "seconds": row.seconds,
                "published_seconds": PUBLISHED_SECONDS.get(row.backend),
                "final_error": row.final_error,
                "weights": [float(weight) for weight in row.result.weights],
                "reference": REFERENCES[row.precision].source if row.difference is not None else None,
                "weights_off_by": row.difference,
                "tolerance": REFERENCES[row.precision].tolerance if row.difference is not None else None,
                "right": row.right,
            }
            for row in rows
        ],
        "unavailable": {backend.name: backend.unavailable for backend in missing},
    }


def _machine() -> dict[str, str]:
    import llvmlite

    versions = {"python": platform.python_version(), "numpy": np.__version__, "llvmlite": llvmlite.__version__}
    if "torch" in sys.modules:
        versions["torch"] = sys.modules["torch"].__version__
    return {"system": platform.platform(terse=True), "processor": platform.machine(), **versions}
