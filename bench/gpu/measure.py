"""What stages share: an answer is asserted before its time is taken, and a time is a row that a report can read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastpoly._post import STEPS

from . import card
from .rows import Row


def off(got: Any, want: Any, bound: float, what: str = "weights") -> float:
    """The largest difference, at most `bound`."""
    got, want = (np.asarray(v.detach().cpu() if hasattr(v, "cpu") else v, float) for v in (got, want))
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wants {want.shape}"
    found = float(np.abs(got - want).max()) if got.size else 0.0
    assert found <= bound, f"{what} off by {found:.3g}, bound {bound:.3g}"
    return found


def taken(function: Callable[[], object], rounds: int = 5, budget: float = 1.0) -> list[float]:
    """Seconds of each of at most so many calls; of fewer, but two, when they take longer than `budget` seconds."""
    seconds: list[float] = []
    while len(seconds) < card.full(rounds, 1) and (len(seconds) < 2 or sum(seconds) < budget):
        started = time.perf_counter()
        function()
        card.wait()
        seconds.append(time.perf_counter() - started)
    return seconds


def timing(seconds: list[float], *, group: str, name: str, backend: str, precision: str, **more: Any) -> Row:
    """The row of a time, as bench/conftest.py's `timing` makes it.

    `steps_run` of `steps` were taken in `seconds`; the row's time is of all of them, and its name says so.
    """
    steps = more.setdefault("steps", STEPS)
    run = more.setdefault("steps_run", steps)
    median = statistics.median(seconds) * steps / run
    return {
        "kind": "timing",
        "group": group,
        "name": name if run == steps else f"{name} (from {run:,} steps)",
        "backend": backend,
        "precision": precision,
        "model": "post",
        "n": 100,
        "degree": 4,
        "batch": 1,
        "seconds": median,
        "ns_per_step": 1e9 * median / steps,
        "fastest_round": min(seconds),
        "slowest_round": max(seconds),
        "rounds": len(seconds),
        "mhz": card.clock(),
        **more,
    }
