"""A program after each of the compiler's stages, for whoever wants to see it.

`FASTPOLY_DUMP=folder` writes every program that is compiled into files there, one for each stage; `collected` is what
`fastpoly explain` shows. If nobody looks, nothing is printed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STAGES = {
    "traced": "what torch did in one step: the loss, its gradient by autograd, the optimizer",
    "rerolled": "equal iterations of a Python loop are a loop again; only what is serial stays one",
    "scheduled": "which loops there are, what each sums up or stores, and what lies in memory",
    "kernel": "the loop IR: the whole run as one program",
    "python": "the same as a page of Python, which is `source` of a result",
    "llvm": "the same as LLVM's language",
    "optimised": "after LLVM's passes",
    "assembly": "the machine code",
    "triton": "the program of a GPU",
}
"""Each stage in its order, and what it shows."""

_takers: list[Callable[[str, str], None]] = []
_numbers = itertools.count(1)


def show(stage: str, text: Callable[[], str]) -> None:
    """Hand the program at a stage to whoever looks."""
    if not _takers:
        return
    written = text()
    for take in _takers:
        take(stage, written)


@contextmanager
def collected() -> Iterator[list[tuple[str, str]]]:
    """The stages that are passed within, and their texts."""
    found: list[tuple[str, str]] = []

    def take(stage: str, text: str) -> None:
        found.append((stage, text))

    _takers.append(take)
    try:
        yield found
    finally:
        _takers.remove(take)


def _write(folder: Path) -> Callable[[str, str], None]:
    program = 0

    def write(stage: str, text: str) -> None:
        nonlocal program
        if stage == "traced" or not program:
            program = next(_numbers)
        folder.mkdir(parents=True, exist_ok=True)
        place = list(STAGES).index(stage) + 1
        (folder / f"{os.getpid()}-{program:03}-{place}-{stage}.txt").write_text(text, encoding="utf-8")

    return write


if os.environ.get("FASTPOLY_DUMP"):
    _takers.append(_write(Path(os.environ["FASTPOLY_DUMP"]).expanduser()))
