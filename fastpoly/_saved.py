"""A FitResult as JSON: a text that other programs read, and that cannot run code when it is loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ._arrays import is_tensor
from ._minimum import Minimum
from ._result import FitResult

FORMAT = "fastpoly fit 1"

_PLAIN = ("steps", "learn_rate", "precision", "backend", "seconds", "diverged_at", "trace_every", "domain")
_OF_MINIMUM = ("n", "start", "s", "v", "z", "rho", "size", "total", "penalty")


def as_dict(result: FitResult, trace: bool = True) -> dict[str, Any]:
    """All of it as what JSON knows. Numbers that JSON does not know are "nan", "inf" and "-inf".

    Raises:
        TypeError: it is a batch.
    """
    if result.weights.ndim > 1:
        raise TypeError("save: wants one fit, got a batch; save its parts, batch[i].save(path)")
    content: dict[str, Any] = {"format": FORMAT, "weights": plain(result.weights), "window": result.window}
    content |= {name: plain(getattr(result, name)) for name in _PLAIN}
    try:
        minimum = result.minimum
    except ValueError:
        minimum = None
    if minimum is not None:
        content["final_mse"] = plain(result.final_mse)
        content["least_squares_mse"] = plain(result.least_squares_mse)
        content["converged"] = result.converged
        content["r_squared"] = plain(result.r_squared)
        content["covariance"] = plain(result.covariance)
        content["minimum"] = {name: plain(getattr(minimum, name)) for name in _OF_MINIMUM}
    if trace:
        content |= {name: plain(getattr(result, name)) for name in ("mse", "validation_mse")}
    return content


def from_dict(content: Mapping[str, Any]) -> FitResult:
    """What `as_dict` was given, with numpy arrays.

    Raises:
        ValueError: something is missing, or of another kind.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        got = content.get("format") if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"wants a fit that was saved as {FORMAT!r}, got {got!r}")
    try:
        weights = _array(content["weights"], np.float64 if content["precision"] == "double" else np.float32)
        if weights.ndim != 1 or not weights.size:
            raise ValueError("weights: wants a list of numbers")
        plain: dict[str, Any] = {name: content[name] for name in _PLAIN}
        plain["domain"] = None if plain["domain"] is None else (float(plain["domain"][0]), float(plain["domain"][1]))
        traces: dict[str, Any] = {
            name: None if content.get(name) is None else _array(content[name], weights.dtype)
            for name in ("mse", "validation_mse")
        }
        if traces["mse"] is None:
            traces["mse"] = np.empty(0, weights.dtype)
        found = None
        if content.get("minimum") is not None:
            saved = content["minimum"]
            numbers: dict[str, Any] = {name: _array(saved[name]) for name in ("start", "s", "v", "z")}
            numbers |= {name: float(saved[name]) for name in ("rho", "size", "total")}
            numbers["penalty"] = None if saved["penalty"] is None else _array(saved["penalty"])
            found = Minimum(n=int(saved["n"]), **numbers)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"is a fit of which something is missing or wrong: {error!r}") from None
    return FitResult(weights=weights, **traces, **plain, _find_minimum=None if found is None else lambda: found)


def save(result: FitResult, path: str | os.PathLike[str], trace: bool) -> None:
    """See `FitResult.save`."""
    with replacing(Path(path)) as new:
        new.write_text(json.dumps(as_dict(result, trace), indent=2, allow_nan=False) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write in the block, of the same suffix, which then takes the place of `path`; none if it fails."""
    new = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> FitResult:
    """See `FitResult.load`."""
    try:
        return from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:  # JSON's and Unicode's own among them
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def plain(value: Any) -> Any:
    """`value` as JSON has it; see `as_dict`."""
    if is_tensor(value):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _array(values: Any, dtype: Any = np.float64) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray([_floats(value) for value in values], dtype)


def _floats(value: Any) -> Any:
    return [_floats(item) for item in value] if isinstance(value, list) else float(value)
