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


def looped(x: Any, y: Any, degree: int, steps: int, rate: float, precision: str) -> tuple[Any, Any]:
    """The post's recurrence in numpy: weights and mse. There is no kernel in it, and nothing to compile."""
    number, stored = {
        "double": (np.float64, np.float64),
        "mixed": (np.float64, np.float32),
        "single": (np.float32, np.float32),
    }[precision]
    x, y, weights = np.asarray(x, number), np.asarray(y, number), np.zeros(degree + 1, stored)
    powers, mse = x[:, None] ** np.arange(degree + 1).astype(number), np.empty(steps, stored)
    for i in range(steps):
        residual = powers @ weights.astype(number) - y
        mse[i] = (residual * residual).mean()
        weights = (weights.astype(number) - number(rate * 2 / len(x)) * (powers.T @ residual)).astype(stored)
    return weights, mse


def on_gpu(values: Any) -> Any:
    """A tree of tensors or arrays on the card."""
    import torch
    from torch.utils import _pytree as tree

    return tree.tree_map(lambda value: torch.as_tensor(value).cuda(), values)
