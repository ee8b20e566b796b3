"""A machine that was never seen is measured once, when a decision depends on it: some tenths of a second.

Four things are timed: launching an operation, moving memory, an elementary function, and a product of matrices. Python
and the compilers are taken to be as much slower than on the machine that was measured as launching is.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from .machines import Machine
from .memory import read, write

ROUNDS = 5
LARGE, SIDE = 2**22, 768
"""Elements of a vector that no cache holds, and of a matrix' side: 16 MB, and a product of some milliseconds."""

_known: dict[str, Machine] = {}


def known(machine: Machine) -> Machine | None:
    """The machine as it was measured, by this process or another, if it was."""
    if machine.name in _known:
        return _known[machine.name]
    told = read(_file(machine))
    try:
        measured = _with(machine, told)
    except (KeyError, TypeError, ValueError):
        return None
    _known[machine.name] = measured
    return measured


def calibrated(machine: Machine, device: torch.device) -> Machine:
    """The machine with what is measured now, and kept for other processes."""
    told = measured(device)
    result = _with(machine, told)
    _known[machine.name] = result
    write(_file(machine), told)
    return result


def measured(device: torch.device) -> dict[str, Any]:
    """Seconds of a launch; of a byte of memory; of a function and of a flop, by dtype."""
    few = torch.ones(16, device=device)
    told: dict[str, Any] = {"launch": _best(lambda: [few + few for _ in range(100)], device) / 100}
    much = torch.ones(LARGE, device=device)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    told["far_byte"] = threads * _best(lambda: torch.neg(much), device) / (2 * much.nbytes)
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        part = torch.ones(2**18, dtype=dtype, device=device)
        matrix = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
        seconds = _best(lambda part=part: torch.exp(part), device)  # type: ignore[misc]
        told[f"function {name}"] = threads * seconds / part.numel()
        seconds = _best(lambda matrix=matrix: matrix @ matrix, device)  # type: ignore[misc]
        told[f"flop {name}"] = threads * seconds / (2 * SIDE**3)
    return told


def _best(function: Callable[[], object], device: torch.device) -> float:
    took = []
    for _ in range(ROUNDS):
        started = _now(device)
        function()
        took.append(_now(device) - started)
    return min(took[1:])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _with(machine: Machine, told: dict[str, Any]) -> Machine:
    """The machine corrected; raises what a file that is none of ours makes it raise."""
    numbers = {key: float(told[key]) for key in ("launch", "far_byte")}
    by_dtype = {
        kind: {dtype: float(told[f"{kind} {dtype}"]) for dtype in ("float32", "float64")}
        for kind in ("function", "flop")
    }
    every = [*numbers.values(), *by_dtype["function"].values(), *by_dtype["flop"].values()]
    if not all(math.isfinite(number) and number > 0 for number in every):
        raise ValueError("no seconds")
    slower = min(max(numbers["launch"] / machine.launch * PLAIN, 0.2), 5.0)
    changed: dict[str, Any] = {
        name: slower * getattr(machine, name)
        for name in ("step", "launch", "view", "fuse", "node", "line", "load", "inductor", "inductor_node")
    }
    return replace(machine, **{**changed, **by_dtype, "far_byte": numbers["far_byte"]})


PLAIN = 5.0
"""An operation in a training step costs so many times a bare one: autograd, and Python around it."""


def _file(machine: Machine) -> str:
    """A machine that is described otherwise by a later version is another one."""
    return f"{hashlib.sha256(repr(sorted(asdict(machine).items())).encode()).hexdigest()}.machine"
