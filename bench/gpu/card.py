"""The card: its name, its clock, how something is timed on it; and the one that is emulated, without any."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

EMULATED = os.environ.get("FASTPOLY_EMULATED", "") not in ("", "0")
"""Is tests/emulated_cuda.py to stand in for a card? Then everything is tiny."""


def prepare() -> None:
    """Make torch's "cuda" the emulated one, if it is to be."""
    if EMULATED:
        import emulated_cuda

        _until_the_end.enter_context(emulated_cuda.installed())


_until_the_end = contextlib.ExitStack()


def full(size: Any, tiny: Any) -> Any:
    """`size`, or what is enough to run each line once where nothing is measured."""
    return tiny if EMULATED else size


def asked(*fields: str) -> dict[str, str]:
    """What nvidia-smi says of the first card, by its names; nothing where it is missing."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, (word.strip() for word in told.strip().split(",")), strict=False))


def clock() -> float | None:
    """MHz of the multiprocessors now; ask right after something ran, before the card rests."""
    try:
        return float(asked("clocks.sm")["clocks.sm"])
    except (KeyError, ValueError):
        return None


def wait() -> None:
    """Until the card has done what it was asked."""
    import torch

    torch.cuda.synchronize()


def kernel_seconds(launch: Callable[[], object], rounds: int = 5) -> float:
    """The median time on the card of what `launch` puts there, between two events; launched once before."""
    launch()
    wait()
    return statistics.median(_between_events(launch) for _ in range(full(rounds, 1)))


def _between_events(launch: Callable[[], object]) -> float:
    import torch

    if EMULATED:
        started = time.perf_counter()
        launch()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    launch()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
