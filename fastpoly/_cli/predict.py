"""`fastpoly predict`: the curve of a fit.json at the x of a file, as CSV."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .._arrays import Array
from .fit_json import Kept, read_fit
from .reading import Samples, Wanted, name_of, read_samples
from .reading.source import STDIN, refuse_missing
from .say import say
from .write import existing, make_folder, refuse_overwriting, replacing, wrote

HEADER = ("x", "prediction", "lower", "upper")

PICTURES = (".png", ".svg", ".pdf", ".jpg")

Curves = Callable[[Array], tuple[Array, Array, Array]]
"""Predictions at some x, and the lower and the upper ends of their band."""


def predict_file(saved: Path, file: Path, wanted: Wanted, level: float, out: Path, picture: Path | None) -> None:
    """Write the predictions at the x in `file` to `out`, `-` for standard output, and draw them.

    Args:
        saved: a fit.json, or what `FitResult.save` has written.
        file: where x is.
        wanted: how that is read; the columns are the fit's affair, unless it names x.
        level: the probability with which the band has a new sample.
        out, picture: where to.

    Raises:
        ValueError: the file holds no x that is like the fit's, or another mistake.
        OSError: it cannot be read or written.
    """
    if not 0 < level < 1:
        raise ValueError(f"--band: wants a number between 0 and 1, got {level:g}; 0.95 is the usual one")
    refuse_missing(saved)
    to_file = [] if out == STDIN else [out]
    _refuse_places([saved, file], to_file, [] if picture is None else [picture])
    kept = read_fit(saved)
    if kept.result.diverged_at is not None or not np.isfinite(kept.result.weights_as_array()).all():
        raise ValueError(f"{saved}: is of a run that diverged, and predicts nothing; fit again")
    samples = read_samples(file, replace(wanted, like=kept.like))
    x = samples.x.values
    x = x[np.isfinite(x)]
    if not x.size:
        raise ValueError(f"{name_of(file)}: has no x to predict at")
    curves, band = _curves(kept, level)
    _say_what_is_odd(kept, saved, x, band)
    _say_what_was_read(file, samples, x, to_stdout=not to_file)
    if picture is not None:
        _draw(kept, x, curves, band, picture, to_stdout=not to_file)
    _write(samples, x, curves, out, to_file)


def _refuse_places(sources: list[Path], tables: list[Path], pictures: list[Path]) -> None:
    """Refuse to write over what is read, or one over the other, or what matplotlib does not draw."""
    for option, path in [("--out", path) for path in tables] + [("--picture", path) for path in pictures]:
        if path.is_dir():
            raise IsADirectoryError(f"{option}: {path} is a folder; name a file in it")
        refuse_overwriting(sources, [path], option)
    for path in pictures:
        if path.suffix.lower() not in PICTURES:
            raise ValueError(f"--picture: wants a name that ends in {', '.join(PICTURES)}, got {str(path)!r}")
        if any(path.absolute() == table.absolute() for table in tables):
            raise ValueError(f"--picture: {path} is where --out goes; choose another place")


def _curves(kept: Kept, level: float) -> tuple[Curves, str | None]:
    """What is drawn and written, and what the band is; None: there is none, and its ends are NaN."""
    result = kept.result
    try:
        free = result.degrees_of_freedom
    except ValueError:
        free = 0
    if free <= 0:
        return lambda x: (_numbers(result.predict(x)), *np.full((2, x.size), math.nan)), None
    find = result.confidence_band if kept.has_sigma else result.prediction_band
    of = "of the curve" if kept.has_sigma else "of a new sample"
    return lambda x: (_numbers(result.predict(x)), *find(x, level)), f"{100 * level:.6g} % band {of}"


def _numbers(values: Any) -> Array:
    return np.asarray(values, np.float64)


def _say_what_is_odd(kept: Kept, saved: Path, x: Array, band: str | None) -> None:
    """On standard error: what a reader of the numbers should know."""
    result = kept.result
    if band is None:
        say(f"fastpoly: {saved}: has no more samples than weights, and so no band", err=True)
    elif kept.has_sigma:
        say(
            "fastpoly: the fit had a sigma for each sample: lower and upper are of the curve, not of new ones", err=True
        )
    try:
        if not result.converged:
            ends = f"its mse is {result.final_mse:.4g}, least squares' {result.least_squares_mse:.4g}"
            say(f"fastpoly: {saved}: had not converged: {ends}", err=True)
    except ValueError:
        pass
    span = kept.span or result.domain
    if span is not None:
        outside = int(np.count_nonzero((x < span[0]) | (x > span[1])))
        if outside:
            ends = f"{span[0]:.10g} to {span[1]:.10g}"
            say(f"fastpoly: {outside:,} of {x.size:,} x lie outside of the fit's samples, {ends}", err=True)


def _say_what_was_read(file: Path, samples: Samples, x: Array, *, to_stdout: bool) -> None:
    left_out = samples.x.values.size - x.size
    said = [*samples.said, f"{x.size:,} predictions" if x.size > 1 else "1 prediction"]
    said += [f"{left_out:,} without x left out"] if left_out else []
    say(f"fastpoly: {name_of(file)}: {'; '.join(said)}", err=to_stdout)


def _write(samples: Samples, x: Array, curves: Curves, out: Path, to_file: list[Path]) -> None:
    cells: Iterable[Any] = x.tolist() if samples.cells is None else samples.cells
    columns = [values.tolist() for values in curves(x)]
    if not to_file:
        _write_rows(sys.stdout, cells, columns)
        return
    make_folder(out.parent)
    before = existing(to_file)
    with replacing(out) as new, new.open("w", encoding="utf-8", newline="") as stream:
        _write_rows(stream, cells, columns)
    say(wrote(to_file, before))


def _write_rows(stream: TextIO, cells: Iterable[Any], columns: list[list[float]]) -> None:
    """Numbers as Python writes them, which every digit can be had back from; nothing where there is none."""
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(HEADER)
    rows.writerows(
        (cell, value, *("" if math.isnan(end) else end for end in ends))
        for cell, value, *ends in zip(cells, *columns, strict=True)
    )


def _draw(kept: Kept, x: Array, curves: Curves, band: str | None, picture: Path, *, to_stdout: bool) -> None:
    from .fit_plots import band_picture

    make_folder(picture.parent)
    before = existing([picture])
    band_picture(picture, np.sort(x), curves, band, kept.span, (kept.xlabel, kept.ylabel))
    say(wrote([picture], before), err=to_stdout)
