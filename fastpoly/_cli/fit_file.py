"""`fastpoly fit`: samples from a file, results into a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from .._backends import NAMES, choose
from .._errors import Interrupted
from .._fit import solve
from .._near import near
from .._post import LEARN_RATE, STEPS
from .._problem import FitProblem
from .._progress import bar
from .._result import FitResult
from . import plots
from .numbers import AUTO
from .reading import Column, Samples, Wanted, name_of, read_samples
from .write import existing, make_folder, refuse_overwriting, replacing, write_json, wrote

_FILES = ("weights.json", "mse.npy", "fit.png")


@dataclass(frozen=True, eq=False)
class _Fit:
    """One y, and where its results go."""

    y: Column
    problem: FitProblem
    folder: Path


def fit_file(
    file: Path,
    wanted: Wanted,
    degree: int,
    steps: int | str,
    learn_rate: float | str,
    trace_every: int,
    backend: str,
    precision: str,
    picture: bool,
    out: Path,
    console: Console,
) -> list[FitResult]:
    """Fit each y in `file`; write weights.json, mse.npy and fit.png into `out`, or for several into a folder of each.

    Raises:
        KeyboardInterrupt: Ctrl-C; the files hold what was done until then, and the message says so.
    """
    if backend not in (AUTO, *NAMES):
        raise ValueError(f"--backend: wants auto, {', '.join(NAMES)}; got {backend!r}{near(backend, NAMES)}")
    steps = STEPS if isinstance(steps, str) else steps
    learn_rate = LEARN_RATE if isinstance(learn_rate, str) else learn_rate
    samples = read_samples(file, wanted)
    fits = []
    for (column, x, y), folder in zip(samples.pairs(), _folders(out, samples.ys), strict=True):
        problem = FitProblem.checked(x, y, degree, steps, learn_rate, precision=precision, trace_every=trace_every)
        choose(backend, problem)  # so that every mistake is told before there is a folder
        _refuse_too_few(file, problem)
        fits.append(_Fit(column, problem, folder))
    results = [fit.folder / name for fit in fits for name in _FILES]
    refuse_overwriting([file], results)
    before = existing(results)
    _say(console, f"fastpoly: {name_of(file)}: {'; '.join(samples.said)}; {_counts(fits)}")
    done = []
    for fit in fits:
        make_folder(fit.folder)
        try:
            with bar() as progress:
                result = solve(fit.problem, backend, progress)
        except Interrupted as stop:
            _write(fit, samples, stop.partial, picture, console)
            raise KeyboardInterrupt(f"interrupted after {stop.done}; what is done is in {fit.folder}") from None
        written = _write(fit, samples, result, picture, console)
        _say(console, f"{fit.y.name}: {result!r}" if len(fits) > 1 else repr(result))
        _say(console, wrote(written, before))
        for path in {fit.folder / name for name in _FILES} & before - set(written):
            _say(console, f"fastpoly: {path} is of an earlier run")
        done.append(result)
    return done


def _refuse_too_few(file: Path, problem: FitProblem) -> None:
    count, least = len(problem.x), problem.degree + 1
    if count < least:
        way = f"--degree {count - 1} or less" if count else "look at --skip and --nan"
        raise ValueError(f"{name_of(file)}: too few samples: degree {problem.degree} wants {least}, got {count}; {way}")


def _counts(fits: Sequence[_Fit]) -> str:
    counts = " and ".join(dict.fromkeys(f"{len(fit.problem.x):,}" for fit in fits))
    return f"{counts} samples"


def _folders(out: Path, ys: Sequence[Column]) -> Iterator[Path]:
    """`out` for one y; else a folder in it for each, of its name as far as file names have such signs."""
    taken: set[str] = set()
    for i, y in enumerate(ys):
        name = re.sub(r"[^\w.+-]+", "-", y.name).strip("-.") or f"column-{i + 1}"
        name = name if name.lower() not in taken else f"{name}-{i + 1}"
        taken.add(name.lower())  # some file systems have one of the two
        yield out / name if len(ys) > 1 else out


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _write(fit: _Fit, samples: Samples, result: FitResult, picture: bool, console: Console) -> list[Path]:
    problem, out = fit.problem, fit.folder
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
        "x": {"name": samples.x.name, "unit": samples.x.unit},
        "y": {"name": fit.y.name, "unit": fit.y.unit},
        "dates": asdict(samples.dates) if samples.dates else None,
        "said": list(samples.said),
    }
    written = [write_json(out / "weights.json", content), out / "mse.npy"]
    with replacing(written[1]) as new:
        np.save(new, result.mse)
    if picture:
        labels = samples.x.label, fit.y.label
        try:
            written.append(plots.fitted_curve(out / "fit.png", problem.x, problem.y, result, labels))
        except ModuleNotFoundError as error:
            console.print(f"no picture: {error}", markup=False, highlight=False)
    return written
