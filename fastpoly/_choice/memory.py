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
from importlib.metadata import PackageNotFoundError, version
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


def key_of(reading: Reading, device: str) -> str:
    """The same for steps of the same operations on the same shapes, on the same machine with the same versions.

    Neither values of data nor names and lines of the caller's code are part of it.
    """
    *nodes, outputs = reading.signature
    shapes = [node[:4] for node in nodes]
    versions = [_version(name) for name in ("torch", "llvmlite", "triton", "fastpoly")]
    return hashlib.sha256(repr((FORMAT, shapes, outputs, device, versions)).encode()).hexdigest()


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


_versions: dict[str, str] = {}


def _version(package: str) -> str:
    if package not in _versions:
        try:
            _versions[package] = version(package)
        except PackageNotFoundError:
            _versions[package] = ""
    return _versions[package]
