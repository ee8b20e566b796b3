"""`fastpoly fit`: samples from a file, results into a folder."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._backends import NAMES
from .._errors import Interrupted
from .._fit import run
from .._near import near
from .._plan import Plan, planned
from .._progress import bar
from .._result import FitResult
from .._samples import Samples as Checked
from .equation import equation
from .fit_json import Origin, write_fit
from .numbers import AUTO, NONE
from .reading import Column, Samples, Wanted, name_of, read_samples
from .say import NO_BREAK, say, table
from .write import existing, make_folder, refuse_overwriting, replacing, wrote

_FILES = ("fit.json", "mse.npy", "fit.png", "mse.png")


@dataclass(frozen=True)
class Options:
    """How it is fitted; the values are those of `fit`, but that the words "auto" and "none" are spelled out."""

    degree: int
    steps: int | str
    learn_rate: float | str
    domain: tuple[float, float] | str
    ridge: float | tuple[float, ...]
    trace_every: int | str
    backend: str
    precision: str


@dataclass(frozen=True, eq=False)
class _Fit:
    """One y, and where its results go."""

    column: Column
    x: Any
    y: Any
    sigma: Any
    plan: Plan
    folder: Path

    @property
    def span(self) -> tuple[float, float]:
        return float(self.x.min()), float(self.x.max())


def fit_file(file: Path, wanted: Wanted, options: Options, picture: bool, out: Path) -> list[FitResult]:
    """Fit each y in `file`; write fit.json, mse.npy and pictures into `out`, or for several into a folder of each.

    Raises:
        KeyboardInterrupt: Ctrl-C; the files hold what was done until then, and the message says so.
    """
    if options.backend not in (AUTO, *NAMES):
        meant = near(options.backend, NAMES)
        raise ValueError(f"--backend: wants auto, {', '.join(NAMES)}; got {options.backend!r}{meant}")
    samples = read_samples(file, wanted)
    fits = list(_planned(file, samples, options, out))  # so that every mistake is told before there is a folder
    results = [fit.folder / name for fit in fits for name in _FILES]
    refuse_overwriting([file], results)
    before = existing(results)
    say(f"fastpoly: {name_of(file)}: {'; '.join(samples.said)}; {_counts(fits)}")
    done = []
    for fit in fits:
        make_folder(fit.folder)
        try:
            with nullcontext() if fit.plan.backend == "spectral" else bar() as progress:  # that has nothing to wait for
                result = run(fit.plan, progress)
        except Interrupted as stop:
            _write(file, fit, samples, stop.partial, picture)
            raise KeyboardInterrupt(f"interrupted after {stop.done}; what is done is in {fit.folder}") from None
        written = _write(file, fit, samples, result, picture)
        if len(fits) > 1:
            say(f"{fit.column.name!r}:")
        table(_told(fit, result))
        say(wrote(written, before))
        for path in sorted({fit.folder / name for name in _FILES} & before - set(written)):
            say(f"fastpoly: {path} is of an earlier run")
        done.append(result)
    return done


def _planned(file: Path, samples: Samples, options: Options, out: Path) -> Iterator[_Fit]:
    for (column, x, y), folder in zip(samples.pairs(), _folders(out, samples.ys), strict=True):
        sigma, weight = samples.of(samples.sigma, column), samples.of(samples.weight, column)
        checked = Checked.checked(x, y, sigma, weight)
        if sigma is not None and weight is not None:
            sigma = sigma[weight != 0]  # as those are left out
        plan = planned(
            checked,
            options.degree,
            options.steps,
            options.learn_rate,
            domain=None if options.domain == NONE else options.domain,
            ridge=options.ridge if isinstance(options.ridge, float) else list(options.ridge),
            backend=options.backend,
            precision=options.precision,
            trace_every=options.trace_every,
        )
        _refuse_too_few(file, plan)
        yield _Fit(column, checked.x, checked.y, sigma, plan, folder)


def _refuse_too_few(file: Path, plan: Plan) -> None:
    count, least = len(plan.problem.x), plan.problem.degree + 1
    if count < least:
        way = f"--degree {count - 1} or less" if count else "look at --skip and --nan"
        told = f"too few samples: degree {plan.problem.degree} wants {least}, got {count}"
        raise ValueError(f"{name_of(file)}: {told}; {way}")


def _counts(fits: Sequence[_Fit]) -> str:
    counts = list(dict.fromkeys(len(fit.x) for fit in fits))
    return f"{' and '.join(f'{count:,}' for count in counts)} sample{'' if counts == [1] else 's'}"


def _folders(out: Path, ys: Sequence[Column]) -> Iterator[Path]:
    """`out` for one y; else a folder in it for each, of its name as far as file names have such signs."""
    taken: set[str] = set()
    for i, y in enumerate(ys):
        name = re.sub(r"[^\w.+-]+", "-", y.name).strip("-.") or f"column-{i + 1}"
        name = name if name.lower() not in taken else f"{name}-{i + 1}"
        taken.add(name.lower())  # some file systems have one of the two
        yield out / name if len(ys) > 1 else out


def _told(fit: _Fit, result: FitResult) -> list[tuple[str, str]]:
    """What a person wants to know of a fit, a line for each."""
    rows: list[tuple[str, str]] = []
    if result.diverged_at is None:
        found = equation(result, fit.span)
        rows.append(("y", found.joined(NO_BREAK)))
        if found.mapping:
            rows.append(("t", found.mapping))
    rows += _quality(result) or [("mse", "unknown: the powers of x are beyond float64")]
    planned, steps = fit.plan.problem.steps, f"{result.steps:,}"
    steps += "" if result.steps == planned else f" of {planned:,}"
    for name, value in (("learn rate", f"{result.learn_rate:.6g}"), ("steps", steps)):
        rows.append((name, value + (", chosen" if name.replace(" ", "_") in fit.plan.chosen else "")))
    rows.append(("converged", _converged(result)))
    rows.append(("run", f"{result.backend}, {result.precision}, {result.seconds:.3g} s"))
    return rows


def _quality(result: FitResult) -> list[tuple[str, str]] | None:
    try:
        final, least, squared = result.final_mse, result.least_squares_mse, result.r_squared
    except (ValueError, np.linalg.LinAlgError):
        return None
    rows = [("mse", f"{final:.6g}; least squares has {least:.6g}")]
    if result.diverged_at is None:
        rows.append(("R squared", "none, y is constant" if math.isnan(squared) else f"{squared:.6g}"))
    return rows


def _converged(result: FitResult) -> str:
    if result.diverged_at is not None:
        return f"no, diverged at step {result.diverged_at:,}"
    try:
        if result.converged:
            return "yes"
        more = result.steps_to_converge
    except (ValueError, np.linalg.LinAlgError):
        return "unknown"
    if more is None:
        return "no, and 10^12 more steps at this learn rate do not get there"
    return f"no; {more:,} more steps at this learn rate get there"


def _write(file: Path, fit: _Fit, samples: Samples, result: FitResult, picture: bool) -> list[Path]:
    out = fit.folder
    origin = Origin(name_of(file), len(fit.x), fit.span)
    written = [write_fit(out / "fit.json", result, samples, fit.column, origin), out / "mse.npy"]
    with replacing(written[1]) as new:
        np.save(new, result.mse)
    if picture:
        try:
            written += _draw(fit, samples, result)
        except ModuleNotFoundError as error:
            say(f"no picture: {error}")
    return written


def _draw(fit: _Fit, samples: Samples, result: FitResult) -> Iterator[Path]:
    from . import fit_plots

    drawn = fit_plots.Drawn(fit.x, fit.y, fit.sigma, result, samples.x.label, fit.column.label)
    yield fit_plots.fit_picture(fit.folder / "fit.png", drawn)
    if len(result.mse) > 1:
        yield fit_plots.mse_picture(fit.folder / "mse.png", result)
