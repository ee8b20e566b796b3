"""`fastpoly fit`: samples from a file, results into a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from .._backends import choose
from .._errors import Interrupted
from .._fit import solve
from .._problem import FitProblem
from .._progress import bar
from .._result import FitResult
from . import plots
from .read import read_samples
from .write import make_folder, refuse_overwriting, replacing, write_json


def fit_file(
    file: Path,
    x_name: str | None,
    y_name: str | None,
    degree: int,
    steps: int,
    learn_rate: float,
    trace_every: int,
    backend: str,
    precision: str,
    out: Path,
    console: Console,
) -> FitResult:
    """Fit the samples in `file`; write weights.json, mse.npy and fit.png into `out`.

    Raises:
        KeyboardInterrupt: Ctrl-C; the files hold what was done until then, and the message says so.
    """
    x, y = read_samples(file, x_name, y_name)
    problem = FitProblem.checked(x, y, degree, steps, learn_rate, precision=precision, trace_every=trace_every)
    choose(backend, problem)  # so that every mistake is told before there is a folder
    refuse_overwriting([file], [out / name for name in ("weights.json", "mse.npy", "fit.png")])
    make_folder(out)
    try:
        with bar() as progress:
            result = solve(problem, backend, progress)
    except Interrupted as stop:
        _write(out, problem, stop.partial, console)
        raise KeyboardInterrupt(f"interrupted after {stop.done}; what is done is in {out}") from None
    written = _write(out, problem, result, console)
    console.print(repr(result), soft_wrap=True, markup=False, highlight=False)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True, markup=False, highlight=False)
    return result


def _write(out: Path, problem: FitProblem, result: FitResult, console: Console) -> list[Path]:
    content = {
        "weights": [float(weight) for weight in result.weights],
        "degree": problem.degree,
        "steps": result.steps,
        "learn_rate": result.learn_rate,
        "precision": result.precision,
        "backend": result.backend,
        "seconds": result.seconds,
        "trace_every": result.trace_every,
        "last_mse": float(result.mse[-1]) if result.mse.size else None,
        "diverged_at": result.diverged_at,
        "samples": int(problem.x.size),
    }
    written = [write_json(out / "weights.json", content), out / "mse.npy"]
    with replacing(written[1]) as new:
        np.save(new, result.mse)
    try:
        written.append(plots.fitted_curve(out / "fit.png", problem.x, problem.y, result))
    except ModuleNotFoundError as error:
        console.print(f"no picture: {error}", markup=False, highlight=False)
    return written
