"""`descend_many`: the descent of one problem, for many problems at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpoly_kernels.aside import imported

from ._arrays import is_dask
from ._errors import DivergenceWarning, Interrupted
from ._many_result import ManyResult
from ._problem import MAX_STEPS, integer, refuse_long_trace
from ._progress import shown
from ._tensors import need_torch, refuse_no_function, refuse_no_params, with_signs_turned

if TYPE_CHECKING:
    import torch

    from ._monitor import Progress
    from .optimizers import Optimizer

BACKENDS = ("auto", "fused", "triton", "eager")


def descend_many(
    loss: Callable[..., torch.Tensor],
    params: Any,
    data: Any = (),
    *,
    in_dims: Any,
    learn_rate: Any,
    steps: int,
    optimizer: str | Optimizer = "sgd",
    trace_every: int | None = None,
    until: Callable[..., torch.Tensor] | None = None,
    project: Callable[..., Any] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    backend: str = "auto",
    progress: bool | Progress = False,
) -> ManyResult:
    """Minimize a loss of one problem for many problems, each from its own start or on its own data.

    The loss is written for one problem, as for `descend`. It is traced once and fused into one kernel, which takes a
    block of problems, one in each lane of a register where they have few samples, through all of its steps before the
    next block. Threads share the blocks. Each problem stops for itself, and has the bits that it has alone.

    Args:
        loss: takes the params and the data of one problem, returns one number.
        params, data: as for `descend`; tensors may have an axis of problems. So may dask arrays, whose chunks of
            problems run when somebody asks for them; the loss gets tensors.
        in_dims: which of them do, as `torch.vmap` has it for loss(params, *data): a tuple of the axis of the problems,
            None where all problems share it, or a structure of these like the argument's. (0, None, 0): each problem
            has its own start, all have the same first data and each its own second ones.
        learn_rate: > 0; one for all problems, or (problems,).
        steps: how many each problem takes at most.
        optimizer: "sgd", "momentum", "nesterov", "adam", "adamw", "lion", "adabelief", or an object of
            `fastpoly.optimizers` with options of its own.
        trace_every: keep the loss of every trace_every-th step, from step 0 on; None keeps none.
        until, project, clip_norm, clip_value: as for `descend`, for one problem.
        backend: "fused" on the CPU, "triton" on a GPU (a problem in each thread), "eager" (torch's own loop, one
            problem after the other), or "auto": the kernel where it can be.
        progress: True shows a bar; a function is called with (problems done, problems).

    Returns:
        A ManyResult: the params with the problems as leading axis, the steps that each problem took, and more. Of
        problems in dask arrays it holds lazy ones in their chunks; `dask.compute(result)[0]` is one of numpy arrays.

    Raises:
        TypeError, ValueError: an argument cannot be meant.
        UnsupportedOperationError: the loss does what the backend cannot do.
        BackendUnavailableError: torch is missing.
        MemoryError: the results do not fit.
        Interrupted: Ctrl-C; `.partial` holds the first problems, those that were done.

    Warns:
        DivergenceWarning: the losses of some problems are not finite any more; the message says of which.
        RuntimeWarning: with "auto", the loss cannot be fused; problems run one after the other, many times slower.
    """
    started = time.perf_counter()
    need_torch()
    from ._problem_axes import Problems
    from ._run_many import Run
    from ._torch_private import tree
    from ._training import Wishes

    refuse_no_function(loss, "loss")
    if backend not in BACKENDS:
        raise ValueError(f"backend: wants one of {', '.join(BACKENDS)}, got {backend!r}; auto is the fastest that can")
    steps = integer(steps, "steps", 0, MAX_STEPS)
    data = data if isinstance(data, tuple) else (data,)
    if trace_every is not None:
        trace_every = integer(trace_every, "trace_every", 1, MAX_STEPS)
    asked: dict[str, Any] = {"clip_norm": clip_norm, "clip_value": clip_value, "project": project, "until": until}
    if any(is_dask(leaf) for leaf in tree.tree_leaves((params, data))):
        settings = {"steps": steps, "optimizer": optimizer, "trace_every": trace_every, "backend": backend, **asked}
        return imported("fastpoly._dask.descents").descend_many(  # type: ignore[no-any-return]
            loss, (params, *data), in_dims, {**settings, "learn_rate": learn_rate, "progress": progress}
        )
    refuse_no_params(tree.tree_leaves(params))
    params, data = tree.tree_map(with_signs_turned, (params, data))
    problems = Problems((params, *data), in_dims, ("params", *(f"data[{i}]" for i in range(len(data)))))
    if trace_every is not None:
        refuse_long_trace(problems.count * -(-steps // trace_every), problems.leaves[0].element_size(), "steps")
    wishes = Wishes(**asked)
    with shown(progress) as report:
        run = Run(loss, params, problems, learn_rate, optimizer, steps, trace_every, wishes, report)
        result = run.result(backend, started)
    if run.interrupted:
        raise Interrupted(result, f"{len(result):,} of {problems.count:,} problems")
    if result.diverged_at is not None:
        which = (result.diverged_at >= 0).nonzero()[:, 0].tolist()
        text = f"{len(which):,} of {problems.count:,} problems diverged, first problem {which[0]} at step "
        text += f"{int(result.diverged_at[which[0]]):,}: the loss is not finite; choose smaller learn rates, or "
        text += "other starts"
        warnings.warn(text, DivergenceWarning, stacklevel=2)
    return result
