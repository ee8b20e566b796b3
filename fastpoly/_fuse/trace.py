"""Run a function of tensors once and write down what it does, as a graph of ATen operations.

Requirements: torch's own autograd differentiates, so a gradient is traced like everything else; the inputs that change
from step to step have no values while tracing (a branch on one of them cannot be baked in by accident); whatever does
not depend on them is computed by torch there and then, and enters the graph as a constant; every node knows the line of
the caller's code that it came from, in the backward pass too; nothing of torch's compiler is imported, which would take
a second; an operation that comes again with arguments of the same kinds costs little more than torch's call of us.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from .._errors import UnsupportedOperationError
from .apart import BeforeAutograd
from .arguments import leaves
from .branches import TooManySidesError, every_side, merged
from .callers import kept_outside, place
from .graph import Graph, Node
from .tracer import Tracer
from .writes import Traced
from .written_loops import loop


def trace(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: Mapping[int, str],
    stop_at: int | None = None,
) -> Graph:
    """The graph of `function`, which takes a list of tensors like `inputs` and returns a list of tensors.

    Args:
        function: is called once for each answer to what it asks of tensors whose values change (see `branches`).
        inputs: what is like those that change.
        names: what to call other tensors, by their ids.
        stop_at: the result beyond the first `len(inputs)` that is made NaN where the function would raise an error.

    Raises:
        UnsupportedOperationError: an operation, or what the function does beside its operations, cannot be fused.
    """
    tracer = Tracer(names, loop)
    token = _active.set(tracer)
    traced = [tracer.input(tensor, i) for i, tensor in enumerate(inputs)]
    nodes = [tensor.node for tensor in traced]
    # autograd's own thread, which tensors on a GPU have, may still hold the last gradient when it has been returned
    here = torch.autograd.set_multithreading_enabled(False)
    before = BeforeAutograd(
        tracer.weights, require=lambda valid: isinstance(valid, Traced) and tracer.branches.require(valid)
    )
    stop = None if stop_at is None else len(inputs) + stop_at
    try:
        with without_collector(), tracer, before, torch.no_grad(), here:
            results = _of_all_sides(tracer, function, traced, stop)
    finally:
        _active.reset(token)
        before.restore()
    if tracer.refused is not None:
        raise tracer.refused  # the function caught it, and would go on differently
    outputs = [tracer.node(result) for result in results]
    del traced, results
    tracer.constants.forget()
    _refuse_leaks(tracer)
    _refuse_strangers(tracer, nodes, outputs)
    return Graph(nodes, outputs, tracer.nodes, tracer.launches, list(tracer.constants.outside.values()))


_active: ContextVar[Tracer | None] = ContextVar("tracer", default=None)


def active() -> Tracer | None:
    """What traces the function that is running, if it is being traced."""
    return _active.get()


def _of_all_sides(
    tracer: Tracer,
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    stop_at: int | None,
) -> Sequence[torch.Tensor]:
    """What a function returns, whatever it asks of tensors; its result `stop_at` is NaN where it would raise."""
    try:
        results, wrong = merged(every_side(tracer.branches, lambda: function(list(inputs))))
    except TooManySidesError:
        raise tracer.refused_branch() from None
    tracer.branches.begin([])
    if wrong is not None:
        if stop_at is None:
            raise tracer.refused_branch()
        results[stop_at] = torch.where(wrong, math.nan, results[stop_at])
    return results


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector would look through the growing graph again and again: half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _refuse_strangers(tracer: Tracer, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
    """What the step of a scan has made means nothing outside of it: it is another tensor in each iteration."""
    if not tracer.has_loops:
        return
    known = {*inputs, *tracer.nodes}
    for leaf in leaves(*(node.args for node in tracer.nodes), outputs):
        if isinstance(leaf, Node) and not leaf.is_constant and leaf not in known:
            raise UnsupportedOperationError(
                f"the step of scan keeps a tensor{place(leaf.where)} in a variable outside: it is another one in each "
                "step. Way out: return it as an output, or backend='eager'"
            )


PATIENCE = 0.2
"""Seconds that other threads have to let go of the frames of functions that were called: debuggers and profilers look
at them, dask's workers every 10 ms."""


def _refuse_leaks(tracer: Tracer) -> None:
    """No traced tensor may outlive the trace: somebody outside holds it, and expects it to be filled in every step."""
    for generation in range(3):  # cycles of what the trace has made are young; to look at all objects takes long
        if _outliving(tracer) is None:
            return
        gc.collect(generation)
    until = time.monotonic() + PATIENCE
    while (tensor := _outliving(tracer)) is not None:
        where = tensor.node.where
        del tensor
        if threading.active_count() == 1 or time.monotonic() > until:
            raise kept_outside(where)
        time.sleep(0.002)


def _outliving(tracer: Tracer) -> Traced | None:
    return next((tensor for made in tracer.made if (tensor := made()) is not None), None)
