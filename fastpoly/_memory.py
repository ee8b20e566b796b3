"""How much memory a new array may take, asked before the work starts: Linux gives pages away that it does not have."""

from __future__ import annotations

import os

SMALL_BYTES = 2**26
"""What takes less is not worth the 20 us of asking for free memory: no machine that runs numpy lacks 64 MiB."""


def refuse_beyond_memory(needed: int, what: str, advice: str) -> None:
    """Raise MemoryError, "`what` x GB ...; choose `advice`", if that many bytes cannot be had."""
    if needed < SMALL_BYTES:
        return
    free = available_bytes()
    if free is not None and needed > free:
        size = f"{needed / 1e9:,.1f} GB ({needed:,} bytes)"
        raise MemoryError(f"{what} {size} and {free / 1e9:,.1f} GB are free; choose {advice}")


def available_bytes() -> int | None:
    """Bytes that this process can still take: what the machine has free, or its container; None where nobody says."""
    answers = [answer for answer in (_machine(), _container()) if answer is not None]
    return min(answers, default=None)


def _machine() -> int | None:
    try:
        for line in _text("/proc/meminfo").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no sysconf on Windows, no such name on some Unix
        return None


def _container() -> int | None:
    try:
        return int(_text("/sys/fs/cgroup/memory.max")) - int(_text("/sys/fs/cgroup/memory.current"))
    except (OSError, ValueError):  # not version 2, or "max": no limit
        return None


def _text(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 - pathlib would be a fifth of the time that `import fastpoly` takes
        return file.read()
