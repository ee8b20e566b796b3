"""Samples from CSV, .npy and .npz. Nothing is ever unpickled: a data file cannot run code."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .._arrays import Array


def read_samples(file: Path, x_name: str | None, y_name: str | None) -> tuple[Array, Array]:
    """The columns x and y of `file`: by name, or the first and the one after it.

    Raises:
        ValueError: the file has no such column, or is not what its name says; the message names file and place.
        OSError: it cannot be read.
    """
    readers = {".csv": _read_csv, ".npy": _read_npy, ".npz": _read_npz}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{file}: wants a file ending in {', '.join(readers)}")
    columns = reader(file)
    names = list(columns)
    chosen: list[str] = []
    for option, name in (("--x", x_name), ("--y", y_name)):
        if name is None:
            rest = [other for other in names if other not in (x_name, y_name, *chosen)]
            if not rest:
                raise ValueError(f"{file}: wants two columns, got {_listed(names)}")
            name = rest[0]
        if name not in columns:
            raise ValueError(f"{file}: {option}: no column {name!r}; it has {_listed(names)}")
        chosen.append(name)
    x, y = (columns[name] for name in chosen)
    return _numbers(file, chosen[0], x), _numbers(file, chosen[1], y)


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "none"


def _read_csv(file: Path) -> Mapping[str, Array]:
    """Columns of text cells: only those that are asked for need to hold numbers."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8 text") from None
    except csv.Error as error:
        raise ValueError(f"{file}: {error}") from None
    if not rows:
        raise ValueError(f"{file}: is empty, wants a header and one line a sample")
    header = [name.strip() for name in rows[0]]
    if len(rows) == 1:
        raise ValueError(f"{file}: has a header and no samples")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise ValueError(f"{file}: line {number} has {len(row)} cells where the header has {len(header)}")
    return {name: np.array(cells) for name, cells in zip(header, zip(*rows[1:], strict=True), strict=True)}


def _read_npy(file: Path) -> Mapping[str, Array]:
    array = _load(file)
    assert isinstance(array, np.ndarray)
    if array.dtype.names:
        return {name: array[name] for name in array.dtype.names}
    if array.ndim != 2:
        raise ValueError(f"{file}: wants an array of two columns, got shape {array.shape}")
    return {str(i): array[:, i] for i in range(array.shape[1])}


def _read_npz(file: Path) -> Mapping[str, Array]:
    archive = _load(file)
    assert not isinstance(archive, np.ndarray)
    with archive:
        try:
            return {name: archive[name] for name in archive.files}
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None


def _load(file: Path) -> Array | np.lib.npyio.NpzFile:
    try:
        loaded: Array | np.lib.npyio.NpzFile = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{file}: is not a numpy file that can be read without unpickling ({error})") from None
    wants_archive = file.suffix.lower() == ".npz"
    if isinstance(loaded, np.ndarray) == wants_archive:
        raise ValueError(f"{file}: is not a {file.suffix.lower()} file")
    return loaded


def _numbers(file: Path, name: str, column: Array) -> Array:
    """Text cells as numbers; arrays are checked where all input is."""
    if column.dtype.kind != "U":
        return column
    try:
        return column.astype(np.float64)
    except ValueError:
        pass
    for i, cell in enumerate(column):
        try:
            float(cell)
        except ValueError:
            what = f"{cell!r} is not a number" if cell.strip() else "is empty"
            raise ValueError(f"{file}: line {i + 2}, column {name}: {what}") from None
    raise AssertionError("some cell is not a number")
