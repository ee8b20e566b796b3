"""The bytes of a file, of a .gz, or of standard input; and what kind of file they are, by their beginning."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ..._near import near

STDIN = Path("-")
_PEEK = 2**12
_GZIP, _ZIP, _NUMPY = b"\x1f\x8b", b"PK", b"\x93NUMPY"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "ascii", "mac-roman", "cp437", "cp850", "shift-jis", "gb18030")
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}


def name_of(file: Path) -> str:
    """What a message calls it."""
    return "standard input" if file == STDIN else str(file)


@contextmanager
def told_of(file: Path) -> Iterator[None]:
    """Make a ValueError in one line that names `file` of what the block raises of its content."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{name_of(file)}: is a damaged gzip file ({error})") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name_of(file)}: {' '.join(str(error).split())}") from None


def refuse_missing(file: Path) -> None:
    """Raise FileNotFoundError, with the names that are near, or IsADirectoryError, unless `file` can be opened."""
    if file == STDIN:
        return
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; name a file in it")
    if not file.exists():
        beside = file.parent.iterdir() if file.parent.is_dir() else ()
        raise FileNotFoundError(f"no such file: {file}{near(file.name, (other.name for other in beside))}")


def kind_of(file: Path) -> str:
    """Of a numpy file ".npy" or ".npz", by its beginning, or else by its name; of text ""."""
    if not file.is_file():  # standard input, or a pipe, which can be read but once
        return ""
    with file.open("rb") as stream:
        begins = stream.read(len(_NUMPY))
    suffix = file.suffix.lower()
    if begins == _NUMPY:
        return ".npy"
    if begins.startswith(_ZIP):
        if suffix in (".xlsx", ".xlsm", ".ods"):
            raise ValueError(f"{file}: is a spreadsheet; save it as CSV")
        return ".npz"
    return suffix if suffix in (".npy", ".npz") else ""


@contextmanager
def opened(file: Path, named: str | None) -> Iterator[tuple[io.BufferedReader, str | None]]:
    """The bytes of a text file, unpacked, and its encoding: the one `named`, or the one that its first bytes tell.

    Raises:
        ValueError: it is no text, or there is no encoding of the name.
    """
    encoding = None if named is None else _encoding(named)
    if file == STDIN:
        given: Any = sys.stdin.buffer
        yield _unpacked(given if isinstance(given, io.BufferedReader) else io.BufferedReader(given), encoding)
        return
    with file.open("rb") as stream:
        yield _unpacked(stream, encoding)


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name).name
    except LookupError:
        raise ValueError(f"--encoding: no encoding {name!r}{near(name, _ENCODINGS)}") from None
    return "utf-8-sig" if found == "utf-8" else found


def _unpacked(stream: io.BufferedReader, encoding: str | None) -> tuple[io.BufferedReader, str | None]:
    begins = stream.peek(_PEEK)
    for mark, name in _PACKED.items():
        if begins.startswith(mark):
            raise ValueError(f"is packed by {name}; unpack it, or pack it by gzip")
    if begins.startswith(_GZIP):
        stream = io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=stream)))
        begins = stream.peek(_PEEK)
    if encoding is not None:
        return stream, encoding
    for byte_order_mark, told in _MARKS.items():
        if begins.startswith(byte_order_mark):
            return stream, told
    if b"\0" in begins:
        raise ValueError("is not text; save it as CSV, or name its encoding with --encoding, utf-16-le for one")
    return stream, None
