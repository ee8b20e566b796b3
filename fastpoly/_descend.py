"""`descend` and `descend_module`: gradient descent on any torch loss, without autograd's cost."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import DivergenceWarning, Interrupted
from ._lazy import lazy
from ._monitor import Monitor, Progress
from ._problem import MAX_STEPS, integer, positive, refuse_long_trace
from ._progress import shown
from ._repeat import checked_backend, repeat
from ._tensors import (
    need_torch,
    one_number,
    refuse_no_float_tensor,
    refuse_no_function,
    refuse_no_params,
    tensor_labels,
)
from ._warn import warn_once
from .optimizers import FunctionalOptimizer, resolved

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, repr=False)
class DescentResult:
    """What came of a descent.

    Attributes:
        params: after the last step, in the structure in which they were given; no tensor requires a gradient.
        loss: a tensor of the losses before steps 0, trace_every, 2 trace_every, ...; the returned params' own is not in
            it.
        steps: how many steps were taken.
        seconds: how long it took, with tracing and compiling.
        backend: what ran.
        source: the text of the kernel, each statement with the line of the loss that it comes from; None unless fused.
        diverged_at: None, or the step whose loss is not finite; `loss` and `params` end there.
        state: the optimizer's, from which `descend(..., state=)` goes on.
        reason: why that backend ran: what it was expected to take, and the next best one.
    """

    params: Any
    loss: torch.Tensor
    steps: int
    seconds: float
    backend: str
    diverged_at: int | None
    state: Any
    reason: str
    _page: Callable[[], str] | None = None

    @lazy
    def source(self) -> str | None:
        """See above; the text is made when it is first asked for."""
        return self._page() if self._page else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": self.source, "_page": None}

    def __repr__(self) -> str:
        end = f"diverged at step {self.diverged_at:,}" if self.diverged_at is not None else f"{self.steps:,} steps"
        losses = f"loss {float(self.loss[0]):.6g} to {float(self.loss[-1]):.6g}" if len(self.loss) else "no trace"
        return f"DescentResult({losses}; {end}, {self.backend}, {self.seconds:.3g} s)"


def descend(
    loss: Callable[..., torch.Tensor],
    params: Any,
    data: Any = (),
    *,
    learn_rate: float,
    steps: int,
    optimizer: Any = "sgd",
    trace_every: int | None = 1,
    backend: str = "auto",
    progress: bool | Progress = False,
    state: Any = None,
) -> DescentResult:
    """Minimise loss(params, *data) by gradient descent, the whole training loop in one compiled kernel.

    The loss is called on tensors without values; torch's autograd differentiates it as always. What it did is then
    fused into one loop over the steps, in which nothing of torch is left. So the loss must do the same operations at
    every step, whatever the values of the parameters are, and draw no random numbers. It is called once more, on the
    parameters after the first step, and the loop's next step compared with that: a loss that another call changes (a
    counter, a warm-up) is refused. A change that only a later call would bring, or one that is smaller than rounding,
    cannot be noticed.

    A tensor of `params` that requires a gradient is trained wherever the loss gets it from. One that requires a
    gradient and is none of the params stays as it is, after a warning.

    Args:
        loss: takes the params and the data, returns one number. Tensors that it gets from elsewhere are data, too.
        params: where to start: a tensor, or a list, tuple or dict of tensors, nested at will; of one float dtype, on
            the CPU or on a CUDA GPU. They are not written to.
        data: what else the loss takes: a tensor or a tuple.
        learn_rate: > 0.
        steps: how many to take, >= 0.
        optimizer: "sgd", "momentum" (0.9), "nesterov" (0.9), "adam", "adamw", all with torch.optim's defaults; "lion";
            or an object of `fastpoly.optimizers`; or a function (params, grads, state) -> (params, state) of these as
            they are given here. Its state is None on the first call; learn_rate is ignored.
        trace_every: keep the loss of every trace_every-th step, from step 0 on; None keeps none.
        backend: "fused" (one kernel of machine code), "compile" (torch.compile, blocks of steps), "eager" (torch's
            autograd step by step), or "auto": the one that is done the soonest with so many steps, compiling included,
            of those that can run the loss. On a GPU it is "triton" (one Triton kernel), "cudagraph" (torch's
            operations, captured in CUDA graphs), "compile" (its blocks, captured so), "eager". See below.
        progress: True shows a bar; a function is called with (steps done, steps).
        state: the optimizer's, of an earlier result, to go on from.

    "auto" reckons by a model of the machine, and where two backends come near it times some of their steps, once. A
    hundred steps of a new loss run as torch runs them, a hundred thousand in a compiled kernel; all steps that a
    process asks of one loss count together. A kernel that was compiled once is used from then on for any number of
    steps, by every process of the machine that finds it in the cache, so that a run which is split or goes on has the
    bits of the whole. Before that it may not: two backends round differently. Whoever needs the same bits from the
    first step on, whatever the cache holds, names the backend. `DescentResult.reason` says what was taken and why.

    Returns:
        A DescentResult.

    Raises:
        TypeError, ValueError: an argument cannot be meant.
        UnsupportedOperationError: the loss does what the backend cannot do; the message names the operation, its line
            where it is known, and a way out.
        BackendUnavailableError: torch, a compiler or a GPU is missing.
        MemoryError: the trace does not fit.
        Interrupted: Ctrl-C; `.partial` holds the result so far.

    Warns:
        DivergenceWarning: the loss is not finite any more, and the result ends there.
        RuntimeWarning: with "auto", the fused loop cannot run the loss, and the message says why. That another backend
            is done sooner is no reason for one.
    """
    started = time.perf_counter()
    need_torch()
    import torch

    from ._reached import Reached, untrained
    from ._torch_private import tree

    refuse_no_function(loss, "loss")
    backend = checked_backend(backend)
    steps = integer(steps, "steps", 0, MAX_STEPS)
    learn_rate = positive(learn_rate, "learn_rate")
    if trace_every is not None:
        trace_every = integer(trace_every, "trace_every", 1, MAX_STEPS)
    data = data if isinstance(data, tuple) else (data,)
    start, structure = tree.tree_flatten(params)
    refuse_no_params(start)
    if trace_every is not None:
        refuse_long_trace(-(-steps // trace_every), start[0].element_size(), "steps")
    labels = _labels(params, loss)
    reached = Reached(start, lambda tensor: warn_once(untrained(tensor), UserWarning, loss))
    start = [leaf.detach() for leaf in start]
    count, rate = len(start), start[0].new_tensor(learn_rate)
    rule = resolved(optimizer, structure)

    def value_and_grads(leaves: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        own = [leaf.detach().requires_grad_() for leaf in leaves]
        with torch.enable_grad():
            with reached.by(own):
                value = one_number(loss(tree.tree_unflatten(own, structure), *data))
            grads = torch.autograd.grad(value, own, materialize_grads=True)
        return value.detach().reshape(()), list(grads)

    def step(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        value, grads = value_and_grads(leaves[:count])
        after, following = rule.update(leaves[:count], grads, leaves[count:], rate)
        return [*after, *following, value]

    before: list[torch.Tensor] = []  # the losses of steps that are taken before the loop begins
    if not isinstance(rule, FunctionalOptimizer):
        moving = rule.start(start)
        if state is not None:
            moving = _like(tree.tree_leaves(state), moving)
    elif state is not None or steps == 0:
        moving = rule.flattened(state)
    else:  # its first call shows what the state is made of
        value, grads = value_and_grads(start)
        with torch.no_grad():
            first, moving = rule.update_first([leaf.clone() for leaf in start], grads)
        if moving:
            start, before = first, [value]
    for leaf in moving:
        refuse_no_float_tensor(leaf, "optimizer: its state")

    with shown(progress) as report:
        monitor = Monitor(report)
        run = repeat(
            step,
            [*start, *moving],
            steps - len(before),
            trace_every,
            backend,
            monitor,
            names={**{id(leaf): label for leaf, label in zip(start, labels, strict=True)}, id(rate): "learn_rate"}
            | tensor_labels(data, _names(loss)[1:]),
            about=loss,
            stop_at=0,
            offset=len(before),
        )
    taken = run.steps + len(before)
    following = run.carried[count:]
    (losses,) = run.results
    if before and trace_every is not None:
        losses = torch.cat([before[0].reshape(1), losses])
    result = DescentResult(
        tree.tree_unflatten(run.carried[:count], structure),
        losses,
        taken,
        time.perf_counter() - started,
        run.backend,
        taken if run.stopped else None,
        rule.unflattened(following) if isinstance(rule, FunctionalOptimizer) else following,
        run.reason,
        run.source,
    )
    if monitor.interrupted:
        raise Interrupted(result, f"{taken:,} of {steps:,} steps")
    if run.stopped:
        advice = f"choose a learn_rate below {learn_rate:.4g}, or another start"
        warnings.warn(f"diverged at step {taken:,}: the loss is not finite; {advice}", DivergenceWarning, stacklevel=2)
    return result


def descend_module(
    module: torch.nn.Module,
    loss: Callable[..., torch.Tensor],
    data: Any = (),
    **options: Any,
) -> DescentResult:
    """Train a module in place: `descend` over its parameters.

    Args:
        module: its parameters that require a gradient are trained; all others, and its buffers, are data.
        loss: takes the module and the data, returns one number.
        data, options: as for `descend`.

    Returns:
        A DescentResult; its `params` is a dict by the parameters' names. The module holds the same values. After
        Ctrl-C it holds those of `.partial`.

    Raises:
        As `descend`.
    """
    need_torch()
    import torch

    from ._torch_private import with_parameters

    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"module: wants a torch.nn.Module, got {type(module).__name__}; descend takes params by themselves"
        )
    refuse_no_function(loss, "loss")
    params = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not params:
        raise ValueError("module: has no parameters that require a gradient; set .requires_grad_() on those to train")

    def functional(values: dict[str, torch.Tensor], *data: Any) -> torch.Tensor:
        with with_parameters(module, values):
            return loss(module, *data)

    functional.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("params", *_names(loss)[1:])]
    )
    try:
        result = descend(functional, params, data, **options)
    except Interrupted as stop:
        _assign(params, stop.partial.params)
        raise
    _assign(params, result.params)
    return result


def _assign(params: dict[str, Any], values: dict[str, Any]) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in params.items():
            parameter.copy_(values[name])


def _like(state: list[Any], wanted: list[torch.Tensor]) -> list[torch.Tensor]:
    """A state of an earlier result, if it has what the optimizer wants for these params."""
    for leaf in state:
        refuse_no_float_tensor(leaf, "state")
    if [leaf.shape for leaf in state] != [leaf.shape for leaf in wanted]:
        got, wants = ([tuple(leaf.shape) for leaf in leaves] for leaves in (state, wanted))
        raise ValueError(f"state: wants an earlier result's for these params: tensors of shapes {wants}, got {got}")
    return state


def _names(loss: Callable[..., Any]) -> tuple[str, ...]:
    """What the loss calls its arguments."""
    try:
        return tuple(inspect.signature(loss).parameters)
    except (TypeError, ValueError):  # a builtin
        return ()


def _labels(params: Any, loss: Callable[..., Any]) -> list[str]:
    """What to call the params in the kernel: by their keys, or as the loss calls them all."""
    from ._torch_private import tree

    stem = next(iter(_names(loss)), "w")
    labels = []
    for path, _ in tree.tree_leaves_with_path(params):
        keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
        labels.append("_".join(keys if keys and keys[0].isidentifier() else [stem, *keys]))
    return labels
