"""What was taken for a step, and what its steps took where that was timed: in a file beside the kernels.

It is found by the shapes of the step, the machine and the versions of what compiles. So the clock is asked once for a
loss, and the answer holds for runs of every length, in every process of the machine. A file that is damaged, foreign or
cannot be written is as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from fastpoly_kernels import store

if TYPE_CHECKING:
    from .._fuse.traced import Reading

FORMAT = 1


@dataclass(frozen=True)
class Remembered:
    """Of one step.

    Attributes:
        taken: the backend that `auto` took the last time.
        timed: seconds of a step by backend, where they were timed.
        known: backends that have compiled it.
    """

    taken: str | None = None
    timed: Mapping[str, float] = field(default_factory=dict)
    known: frozenset[str] = frozenset()


_here: dict[str, Remembered] = {}
"""By key: what this process knows, whether or not it could be written."""


def key_of(reading: Reading, machine: str, kind: str) -> str:
    """The same for steps of the same operations on the same shapes, on the same machine with the same versions.

    Neither values of data nor names and lines of the caller's code are part of it.

    Args:
        machine: which, and with how many threads.
        kind: of device, "cpu" or "cuda".
    """
    *nodes, outputs = reading.signature
    shapes = [node[:4] for node in nodes]
    parts = (FORMAT, shapes, outputs, machine, _versions("triton" if kind == "cuda" else "llvmlite"))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def recall(key: str) -> Remembered:
    """What is known of a step."""
    if key in _here:
        return _here[key]
    told = read(f"{key}.choice")
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        timed = {str(name): float(seconds) for name, seconds in told["timed"].items()}
        if all(math.isfinite(seconds) and seconds > 0 for seconds in timed.values()):
            taken = None if told["taken"] is None else str(told["taken"])
            return Remembered(taken, timed, frozenset(map(str, told["known"])))
    return Remembered()


def remember(key: str, what: Remembered) -> None:
    """For this process; for others too, unless it is what they would choose without a file."""
    before, _here[key] = recall(key), what
    if what != before and (what.timed or what.known):
        write(f"{key}.choice", {"taken": what.taken, "timed": dict(what.timed), "known": sorted(what.known)})


# -- files
# ---------------------------------------------------------------------------------------------------------------


def read(name: str) -> Any:
    """What a file of the cache holds, {} if it is none of ours."""
    stored = store.load(name)
    try:
        return json.loads(stored) if stored is not None else {}
    except ValueError:
        return {}


def write(name: str, what: Any) -> None:
    """For every process to read."""
    store.save(name, json.dumps(what).encode())


@cache
def _versions(compiler: str) -> tuple[str, ...]:
    import torch

    from .. import __version__

    if compiler == "llvmlite":
        import llvmlite

        return torch.__version__, llvmlite.__version__, __version__
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, where importing the compiler takes more

    try:
        return torch.__version__, version(compiler), __version__
    except PackageNotFoundError:
        return torch.__version__, "", __version__
