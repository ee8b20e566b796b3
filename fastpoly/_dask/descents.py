"""`descend_many` of problems in dask arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from .._arrays import Array, is_dask
from .._many_result import ManyResult
from .._problem_axes import Problems, axes
from .._run_many import Run
from .._torch_private import tree
from .._training import Wishes
from .chunks import by_chunks, chunks_of, refuse_lengths


def descend_many(
    loss: Callable[..., Any], arguments: tuple[Any, ...], in_dims: Any, options: dict[str, Any]
) -> ManyResult:
    """As `fastpoly.descend_many`, of (params, *data); every array of the result is lazy."""
    import dask.array as da

    names = ("params", *(f"data[{i}]" for i in range(len(arguments) - 1)))
    dims = [dim for each in axes(arguments, in_dims, names) for dim in each]
    leaves, structure = tree.tree_flatten(arguments)
    if options["progress"]:
        raise ValueError("progress: nobody waits here for dask's chunks; dask.diagnostics.ProgressBar shows them")
    if any(is_dask(leaf) and dim is None for leaf, dim in zip(leaves, dims, strict=True)):
        raise ValueError("in_dims: a dask array has an axis of problems; .compute() makes what all of them share")
    rows = {
        at: da.moveaxis(leaves[at], dim, 0) if is_dask(leaves[at]) else leaves[at].detach().movedim(dim, 0)
        for at, dim in enumerate(dims)
        if dim is not None
    }
    shared = [None if at in rows else leaf for at, leaf in enumerate(leaves)]
    if np.ndim(options["learn_rate"]):  # it comes behind the arguments
        rates = options.pop("learn_rate")
        rows[len(leaves)] = rates if is_dask(rates) else np.asarray(rates, np.float64)
    count, chunks = chunks_of(rows.values())
    refuse_lengths(count, {"learn_rate" if at == len(leaves) else "in_dims": one for at, one in rows.items()})
    places = tree.tree_unflatten(range(len(leaves)), structure)  # of which nothing is torch's own, to pickle
    of_chunk = partial(_descended, loss, shared, places, tuple(rows), options)
    kinds, own = _kinds(loss, shared, places, rows, options)
    found = by_chunks(of_chunk, list(rows.values()), chunks, kinds)
    steps, diverged_at, is_ended, *losses = found[own[1] :]
    params = tree.tree_unflatten(found[: own[0]], tree.tree_structure(arguments[0]))
    return ManyResult(
        params,
        losses[0] if losses else None,
        steps,
        math.nan,
        options["backend"],
        "chunks of problems, each when it is asked for",
        diverged_at,
        is_ended,
        found[own[0] : own[1]],
    )


def _filled(shared: Sequence[Any], places: Any, rows: dict[int, Array]) -> tuple[Any, Any]:
    """The arguments of problems, those that they share and rows of those that they do not; and their in_dims.

    places: like the arguments, with a number for each leaf.
    """
    structure = tree.tree_structure(places)
    leaves = [torch.from_numpy(rows[at]) if at in rows else leaf for at, leaf in enumerate(shared)]
    dims = [0 if at in rows else None for at in range(len(shared))]
    return tree.tree_unflatten(leaves, structure), tree.tree_unflatten(dims, structure)


def _kinds(
    loss: Callable[..., Any], shared: list[Any], places: Any, rows: dict[int, Any], options: dict[str, Any]
) -> tuple[list[Any], tuple[int, int]]:
    """What a problem gets: params, state and the rest; and where params and state end.

    It is found out by a problem of ones, of which no step is taken, so that mistakes are told at once.
    """
    ones = {at: np.ones((1, *one.shape[1:]), _dtype(one)) for at, one in rows.items() if at < len(shared)}
    given, dims = _filled(shared, places, ones)
    wishes = {name: options[name] for name in ("clip_norm", "clip_value", "project", "until")}
    rate = options.get("learn_rate", 1.0)
    problems = Problems(given, dims, ("params", *("data" for _ in given[1:])))
    settings = options["optimizer"], options["steps"], options["trace_every"], Wishes(**wishes)
    run = Run(loss, given[0], problems, rate, *settings, None)
    params = problems.one(0)[: run.count]
    kinds = [(tuple(leaf.shape), _dtype(leaf)) for leaf in (*params, *run.rule.start(params))]
    ends = run.count, len(kinds)
    kinds += [((), np.int64), ((), np.int64), ((), bool)]
    if options["trace_every"] is not None:
        kinds.append(((-(-options["steps"] // options["trace_every"]),), _dtype(params[0])))
    return kinds, ends


def _dtype(values: Any) -> Any:
    name = str(values.dtype).removeprefix("torch.")
    if name == "bfloat16":
        raise TypeError("params: bfloat16 is no dtype of numpy's and so of dask's; convert them with .float()")
    return np.dtype(name)


def _descended(
    loss: Callable[..., Any],
    shared: list[Any],
    places: Any,
    own: tuple[int, ...],
    options: dict[str, Any],
    *rows: Array,
) -> list[Array]:
    """What one chunk of problems gets."""
    from .. import descend_many as of_tensors

    of_chunk = dict(zip(own, rows, strict=True))
    (params, *data), dims = _filled(shared, places, of_chunk)
    if len(shared) in of_chunk:
        options = {**options, "learn_rate": of_chunk[len(shared)]}
    made = of_tensors(loss, params, tuple(data), in_dims=dims, **options)
    diverged_at = torch.full_like(made.steps, -1) if made.diverged_at is None else made.diverged_at
    found = [*tree.tree_leaves(made.params), *made.state, made.steps, diverged_at, made.is_ended]
    return [leaf.numpy() for leaf in (*found, *([] if made.loss is None else [made.loss]))]
