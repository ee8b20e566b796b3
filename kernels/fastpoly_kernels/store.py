"""Machine code on the disk, and what is known of it: one folder, one file a kernel, and whom this process believes.

Requirements: a file that is cut, damaged, half written or of another name is "not there"; whatever runs was written by
this user, for who can write machine code into a folder that is read runs as its reader; a kill leaves nothing that
stays; the folder does not grow for ever.

So a file begins with a digest of its name and of what follows, and is written under its own name at once: one that is
half written has a wrong digest, and no second name is left behind. Each is of one writer, who makes it anew. The folder
and the file have to be this user's, with nobody else allowed to write there; else they are not used, which is said
once. Which files were used lately their times tell: reading one sets it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"fastpoly kernel 3\n"
SUFFIXES = (".kernel", ".choice", ".machine")
"""Of names: machine code, and what `auto` has found out about a step and about the machine."""

MOST_BYTES = 2**28
"""Of all files together. A kernel takes 5 to 100 KiB, so that this is some thousands of them."""

_said: set[str] = set()


@dataclass(frozen=True)
class Stored:
    """A file of the store: where it is, how large, and when it was read or written last (seconds since the epoch)."""

    path: Path
    bytes: int
    used: float


def folder() -> Path | None:
    """Where kernels are kept: `$FASTPOLY_CACHE_DIR`, or else the user's cache folder; None if it may not be used.

    It need not be there yet.

    Warns:
        RuntimeWarning: once for each reason, that it may not be used, and the way out.
    """
    asked = os.environ.get("FASTPOLY_CACHE_DIR", "")
    try:
        place = Path(asked).expanduser() if asked else _of_the_user() / "fastpoly" / "kernels"
    except RuntimeError:  # "~" without a home, "~somebody" who is nobody
        _say(f"FASTPOLY_CACHE_DIR={asked}: there is no such home; name a folder by its whole path" if asked else "")
        return None
    try:
        status = place.stat()
    except OSError:
        return place
    if stat.S_ISDIR(status.st_mode) and _refused(status, place):
        return None
    return place


def load(name: str) -> bytes | None:
    """What was saved under this name, which ends in one of SUFFIXES, or None."""
    place = folder()
    if place is None:
        return None
    path = place / name
    try:
        # Neither through a link nor waiting for what is no file; and what is looked at is what is read.
        descriptor = os.open(path, os.O_RDONLY | _flag("O_NOFOLLOW") | _flag("O_NONBLOCK") | _flag("O_BINARY"))
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or _refused(status, path):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            stored = file.read()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    start = len(MAGIC)
    magic, digest, content = stored[:start], stored[start : start + 32], stored[start + 32 :]
    if magic != MAGIC or _digest(name, content) != digest:
        return None
    with contextlib.suppress(OSError):  # on a read-only disk the oldest go first
        os.utime(path)
    return content


def holds(name: str) -> bool:
    """Is there a file of this name? What is in it only `load` tells."""
    place = folder()
    return place is not None and (place / name).exists()


def save(name: str, content: bytes) -> None:
    """Keep this under this name, if the disk takes it; what was used longest ago gives way."""
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError):  # a full or read-only disk costs the next process a compilation
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(place, len(content))
        path = place / name
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flag("O_NOFOLLOW") | _flag("O_BINARY")
        try:
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(MAGIC + _digest(name, content) + content)
        except FileExistsError:  # another process has just begun it
            return
        except OSError:
            path.unlink(missing_ok=True)
            raise


def stored() -> list[Stored]:
    """All files of the store, those used longest ago first."""
    place = folder()
    return sorted(_files(place), key=lambda file: file.used) if place is not None else []


def clear() -> int:
    """Remove them; how many there were."""
    files = stored()
    for file in files:
        file.path.unlink(missing_ok=True)
    return len(files)


def _files(place: Path) -> Iterator[Stored]:
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process has just removed it
                if entry.name.endswith(SUFFIXES) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield Stored(Path(entry.path), status.st_size, status.st_mtime)


def _make_room(place: Path, needed: int) -> None:
    files = sorted(_files(place), key=lambda file: file.used)
    total = sum(file.bytes for file in files) + needed
    for file in files:
        if total <= MOST_BYTES:
            return
        file.path.unlink(missing_ok=True)
        total -= file.bytes


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def _flag(name: str) -> int:
    """A flag of `os.open` that not every system has."""
    return int(getattr(os, name, 0))


def _refused(status: os.stat_result, path: Path) -> bool:
    """Could somebody else have written this? Says so. Windows keeps its users' folders apart itself."""
    if not hasattr(os, "geteuid"):
        return False
    if status.st_uid != os.geteuid():
        _say(f"{path} belongs to another user; name a folder of your own in FASTPOLY_CACHE_DIR")
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _say(f"others can write to {path}; remove it, or name another folder in FASTPOLY_CACHE_DIR")
    else:
        return False
    return True


def _say(why: str) -> None:
    if why and why not in _said:
        _said.add(why)
        message = f"kernels are compiled anew in this process and not kept: {why}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def _of_the_user() -> Path:
    """The user's cache folder; platformdirs would say the same, and take longer than loading a kernel."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path("~/AppData/Local").expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches").expanduser()
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return Path(chosen) if chosen.startswith("/") else Path("~/.cache").expanduser()
