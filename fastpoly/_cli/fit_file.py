"""`fastpoly fit`: samples from a file, results into a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from .._fit import fit
from .._progress import bar
from . import plots
from .read import read_samples


def fit_file(
    file: Path,
    x_name: str | None,
    y_name: str | None,
    degree: int,
    steps: int,
    learn_rate: float,
    backend: str,
    precision: str,
    out: Path,
    console: Console,
) -> None:
    """Fit the samples in `file`; write weights.json, mse.npy and fit.png into `out`."""
    x, y = read_samples(file, x_name, y_name)
    with bar() as progress:
        result = fit(x, y, degree, steps, learn_rate, backend=backend, precision=precision, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "weights.json", out / "mse.npy"]
    written[0].write_text(
        json.dumps(
            {
                "weights": [float(weight) for weight in result.weights],
                "degree": degree,
                "steps": result.steps,
                "learn_rate": result.learn_rate,
                "precision": result.precision,
                "backend": result.backend,
                "seconds": result.seconds,
                "last_mse": float(result.mse[-1]) if result.mse.size else None,
                "diverged_at": result.diverged_at,
                "samples": int(x.size),
            },
            indent=2,
        )
        + "\n"
    )
    np.save(written[1], result.mse)
    try:
        written.append(plots.fitted_curve(out / "fit.png", x, y, result))
    except ModuleNotFoundError as error:
        console.print(f"no picture: {error}", markup=False, highlight=False)
    console.print(repr(result), soft_wrap=True, markup=False, highlight=False)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True, markup=False, highlight=False)
