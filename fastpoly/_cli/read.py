"""Samples from CSV, .npy and .npz. Nothing is ever unpickled: a data file cannot run code."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from .._arrays import Array

Columns = Mapping[str, Callable[[], Array]]
"""By name, what makes the column: only those that are asked for need to hold numbers."""


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
    listed = ", ".join(columns) or "none"
    chosen: list[str] = []
    for option, name in (("--x", x_name), ("--y", y_name)):
        if name is None:
            rest = [other for other in columns if other not in (x_name, y_name, *chosen)]
            if not rest:
                raise ValueError(f"{file}: wants two columns, got {listed}")
            name = rest[0]
        if name not in columns:
            raise ValueError(f"{file}: {option}: no column {name!r}; it has {listed}")
        chosen.append(name)
    with _told_of(file):
        x, y = (columns[name]() for name in chosen)
    return x, y


@contextmanager
def _told_of(file: Path, problem: str = "") -> Iterator[None]:
    """Make a ValueError in one line that names `file` of whatever fails in the block.

    numpy, zipfile, zlib and tokenize each raise errors of their own kinds for a damaged file, and more with every
    release. A file that cannot be read, and memory that does not suffice, are no damage.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: {problem} ({reason})" if problem else f"{file}: {reason}") from None


def _read_csv(file: Path) -> Columns:
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            for row in reader:
                if row:
                    lines.append(reader.line_num)
                    rows.append(row)
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8 text") from None
    except csv.Error as error:
        raise ValueError(f"{file}: {error}") from None
    if not rows:
        raise ValueError(f"{file}: is empty, wants a header and one line a sample")
    header = [name.strip() for name in rows.pop(0)]
    del lines[0]
    _check_header(file, header)
    if not rows:
        raise ValueError(f"{file}: has a header and no samples")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise ValueError(f"{file}: line {line} has {len(row)} cells where the header has {len(header)}")
    cells = zip(*rows, strict=True)
    return {name: partial(_numbers, name, column, lines) for name, column in zip(header, cells, strict=True)}


def _check_header(file: Path, header: Sequence[str]) -> None:
    if all(_is_number(name) for name in header):
        raise ValueError(f"{file}: the first line holds numbers; wants a header")
    for name, columns in Counter(header).items():
        if columns > 1:
            raise ValueError(f"{file}: {columns} columns are named {name!r}")


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _number(cell: str) -> float:
    """A number as files hold them. Python also reads its own 1_000, and digits of every script."""
    if "_" in cell or not cell.isascii():
        raise ValueError
    return float(cell)


def _numbers(name: str, cells: Sequence[str], lines: Sequence[int]) -> Array:
    numbers = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            numbers[i] = _number(cell)
        except ValueError:
            what = f"{cell!r} is not a number" if cell.strip() else "is empty"
            raise ValueError(f"line {lines[i]}, column {name}: {what}") from None
    return numbers


def _read_npy(file: Path) -> Columns:
    with _opened(file) as array:
        pass
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{file}: is not a .npy file")
    if array.dtype.names:
        return {name: partial(array.__getitem__, name) for name in array.dtype.names}
    if array.ndim != 2:
        raise ValueError(f"{file}: wants an array of two columns, got shape {array.shape}")
    return {str(i): partial(array.__getitem__, (slice(None), i)) for i in range(array.shape[1])}


def _read_npz(file: Path) -> Columns:
    with _opened(file) as archive:
        if isinstance(archive, np.ndarray):
            raise ValueError(f"{file}: is not a .npz file")
        return {name: partial(_member, file, name) for name in archive.files}


def _member(file: Path, name: str) -> Array:
    with _opened(file) as archive:
        member: Array = archive[name]
    return member


@contextmanager
def _opened(file: Path) -> Iterator[Array | np.lib.npyio.NpzFile]:
    """What numpy makes of `file`: an array, or an archive that can be read while the block runs."""
    with file.open("rb") as stream:  # numpy leaves a damaged archive open if it opens it itself
        with _told_of(file, "is not a numpy file that can be read without unpickling"):
            loaded: Array | np.lib.npyio.NpzFile = np.load(stream, allow_pickle=False)
        yield loaded
