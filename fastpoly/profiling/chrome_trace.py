"""A few eager steps as torch's profiler sees them: counted, and as a file that Perfetto opens."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from .._post import DEGREE
from .._tensors import refuse_no_function, refuse_no_params
from .._torch_private import tree
from .eager_step import EagerStep, as_tuple, own_step, post_samples, post_step

STEPS = 10
"""In a trace: enough to see that they are alike."""

KEPT = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "id", "bp", "s", "args")
"""What a trace event has that Perfetto needs."""


def allocations_a_step(step: EagerStep) -> float:
    """How many tensors a step allocates."""
    made = [event for event in _events(step) if event["name"] == "[memory]" and event["args"]["Bytes"] > 0]
    return len(made) / STEPS


def write_trace(path: Path, loss: Callable[..., torch.Tensor] | None = None, params: Any = (), data: Any = ()) -> Path:
    """Write some eager steps into a file for https://ui.perfetto.dev or chrome://tracing.

    Kept are the events themselves: nothing that names a machine, a user or a folder.

    Args:
        path: of the JSON file.
        loss, params, data: as for `fastpoly.descend`; the post's step without them.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: an argument cannot be meant, or the path's folder does not exist.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: wants the path of a file, got {type(path).__name__}; pass 'trace.json'")
    if loss is None:
        step = post_step(*post_samples(), DEGREE)
    else:
        refuse_no_function(loss, "loss")
        refuse_no_params(tree.tree_leaves(params))
        step = own_step(loss, params, as_tuple(data))
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"path: wants a file in a folder that exists, got {path}; make {path.parent} first")
    content = {"displayTimeUnit": "ns", "traceEvents": _events(step)}
    path.write_text(json.dumps(content) + "\n")
    return path


def _events(step: EagerStep) -> list[dict[str, Any]]:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler prints its comings and goings (torch 2.13)
    for _ in range(STEPS):
        step.step()
    step.clear()  # what is freed while the profiler runs was then made while it ran, which it asks for
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        for _ in range(STEPS):
            _labelled(step)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    return [_cleaned(event) for event in events if event.get("ph") != "M"]


def _labelled(step: EagerStep) -> None:
    """A step with its parts named."""
    with record_function("step"):
        with record_function("loss"):
            value = step.forward()
        with record_function("clear"):
            step.clear()
        with record_function("backward"):
            value.backward()  # type: ignore[no-untyped-call]
        with record_function("update"):
            step.update(value)


def _cleaned(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key in KEPT}
