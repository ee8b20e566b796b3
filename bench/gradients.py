"""`make bench-gradbench`: a call of `value_and_grad` on GradBench's problems, beside JAX and eager torch.

The problems are those of tests/gradbench, at their smallest two sizes and some longer loops; JAX's are in
bench/jax_gradients.py. Answers are held against eager torch's first. Then all sides are called in turn, round by round,
warm, on as many threads each, and the medians are compared. On one thread time is that of the processor, on more the
clock's. Compiling is the first call's time with nothing on disk.

    python bench/gradients.py [--threads 1] [--rounds 9] [--seconds 0.02] [--only lse ode]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

LONGER = {"ode": ((1_000, 100),)}
"""Sizes beside the smallest two."""

AGREEMENT = 1e-9
"""Of every tensor of an answer, relative to its largest element."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.02, help="of calls in a round, about")
    parser.add_argument("--only", nargs="*", help="problems")
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX is there, which has a thread for each processor
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.threads])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FASTPOLY_CACHE_DIR"] = folder
        asked.clock = time.process_time if asked.threads == 1 else time.perf_counter
        table(asked)


def table(asked: argparse.Namespace) -> None:
    """Of all problems."""
    import torch
    from gradbench.problems import PROBLEMS

    torch.set_num_threads(asked.threads)
    print("| problem | size | compiling, s | a call, us | JAX's, us | eager torch's, us | JAX / ours | eager / ours |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, problem in PROBLEMS.items():
        if asked.only and name not in asked.only:
            continue
        for size in (*problem.sizes, *LONGER.get(name, ())):
            first, ours, jax, eager = (1e6 * seconds for seconds in measured(name, problem, size, asked))
            shown = f"{first / 1e6:.2f} | {ours:.1f} | {jax:.1f} | {eager:.0f} | {jax / ours:.1f} | {eager / ours:.0f}"
            print(f"| {name} | {', '.join(f'{n:,}' for n in size)} | {shown} |", flush=True)


def measured(name: str, problem: Any, size: tuple[int, ...], asked: argparse.Namespace) -> tuple[float, ...]:
    """Seconds of the first call of ours, and of a later one of ours, JAX's quickest way and eager torch."""
    import jax_gradients

    from fastpoly import value_and_grad

    params, data = problem.inputs(*size)
    call = value_and_grad(problem.loss, has_aux=problem.has_aux, backend="fused")
    started = asked.clock()
    call(params, *data)
    first = asked.clock() - started
    by_torch = eager(problem, params, data)
    by_jax = jax_gradients.ways(name, params, data, problem.has_aux)
    wanted = by_torch()
    for side in (lambda: call(params, *data), *by_jax):
        assert_same(name, side(), wanted)
    ours, torchs, *jaxs = in_turn([lambda: call(params, *data), by_torch, *by_jax], asked)
    return first, ours, min(jaxs), torchs


def eager(problem: Any, params: Any, data: Any) -> Callable[[], Any]:
    """torch's autograd."""
    import torch
    from torch.utils import _pytree as tree

    start, structure = tree.tree_flatten(params)

    def run() -> Any:
        leaves = [leaf.detach().requires_grad_() for leaf in start]
        result = problem.loss(tree.tree_unflatten(leaves, structure), *data)
        value = result[0] if problem.has_aux else result
        return result, tree.tree_unflatten(torch.autograd.grad(value, leaves), structure)

    return run


def assert_same(name: str, found: Any, wanted: Any) -> None:
    """The same numbers in the same places."""
    import jax
    import numpy as np

    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        want = want.detach().numpy()
        off = np.abs(np.asarray(got) - want).max() / (np.abs(want).max() or 1.0)
        assert off <= AGREEMENT, f"{name}: {off} of the largest"


def in_turn(sides: list[Callable[[], Any]], asked: argparse.Namespace) -> list[float]:
    """The median seconds of a call of each."""
    counts = []
    for side in sides:
        started = asked.clock()
        side()
        counts.append(max(1, int(asked.seconds / (asked.clock() - started))))
    took: list[list[float]] = [[] for _ in sides]
    for _ in range(asked.rounds):
        for side, count, seconds in zip(sides, counts, took, strict=True):
            started = asked.clock()
            for _ in range(count):
                side()
            seconds.append((asked.clock() - started) / count)
    return [statistics.median(seconds) for seconds in took]


if __name__ == "__main__":
    main()
