"""The columns of .npy and .npz. A .npy is mapped and not loaded, so that only what is asked for comes into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from ..._arrays import Array, vector
from .columns import Heading, choose, samples_of
from .samples import Column, Samples, Wanted
from .source import told_of

_Columns = Mapping[str, Callable[[], Array]]
"""By name, or by number from 0 on, what makes the column: only those that are asked for need to hold numbers."""

_NOT_ONE = "is not a numpy file"
_PICKLE = "holds a pickle, and is never read as one: it cannot be read without unpickling; save an array of numbers"


def read_numpy(file: Path, kind: str, wanted: Wanted) -> Samples:
    """The samples of a file of that kind; see `read_samples`."""
    with told_of(file):
        _refuse_options_of_text(kind, wanted)
        columns, said = _columns_of_npz(file) if kind == ".npz" else _columns_of_npy(file, wanted)
        headings = [Heading(i, "" if name == str(i) else name) for i, name in enumerate(columns)]
        makers = list(columns.values())
        choice = choose(headings, wanted)
        taken = []
        for heading in choice.all:
            name = heading.name or f"column {heading.number}"
            values = _numbers(makers[heading.number](), name, wanted.nan == "omit")
            taken.append(Column(name, "", values, heading.number + 1, bool(heading.name)))
        for y in taken[1:]:
            if len(y.values) != len(taken[0].values):
                told = f"{taken[0].name!r} has {len(taken[0].values):,} numbers and {y.name!r} has {len(y.values):,}"
                raise ValueError(f"{told}; a sample has both")
        said += choice.said
        return samples_of(choice, taken, None, said)


def _refuse_options_of_text(kind: str, wanted: Wanted) -> None:
    options = {
        "--sep": wanted.separator,
        "--decimal": wanted.decimal,
        "--skip": wanted.skip or None,
        "--comment": wanted.comment,
        "--encoding": wanted.encoding,
    }
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option}: goes with text, and this is {kind}; leave it out")


def _numbers(array: Array, name: str, omit: bool) -> Array:
    values = np.ascontiguousarray(vector(np.asarray(array), name))
    finite = np.isfinite(values)
    if not omit and not finite.all():
        first = int(np.argmin(finite))
        way = "--nan omit leaves such samples out"
        raise ValueError(f"{name}, row {first} (from 0 on): {values[first]} is no number to fit; {way}")
    return values


def _columns_of_npy(file: Path, wanted: Wanted) -> tuple[_Columns, list[str]]:
    with file.open("rb") as stream:
        begins = stream.read(len(np.lib.format.MAGIC_PREFIX))
    if begins != np.lib.format.MAGIC_PREFIX:
        raise ValueError(f"{_NOT_ONE}; text wants another ending than {file.suffix}")
    array = _mapped(file)
    if array.dtype.names:
        return {name: partial(array.__getitem__, name) for name in array.dtype.names}, []
    if array.ndim == 1 and wanted.like is not None:
        return {"0": lambda: array}, []
    if array.ndim != 2:
        raise ValueError(f"wants an array of two columns, got shape {array.shape}")
    said = []
    rows, columns = array.shape
    if rows == 2 < columns:
        array = array.T
        said = [f"its 2 rows are taken as x and y, for the shape is {rows, columns}"]
    elif 2 < rows < columns and wanted.x is None and not wanted.y:
        way = "save its transpose if each row is a column of samples, or name two columns with --x and --y"
        raise ValueError(f"shape {rows, columns} has more columns than rows; {way}")
    return {str(i): partial(array.__getitem__, (slice(None), i)) for i in range(array.shape[1])}, said


def _mapped(file: Path) -> Array:
    try:
        array: Array = np.lib.format.open_memmap(file, mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy raises what its parsers do
        if "Python objects" in str(error):
            raise ValueError(_PICKLE) from None
        raise ValueError(f"{_NOT_ONE} that can be read ({_in_a_line(error)})") from None
    return array


def _columns_of_npz(file: Path) -> tuple[_Columns, list[str]]:
    with _archive(file) as archive:
        return {name: partial(_member, file, name) for name in archive.files}, []


def _member(file: Path, name: str) -> Array:
    with _archive(file) as archive:
        try:
            member: Array = archive[name]
        except Exception as error:  # numpy, zipfile and zlib raise of many kinds
            told = _PICKLE if "pickle" in str(error) else f"cannot be read ({_in_a_line(error)})"
            raise ValueError(f"{name}: {told}") from None
    return member


@contextmanager
def _archive(file: Path) -> Iterator[np.lib.npyio.NpzFile]:
    with file.open("rb") as stream:  # numpy leaves a damaged archive open if it opens it itself
        try:
            loaded = np.load(stream, allow_pickle=False)
        except Exception as error:  # numpy and zipfile raise of many kinds
            reason = "" if "pickle" in str(error) else f" that can be read ({_in_a_line(error)})"
            raise ValueError(f"{_NOT_ONE}{reason}") from None
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError(f"{_NOT_ONE} of several arrays, as its ending says")
        if not loaded.files:
            raise ValueError("holds no arrays")
        yield loaded


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
