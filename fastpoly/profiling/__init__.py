"""Where autograd's time goes, measured: the ladder from the post's loop to the fused one, and the split of a step.

    from fastpoly.profiling import autograd_ladder, loss_profile, step_split

    autograd_ladder()  # one change after the other, in nanoseconds a step: the answer to the post's closing question
    step_split()  # what a step of the post's autograd loop spends its time on
    loss_profile(loss, params, data)  # the same for a loss of your own: eager, compiled, fused, and the gain

Importing this loads nothing heavy; torch comes in with the first of the functions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .._tensors import need_torch
from .results import Ladder, LossProfile, Part, RungResult, Split

if TYPE_CHECKING:
    from .chrome_trace import write_trace
    from .ladder import autograd_ladder
    from .own_loss import loss_profile
    from .split import step_split

_MODULES = {
    "autograd_ladder": "ladder",
    "loss_profile": "own_loss",
    "step_split": "split",
    "write_trace": "chrome_trace",
}

__all__ = [
    "Ladder",
    "LossProfile",
    "Part",
    "RungResult",
    "Split",
    "autograd_ladder",
    "loss_profile",
    "step_split",
    "write_trace",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need_torch()
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
