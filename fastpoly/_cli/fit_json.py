"""fit.json: a fit as `FitResult.save` writes it, without the trace, and what the samples' file told of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._result import FitResult
from .._saved import as_dict, from_dict, plain
from .equation import raw_weights
from .reading import Column, Dates, Like, Samples
from .write import write_json


@dataclass(frozen=True)
class Origin:
    """Where a fit comes from.

    Attributes:
        file: as the user named it.
        n: how many samples were fitted.
        span: the least and the largest x of them.
    """

    file: str
    n: int
    span: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Kept:
    """A fit that was read again.

    Attributes:
        like: the x that it wants.
        xlabel, ylabel: what stands at the axes.
        span: the x that it was fitted to, or None if the file does not tell.
        has_sigma: did its samples have one?
    """

    result: FitResult
    like: Like
    xlabel: str = "x"
    ylabel: str = "y"
    span: tuple[float, float] | None = None
    has_sigma: bool = False


def write_fit(path: Path, result: FitResult, samples: Samples, y: Column, origin: Origin) -> Path:
    """Write all of it but the trace, and the weights of the powers of x where these lose no digits.

    Raises:
        OSError: it cannot be written.
    """
    content = as_dict(result, trace=False)
    raw = raw_weights(result, origin.span)
    if raw is not None and np.isfinite(raw).all():
        content["raw_weights"] = plain(raw)
        if "minimum" in content:
            content["raw_standard_errors"] = plain(result.raw_standard_errors)
    content["file"] = {
        "name": origin.file,
        "n": origin.n,
        "x": {**_column(samples.x), "least": origin.span[0], "largest": origin.span[1]},
        "y": _column(y),
        "sigma": None if samples.sigma is None else _column(samples.sigma),
        "weight": None if samples.weight is None else _column(samples.weight),
        "dates": asdict(samples.dates) if samples.dates else None,
        "said": list(samples.said),
    }
    return write_json(path, content)


def _column(column: Column) -> dict[str, Any]:
    return {"name": column.name if column.is_named else None, "column": column.place, "unit": column.unit}


def _label(told: Any) -> str:
    return Column(told["name"] or f"column {told['column']}", told["unit"], np.empty(0)).label


def read_fit(path: Path) -> Kept:
    """What `write_fit` or `FitResult.save` has written.

    Raises:
        ValueError: it is no such file. OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        result = from_dict(content)
        return _kept(result, content["file"]) if content.get("file") is not None else Kept(result, Like())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path}: is no fit.json, as `fastpoly fit` writes it") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _kept(result: FitResult, told: Any) -> Kept:
    try:
        x, y, dates = told["x"], told["y"], told["dates"]
        like = Like(x["name"], int(x["column"]), "" if dates else str(x["unit"]), Dates(**dates) if dates else None)
        span = float(x["least"]), float(x["largest"])
        return Kept(result, like, _label(x), _label(y), span, told["sigma"] is not None)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is a fit of whose file something is missing or wrong: {error!r}") from None
