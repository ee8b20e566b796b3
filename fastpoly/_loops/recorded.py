"""A step as the ATen operations that torch's own `make_fx` records while it runs, autograd's among them.

What runs while it records has values. So the step is recorded twice, the second time from other values: what Python
made of them, or what it changed meanwhile, would stand in the record as a constant, and the two would differ.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from .._errors import UnsupportedOperationError
from .writes import written

if TYPE_CHECKING:
    from . import Step


def recorded(function: Step, inputs: Sequence[torch.Tensor]) -> Step:
    """The ATen operations of a step.

    Raises:
        UnsupportedOperationError: the step decides by the value of a tensor what it does, writes to a tensor from
            outside, keeps one for later, or is not the same every time.
    """
    step = _recorded(function, inputs)
    _refuse_writes(step)
    if _described(step) != _described(_recorded(function, [tensor * 1.01 + 0.01 for tensor in inputs])):
        raise UnsupportedOperationError(
            "the loss does something else when it is called again: it depends on what Python changes meanwhile, or "
            "computes outside of torch. Way out: pass what changes as data or keep it in the params, or backend='eager'"
        )
    result: Step = step
    return result


def _recorded(function: Step, inputs: Sequence[torch.Tensor]) -> torch.fx.GraphModule:
    from torch.fx.experimental.proxy_tensor import make_fx

    made = _Made()

    def step(tensors: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        made.tensors.update(dict.fromkeys(tensors))
        with made:
            # Clones, that the step may write to its tensors: they are the rows of the block before.
            return function([tensor.clone() for tensor in tensors])

    try:
        with torch.no_grad():
            graph = make_fx(step)([tensor.clone() for tensor in inputs])
    except RuntimeError as error:
        if "value out of a tracing tensor" not in str(error):
            raise
        raise UnsupportedOperationError(
            f"the value of a tensor decides what the loss does{_where(error)}. Way out: use torch.where, or "
            "backend='eager'"
        ) from error
    gc.collect()
    if made.tensors:
        raise UnsupportedOperationError(
            "the loss keeps a tensor in a variable outside: it would be filled once and not in every step. "
            "Way out: compute it from the result, or backend='eager'"
        )
    return graph


class _Made(TorchDispatchMode):
    """While it is active, notes every tensor that depends on those noted before."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils import _pytree as tree

        result = func(*args, **(kwargs or {}))
        given, got = ([t for t in tree.tree_leaves(v) if isinstance(t, torch.Tensor)] for v in ((args, kwargs), result))
        if any(tensor in self.tensors for tensor in given):
            self.tensors.update(dict.fromkeys(got))
        return result


def _described(step: torch.fx.GraphModule) -> tuple[str, list[tuple[torch.dtype, bytes]]]:
    """Equal for the same operations on the same constants."""
    constants = [getattr(step, str(node.target)) for node in step.graph.nodes if node.op == "get_attr"]
    from .._fuse.arguments import array_of

    return step.code, [(c.dtype, array_of(c).tobytes()) for c in constants]


def _refuse_writes(step: torch.fx.GraphModule) -> None:
    for node, maker in written(step.graph):
        if maker.op == "get_attr":
            name = str(node.target).split(".")[1]
            raise UnsupportedOperationError(
                f"{name} writes to a tensor from outside the loss. Way out: compute a new one, or backend='eager'"
            )


def _where(error: Exception) -> str:
    """The caller's line that an error came from."""
    ours = str(Path(torch.__file__).parent), str(Path(__file__).parents[1] / "_")
    lines = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((*ours, "<"))]
    return f" in {Path(lines[-1].filename).name}:{lines[-1].lineno} ({lines[-1].line})" if lines else ""
