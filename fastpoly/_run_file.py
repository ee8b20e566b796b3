"""A run on its way, in a file: written whole or not at all, and gone on from with the same bits.

Requirements: whoever kills the process loses what came after the last write, and nothing else; a file of another run is
refused, not gone on from.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ._fuse.arguments import array_of
from ._saved import replacing

VERSION = 1


@dataclass(frozen=True)
class Saved:
    """What was written.

    Attributes:
        steps: how many were taken.
        backend: which loop took them, and must take those that follow, for the same bits.
        carried: the tensors after them.
        results: what they gave.
        ended: did the run stop by itself?
    """

    steps: int
    backend: str
    carried: list[torch.Tensor]
    results: list[torch.Tensor]
    ended: bool


class RunFile:
    """The file of a run.

    Args:
        path: where.
        seconds: from one write to the next.
        digest: of all that makes the run what it is.
    """

    def __init__(self, path: Any, seconds: float, digest: str) -> None:
        self.path, self.seconds, self.digest = Path(path), seconds, digest
        self._last = time.monotonic()

    def load(self) -> Saved | None:
        """What the file has; None if there is none.

        Raises:
            ValueError: it is no such file, or that of another run.
        """
        if not self.path.exists():
            return None
        try:
            found = torch.load(self.path, weights_only=True)
            version, digest = found.pop("version"), found.pop("digest")
        except Exception as error:
            raise ValueError(f"save: {self.path} is no file of a run: {error}; name another") from error
        if version != VERSION or digest != self.digest:
            raise ValueError(
                f"save: {self.path} is of another run (its params, data, loss, optimizer or options differ); name "
                "another file, or delete it"
            )
        return Saved(**found)

    def is_due(self) -> bool:
        """Is it time to write?"""
        return time.monotonic() - self._last >= self.seconds

    def save(self, saved: Saved) -> None:
        """Write the file in place of what was there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as new, new.open("wb") as file:
            torch.save({**saved.__dict__, "version": VERSION, "digest": self.digest}, file)
            file.flush()
            os.fsync(file.fileno())
        self._last = time.monotonic()


def digest_of(tensors: Iterable[torch.Tensor], texts: Sequence[Any]) -> str:
    """A digest of tensors' numbers, and of what else is told apart by its text."""
    found = hashlib.sha256(repr(texts).encode())
    for tensor in tensors:
        found.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        found.update(array_of(tensor).tobytes())
    return found.hexdigest()
