"""A tool for GradBench, whose messages come as a line of JSON each: `python tests/gradbench/tool.py`.

    gradbench run --eval "gradbench eval llsq" --tool "python tests/gradbench/tool.py"

It knows the evals in EVALS. The input of a function is made ready before the clock starts; its first run compiles.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent.parent))

from fastpoly import value_and_grad
from gradbench import problems


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=problems.DTYPE)


def flat(tensors: Any) -> list[float]:
    return [number for one in tensors for number in one.reshape(-1).tolist()]


def nested(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: one.tolist() for name, one in tensors.items()}


def of_gmm(given: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    return {name: tensor(given[name]) for name in ("alpha", "mu", "q", "l")}, (
        tensor(given["x"]),
        given["gamma"],
        given["m"],
    )


def of_llsq(given: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    t = torch.linspace(-1, 1, given["n"], dtype=problems.DTYPE)
    return tensor(given["x"]), (t, t.sign())


def of_lstm(given: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    params = {"main": tensor(given["main_params"]), "extra": tensor(given["extra_params"])}
    return params, (tensor(given["state"]), tensor(given["sequence"]))


def of_kmeans(given: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    return tensor(given["centroids"]), (tensor(given["points"]),)


READ = {
    "hello": lambda given: (tensor(given), ()),
    "lse": lambda given: (tensor(given["x"]), ()),
    "llsq": of_llsq,
    "det": lambda given: (tensor(given["A"]).reshape(given["ell"], given["ell"]), ()),
    "gmm": of_gmm,
    "kmeans": of_kmeans,
    "ode": lambda given: (tensor(given["x"]), (given["s"],)),
    "lstm": of_lstm,
}
"""From an eval's input to params and data."""

EVALS: dict[tuple[str, str], tuple[int, Callable[[Any], Any]]] = {
    ("hello", "square"): (0, float),
    ("hello", "double"): (1, float),
    ("lse", "primal"): (0, float),
    ("lse", "gradient"): (1, torch.Tensor.tolist),
    ("llsq", "primal"): (0, float),
    ("llsq", "gradient"): (1, torch.Tensor.tolist),
    ("det", "primal"): (0, float),
    ("det", "gradient"): (1, lambda grad: flat([grad])),
    ("gmm", "objective"): (0, float),
    ("gmm", "jacobian"): (1, nested),
    ("kmeans", "cost"): (0, lambda value: float(value[0])),
    ("kmeans", "dir"): (0, lambda value: value[1].tolist()),
    ("ode", "gradient"): (1, torch.Tensor.tolist),
    ("lstm", "objective"): (0, float),
    ("lstm", "jacobian"): (1, lambda grad: flat(grad.values())),
}
"""For a function of an eval: the value (0) or the gradient (1) is asked for, and how it is told."""

CALLS = {name: value_and_grad(problem.loss, has_aux=problem.has_aux) for name, problem in problems.PROBLEMS.items()}


def evaluated(module: str, function: str, given: Any) -> dict[str, Any]:
    """A response to an evaluate message."""
    which, told = EVALS[module, function]
    params, data = READ[module](given)
    runs, seconds = (given.get("min_runs", 1), given.get("min_seconds", 0)) if isinstance(given, dict) else (1, 0)
    timings, elapsed, result = [], 0, None
    while len(timings) < runs or elapsed < 1e9 * seconds:
        started = time.perf_counter_ns()
        result = CALLS[module](params, *data)
        timings.append({"name": "evaluate", "nanoseconds": time.perf_counter_ns() - started})
        elapsed += timings[-1]["nanoseconds"]
    assert result is not None
    return {"success": True, "output": told(result[which]), "timings": timings}


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """A response to any message."""
    kind = message["kind"]
    if kind == "start":
        return {"tool": "fastpoly"}
    if kind == "define":
        known = {module for module, _ in EVALS}
        return {"success": message["module"] in known}
    if kind == "evaluate":
        try:
            return evaluated(message["module"], message["function"], message["input"])
        except Exception as error:
            return {"success": False, "error": f"{type(error).__name__}: {error}"}
    return {}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        print(json.dumps({"id": message["id"], **answer(message)}), flush=True)


if __name__ == "__main__":
    main()
