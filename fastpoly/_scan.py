"""`scan`: the loop that torch lacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ._monitor import Monitor
from ._problem import MAX_STEPS, integer
from ._repeat import checked_backend, repeat
from ._tensors import (
    need_torch,
    pair,
    refuse_changed,
    refuse_no_dense_tensor,
    refuse_no_function,
    refuse_no_tensor,
    tensor_labels,
)


def scan(
    step: Callable[..., tuple[Any, Any]],
    carry: Any,
    data: Any = (),
    length: int = 0,
    *,
    backend: str = "auto",
) -> tuple[Any, Any]:
    """Run carry, output = step(carry, *data) `length` times, as one compiled loop.

    The step is traced once and fused into one kernel (see `descend`): whatever it computes from `data` alone is
    computed once, and between two steps nothing happens in Python.

    Args:
        step: takes the carry and the data, returns the next carry and an output. It must do the same operations in
            every step and depend on nothing else that changes.
        carry: tensors of one float dtype, of whole numbers or of truths, on the CPU or on a CUDA GPU: a tensor, or a
            list, tuple or dict of such, nested at will. Whole numbers are fused where floats hold them exactly: what is
            wrapped around with %, or kept between two numbers, and counters in float64.
        data: what else the step takes, the same in every step: a tensor or a tuple.
        length: how many steps. With 0 the step is still looked at, to know what its outputs are like.
        backend: "fused" (one kernel of machine code), "compile" (torch.compile, blocks of steps), "eager" (torch as it
            is), or "auto": the one that is done the soonest of those that can run the step; a RuntimeWarning says why
            if the fused loop cannot. On a GPU it is "triton", "cudagraph", "compile", "eager". See `descend`; what was
            taken and why is logged by the logger "fastpoly" at level INFO.

    Returns:
        The last carry, and the outputs of all steps: in the structure of one output, with the steps as first axis of
        each tensor.

    Raises:
        TypeError, ValueError: an argument cannot be meant, or the step returns a carry of another structure, shape or
            dtype than it got, or a tensor requires a gradient (unless under torch.no_grad()): what comes out has none.
        UnsupportedOperationError: the step does what the backend cannot do.
        BackendUnavailableError: torch, a compiler or a GPU is missing.
        MemoryError: the outputs do not fit.
        KeyboardInterrupt: Ctrl-C.
    """
    need_torch()
    import torch

    from ._reached import Reached
    from ._torch_private import tree

    refuse_no_function(step, "step")
    backend = checked_backend(backend)
    length = integer(length, "length", 0, MAX_STEPS)
    data = data if isinstance(data, tuple) else (data,)
    start, structure = tree.tree_flatten(carry)
    if not start:
        raise ValueError("carry: has no tensors; pass a tensor, or a list, tuple or dict of them")
    for leaf in start:
        refuse_no_dense_tensor(leaf, "carry")
        if torch.is_grad_enabled() and leaf.requires_grad:
            _refuse_gradient(leaf)
    reached = Reached([], _refuse_gradient) if torch.is_grad_enabled() else None
    found: dict[str, Any] = {}

    def flat(leaves: list[Any]) -> list[Any]:
        with nullcontext() if reached is None else reached.by(leaves):
            after, output = pair(
                step(tree.tree_unflatten(list(leaves), structure), *data), "step: wants to return (carry, output)"
            )
        successors, found_structure = tree.tree_flatten(after)
        if found_structure != structure:
            raise ValueError(f"step: returns a carry of another structure: {found_structure}, wants {structure}")
        refuse_changed(successors, leaves, "step", "carry")
        results, found["output"] = tree.tree_flatten(output)
        for result in results:
            refuse_no_tensor(result, "step: an output")
        return [*successors, *results]

    monitor = Monitor()
    run = repeat(flat, start, length, 1, backend, monitor, names=tensor_labels(data), about=step)
    if monitor.interrupted:
        raise KeyboardInterrupt(f"interrupted after {run.steps:,} of {length:,} steps")
    return tree.tree_unflatten(run.carried, structure), tree.tree_unflatten(run.results, found["output"])


def _refuse_gradient(tensor: Any) -> None:
    raise ValueError(
        f"scan: a tensor of shape {tuple(tensor.shape)} requires a gradient, and what comes out of scan has none. Way "
        "out: call scan under torch.no_grad(), or write the loop in Python where its gradient is wanted"
    )
