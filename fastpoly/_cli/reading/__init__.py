"""Samples from text, .npy and .npz. Nothing is ever unpickled: a data file cannot run code.

`read_samples` takes a file and a `Wanted`, and gives `Samples`. A text goes through four stages: `source` has its
bytes, `sniff` finds what it looks like (`signs` the separator, `top` the names), `columns` chooses x and y, and `text`
reads their numbers. What a cell may hold is told by `cells`, `dates` and `units`.
"""

from __future__ import annotations

from pathlib import Path

from .samples import Column, Dates, Like, Samples, Wanted
from .source import kind_of, name_of, refuse_missing

__all__ = ["Column", "Dates", "Like", "Samples", "Wanted", "name_of", "read_samples"]


def read_samples(file: Path, wanted: Wanted) -> Samples:
    """The columns of `file` that `wanted` asks for, or those that can be nothing else.

    Args:
        file: a path; `-` is standard input, a text.

    Raises:
        ValueError: the file has no such column, or more than one that may be meant, or a cell that is no number, or is
            not what its name says; the message names file, place and way out.
        OSError: it cannot be read.
    """
    if wanted.nan not in ("refuse", "omit"):
        raise ValueError(f"--nan: wants refuse or omit, got {wanted.nan!r}")
    refuse_missing(file)
    kind = kind_of(file)
    if kind:
        from .numpy_files import read_numpy

        return read_numpy(file, kind, wanted)
    from .text import read_text

    return read_text(file, wanted)
