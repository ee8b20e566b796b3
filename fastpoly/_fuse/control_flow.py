"""torch's own control flow, torch.cond, scan and while_loop, in a loss: as the branches and loops that they are.

torch would compile each call. Here its functions are called: while nothing is traced as in Python, which is what they
are to mean; and while a loss is traced, a condition is a branch (`branches`) and a scan is one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .._torch_private import tree
from .trace import active
from .written_loops import loop, one_by_one


def cond(pred: Any, yes: Callable[..., Any], no: Callable[..., Any], operands: Sequence[Any]) -> Any:
    """torch.cond."""
    return yes(*operands) if bool(pred) else no(*operands)


def while_loop(
    goes_on: Callable[..., Any], body: Callable[..., Any], carried: Sequence[Any], others: Sequence[Any]
) -> Any:
    """torch.while_loop."""
    tracer = active()
    while True:
        again = goes_on(*carried, *others)
        if tracer is not None and isinstance(again, torch.Tensor) and tracer.writes.changes(again):
            raise tracer.refusal(
                "while_loop",
                "how often it goes around changes from step to step",
                "fastpoly.scan for as long as it may take, with torch.where for what is done by then",
            )
        if not bool(again):
            return tuple(carried)
        carried = body(*carried, *others)


def scan(step: Any, init: Sequence[torch.Tensor], xs: Sequence[torch.Tensor]) -> Any:
    """torch's scan; `step` takes the leaves of both, and knows how they are nested."""
    found: dict[str, Any] = {}

    def flat(leaves: Sequence[torch.Tensor], row: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        after, output = step(*leaves, *row)
        successors, found["carry"] = tree.tree_flatten(after)
        if [(one.shape, one.dtype) for one in successors] != [(one.shape, one.dtype) for one in leaves]:
            raise ValueError("scan: combine_fn returns a carry of another shape or dtype than it got; keep both")
        results, found["output"] = tree.tree_flatten(output)
        return [*successors, *results]

    tracer, length = active(), len(xs[0])
    if tracer is None:
        results = one_by_one(flat, init, xs, length, reverse=False)
    else:
        results = loop(tracer, flat, init, xs, length, reverse=False)
    parts = results[: len(init)], results[len(init) :]
    return tuple(tree.tree_unflatten(part, found[name]) for part, name in zip(parts, found, strict=True))


CALLED: dict[str, Callable[..., Any]] = {
    "_cond_op_wrapper": cond,
    "_while_loop_op_wrapper": while_loop,
    "run_flattened_scan": scan,
}
"""By the names of what torch would compile."""
