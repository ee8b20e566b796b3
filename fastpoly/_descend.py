"""`descend` and `descend_module`: gradient descent on any torch loss, without autograd's cost."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._descent_result import DescentResult
from ._errors import DivergenceWarning, Interrupted
from ._monitor import Progress
from ._problem import MAX_STEPS, integer, positive, refuse_long_trace
from ._repeat import checked_backend
from ._tensors import need_torch, refuse_no_function, refuse_no_params, with_signs_turned

if TYPE_CHECKING:
    import os

    import torch

    from ._training import Wishes


def descend(
    loss: Callable[..., torch.Tensor],
    params: Any,
    data: Any = (),
    *,
    learn_rate: Any = None,
    steps: int,
    optimizer: Any = "sgd",
    trace_every: int | None = 1,
    backend: str = "auto",
    progress: bool | Progress = False,
    state: Any = None,
    xs: Any = None,
    cycle: bool = False,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    project: Callable[[Any], Any] | None = None,
    until: Callable[[Any, torch.Tensor], torch.Tensor] | None = None,
    held_out: Any = None,
    patience: int | None = None,
    average: str | float | None = None,
    has_aux: bool = False,
    seed: int | None = None,
    callback: Callable[[int, Any, torch.Tensor], object] | None = None,
    callback_every: int = 1_000,
    save: str | os.PathLike[str] | None = None,
    save_every: float = 60.0,
    group: Any = None,
    reduction: str = "mean",
    count: int | None = None,
) -> DescentResult:
    """Minimise loss(params, *data) by gradient descent, the whole training loop in one compiled kernel.

    The loss is called on tensors without values; torch's autograd differentiates it as always. What it did is then
    fused into one loop over the steps, in which nothing of torch is left. So the loss must do the same operations at
    every step, whatever the values of the parameters are. It is called once more, on the
    parameters after the first step, and the loop's next step compared with that: a loss that another call changes (a
    counter, a warm-up) is refused. A change that only a later call would bring, or one that is smaller than rounding,
    cannot be noticed.

    What the loss writes in place to tensors beside the params, as BatchNorm does to its running statistics, is carried
    from step to step; these tensors have what the last step left in them when the run has ended, and in a callback.

    What the loss draws at random, as dropout does, are other numbers in every step, place and element: those of
    Threefry, a counter-based generator, and not of torch's. A `seed` gives the same ones in every backend.

    A tensor of `params` that requires a gradient is trained wherever the loss gets it from. One that requires a
    gradient and is none of the params stays as it is, after a warning.

    Args:
        loss: takes the params and the data, returns one number. Tensors that it gets from elsewhere are data, too,
            unless it writes to them.
        params: where to start: a tensor, or a list, tuple or dict of tensors, nested at will; of one float dtype, on
            the CPU or on a CUDA GPU. They are not written to.
        data: what else the loss takes: a tensor or a tuple.
        learn_rate: > 0; or a tensor, array or list of one for each step; or a scheduler of torch.optim, whose rates are
            computed before and which is left as so many steps leave it. A `torch.optim` object has its own.
        steps: how many to take, >= 0.
        optimizer: "sgd", "momentum" (0.9), "nesterov" (0.9), "adam", "adamw", "rmsprop", "adagrad", "adadelta",
            "adamax", "nadam", "radam", "asgd", "rprop", "adafactor", "muon", all with torch.optim's defaults; "lion",
            "adabelief"; an object of `fastpoly.optimizers`; an object of `torch.optim` that holds the params, whose
            groups, learn rates and state are taken, and which has the new state afterwards; or a function (params,
            grads, state) -> (params, state) of these as they are given here. Its state is None on the first call;
            learn_rate is ignored.
        trace_every: keep the loss of every trace_every-th step, from step 0 on; None keeps none.
        backend: "fused" (one kernel of machine code), "compile" (torch.compile, blocks of steps), "eager" (torch's
            autograd step by step), or "auto": the one that is done the soonest with so many steps, compiling included,
            of those that can run the loss. On a GPU it is "triton" (one Triton kernel), "cudagraph" (torch's
            operations, captured in CUDA graphs), "compile" (its blocks, captured so), "eager". See below.
        progress: True shows a bar; a function is called with (steps done, steps).
        state: the optimizer's, of an earlier result, to go on from.
        xs: what the loss takes last, a slice for each step: tensors with a leading axis, nested at will. Minibatches,
            noise that was drawn before.
        cycle: begin again with the first slice after the last; without, fewer slices than steps are an error.
        clip_norm, clip_value: clip the gradients, as torch.nn.utils.clip_grad_norm_ and clip_grad_value_ do.
        project: params -> params, after every step; traced like the loss. Keeps them where they belong.
        until: (params, loss) -> bool, a tensor; traced, and looked at before every step. Where it holds the run ends.
        held_out, patience: what the loss takes beside the params, of data that are not trained on; the run ends when
            the loss there has not fallen for so many steps. The result has the `best` params.
        average: "mean" for the mean of the params after each step (stochastic weight averaging), or how much of an
            average is kept in a step, such as 0.999 (exponential moving average).
        has_aux: the loss returns (number, aux), where aux is a tensor or a list, tuple or dict of such: the result's
            `aux` has it for every step that is kept, and `last_aux` for the last one.
        seed: of what the loss draws at random; without, torch's generator gives one.
        callback: called as callback(step, params, loss) after every `callback_every` steps, with the loss of these
            params; True ends the run.
        save: a file in which the run is kept every `save_every` seconds and at its end. If it is there already, and of
            this run, the run goes on from it, with the bits of one that was never interrupted.
        group: a process group of torch.distributed, such as `torch.distributed.group.WORLD`. Each of its processes
            calls descend with its own samples and the same of all else; see below.
        reduction: what the loss is of the samples of a process: their "mean", or a "sum" over them.
        count: how many samples this process has, >= 0; the leading axis of the tensors in `data` if None.

    "auto" reckons by a model of the machine, and where two backends come near it times some of their steps, once. A
    hundred steps of a new loss run as torch runs them, a hundred thousand in a compiled kernel; all steps that a
    process asks of one loss count together. A kernel that was compiled once is used from then on for any number of
    steps, by every process of the machine that finds it in the cache, so that a run which is split or goes on has the
    bits of the whole. Before that it may not: two backends round differently. Whoever needs the same bits from the
    first step on, whatever the cache holds, names the backend. `DescentResult.reason` says what was taken and why.

    With a group the loss is that of all samples together: the mean of the processes' losses, each counting by its
    samples, or their sum. A loss that is neither a mean nor a sum over samples (a median, a loss with a penalty on the
    params added to a sum, statistics of a batch) is not the same loss on shares. At each step one kernel computes loss
    and gradients of a process's own samples, one all-reduce adds them up, and the update is the same everywhere: all
    processes return the same bits. `until`, `project` and `callback` see all samples' loss; True from the callback of
    any process ends the run of all. "auto" is "fused" where all processes can, else "eager"; on GPUs (with nccl, which
    was never tried) it is "eager". How long to wait for a process that does not answer is the group's own timeout
    (`init_process_group(timeout=...)`). docs/beyond.md says when it pays.

    Returns:
        A DescentResult.

    Raises:
        TypeError, ValueError: an argument cannot be meant.
        GroupError: another process of the group ended or does not answer; its `.params` are those of the last step.
        UnsupportedOperationError: the loss does what the backend cannot do; the message names the operation, its line
            where it is known, and a way out.
        BackendUnavailableError: torch, a compiler or a GPU is missing.
        OSError: `save` cannot be written.
        MemoryError: the trace does not fit.
        Interrupted: Ctrl-C; `.partial` holds the result so far.

    Warns:
        DivergenceWarning: the loss is not finite any more, and the result ends there.
        RuntimeWarning: with "auto", the fused loop cannot run the loss, and the message says why. That another backend
            is done sooner is no reason for one.
    """
    started = time.perf_counter()
    need_torch()
    from ._run_descent import Descent
    from ._torch_private import tree
    from ._training import Wishes

    refuse_no_function(loss, "loss")
    backend = checked_backend(backend)
    steps = integer(steps, "steps", 0, MAX_STEPS)
    if trace_every is not None:
        trace_every = integer(trace_every, "trace_every", 1, MAX_STEPS)
    if callback is not None:
        refuse_no_function(callback, "callback")
    data = data if isinstance(data, tuple) else (data,)
    start, structure = tree.tree_flatten(params)
    refuse_no_params(start)
    start = [with_signs_turned(leaf) for leaf in start]
    if trace_every is not None:
        refuse_long_trace(-(-steps // trace_every), start[0].element_size(), "steps")
    wishes = Wishes(xs, cycle, clip_norm, clip_value, project, until, held_out, patience, average, has_aux, seed)
    others = None if group is None else _others(group, reduction, count, data, backend, save, wishes)
    descent = Descent(loss, data, start, structure, wishes, learn_rate, optimizer, steps, trace_every, others)
    if callback is not None:
        descent.call_back(callback, integer(callback_every, "callback_every", 1, MAX_STEPS))
    if save is not None:
        descent.keep_in(save, positive(save_every, "save_every"))
    result = descent.run(_labels(params, loss), names_of(loss), state, backend, progress, started)
    if descent.interrupted:
        raise Interrupted(result, f"{result.steps:,} of {steps:,} steps")
    if result.diverged_at is not None:
        smaller = f"choose a learn_rate below {descent.rates.text}" if descent.rates.text else "choose smaller steps"
        text = f"diverged at step {result.steps:,}: the loss is not finite; {smaller}, or another start"
        warnings.warn(text, DivergenceWarning, stacklevel=2)
    return result


def descend_module(
    module: torch.nn.Module,
    loss: Callable[..., torch.Tensor],
    data: Any = (),
    **options: Any,
) -> DescentResult:
    """Train a module in place: `descend` over its parameters.

    Args:
        module: its parameters that require a gradient are trained; all others are data, and so are buffers that it does
            not write to. Those that it does write to, or assigns anew, are left as the last step left them.
        loss: takes the module and the data, returns one number.
        data, options: as for `descend`. An optimizer of torch.optim holds the module's parameters.

    Returns:
        A DescentResult; its `params` is a dict by the parameters' names. The module holds the same values. After
        Ctrl-C it holds those of `.partial`.

    Raises what `descend` raises.
    """
    need_torch()
    import torch

    from ._torch_private import with_parameters
    from ._written import kept_tensors

    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"module: wants a torch.nn.Module, got {type(module).__name__}; descend takes params by themselves"
        )
    refuse_no_function(loss, "loss")
    params = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not params:
        raise ValueError("module: has no parameters that require a gradient; set .requires_grad_() on those to train")

    def functional(values: dict[str, torch.Tensor], *data: Any) -> torch.Tensor:
        with with_parameters(module, values), kept_tensors(module):
            return loss(module, *data)

    functional.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("params", *names_of(loss)[1:])]
    )
    try:
        result = descend(functional, params, data, **options)
    except Interrupted as stop:
        _assign(params, stop.partial.params)
        raise
    _assign(params, result.params)
    return result


def _others(group: Any, reduction: Any, count: Any, data: Any, backend: str, save: Any, wishes: Wishes) -> Any:
    """The processes that share the samples."""
    from ._group import Group

    if backend not in ("auto", "fused", "eager"):
        raise ValueError(
            f"backend: wants auto, fused or eager with a group, got {backend!r}; auto is fused if it can be"
        )
    if save is not None:
        raise ValueError("save: is not known to a group; a callback that saves the params on rank 0 is")
    if wishes.held_out is not None:
        raise ValueError("held_out: is not known to a group; a callback or `until` can end the run")
    if wishes.has_aux:
        raise ValueError("has_aux: is not known to a group; a loss called on the result's params has it")
    if wishes.seed is not None:
        raise ValueError("seed: is not known to a group, where torch draws; torch.manual_seed, another on each rank")
    return Group(group, reduction, count, data)


def _assign(params: dict[str, Any], values: dict[str, Any]) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in params.items():
            parameter.copy_(values[name])


def names_of(loss: Callable[..., Any]) -> tuple[str, ...]:
    """What the loss calls its arguments."""
    try:
        return tuple(inspect.signature(loss).parameters)
    except (TypeError, ValueError):  # a builtin
        return ()


def _labels(params: Any, loss: Callable[..., Any]) -> list[str]:
    """What to call the params in the kernel: by their keys, or as the loss calls them all."""
    from ._torch_private import tree

    stem = next(iter(names_of(loss)), "w")
    labels = []
    for path, _ in tree.tree_leaves_with_path(params):
        keys = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
        labels.append("_".join(keys if keys and keys[0].isidentifier() else [stem, *keys]))
    return labels
