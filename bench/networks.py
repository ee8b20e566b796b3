"""`make bench-networks`: steps of tanh networks 8-W-...-W-1 and of other losses that are products of matrices.

Ours, eager torch and JAX's lax.scan on as many threads each, in turn, round by round; of each side's rounds the best
counts. The losses of all three are held against each other first. What a call takes beside its steps, or with its first
ones, is taken off by a call of four steps: ours compares one of them with eager torch, whose threads are awake for
milliseconds after it. On one thread time is that of the processor, on more the clock's. Beside the ratios: the floating
point operations of a step's products for each second of the whole step, and what torch.mm makes of the largest of them.

    python bench/networks.py [--threads 2] [--widths 128 256 512] [--samples 1024 8192] [--layers 2] [--dtype float32]
    python bench/networks.py --others [--threads 1] [--dtype float64]
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

RATE = 1e-3
AGREEMENT = {"float32": 1e-4, "float64": 1e-9}
"""Of the losses of the first steps, relative."""

CHECKED = 5
"""So many steps."""

FIRST = 4
"""Steps of the call that is taken off."""


def main() -> None:
    """Print a row for each loss."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--samples", type=int, nargs="+", default=[256, 1024, 8192])
    parser.add_argument("--layers", type=int, nargs="+", default=[2])
    parser.add_argument("--dtype", default="float32", choices=list(AGREEMENT))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2, help="of steps in a round, about")
    parser.add_argument("--others", action="store_true", help="matrix factorizations and products in batches instead")
    asked = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX is there, which has a thread for each processor
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.threads])
    import torch

    torch.set_num_threads(asked.threads)
    dtype = getattr(torch, asked.dtype)
    cases = others(dtype) if asked.others else networks(asked, dtype)
    print(f"{asked.dtype}, {asked.threads} threads; microseconds a step; GFLOP/s of a step, and of torch.mm alone")
    print(f"{'':34} {'ours':>9} {'eager':>9} {'JAX':>9} {'eager/ours':>10} {'JAX/ours':>9} {'ours':>6} {'mm':>6}")
    for name, loss, params, data, flops, shape in cases:
        best = compared(loss, params, data, flops, asked)
        ours, eager, jax = (1e6 * best[side] for side in ("ours", "eager", "jax"))
        rates = f"{flops / ours / 1e3:6.0f} {rate(shape, dtype):6.0f}"
        print(
            f"{name:34} {ours:9.1f} {eager:9.1f} {jax:9.1f} {eager / ours:10.2f} {jax / ours:9.2f} {rates}", flush=True
        )


# -- losses, written so that they mean the same to torch and to JAX
# ----------------------------------------------------------------------------------------


def networks(asked: argparse.Namespace, dtype: Any) -> Any:
    """(name, loss, params, data, flops of its products, the largest of them) of each."""
    for layers in asked.layers:
        for n in asked.samples:
            for width in asked.widths:
                sizes = [8, *[width] * layers, 1]
                normal = draws(width, dtype)
                params = [(normal(a, b) / a**0.5, 0.1 * normal(b)) for a, b in itertools.pairwise(sizes)]
                x = normal(n, 8)
                products = 3 * (layers - 1) * width * width + 2 * 8 * width + 3 * width
                name = f"8-{'-'.join([str(width)] * layers)}-1, n = {n:,}"
                yield name, network, params, (x, x[:, :1] * x[:, 1:2]), 2 * n * products, (n, width, width)


def network(params: Any, x: Any, y: Any) -> Any:
    """A tanh network."""
    for w, b in params[:-1]:
        x = tanh(x @ w + b)
    w, b = params[-1]
    return ((x @ w + b - y) ** 2).mean()


def tanh(value: Any) -> Any:
    """Of a tensor or a JAX array."""
    import jax.numpy as jnp
    import torch

    return torch.tanh(value) if isinstance(value, torch.Tensor) else jnp.tanh(value)


def others(dtype: Any) -> Any:
    """Matrix factorizations, and products in batches."""
    for rows, columns in ((100, 100), (300, 300), (1000, 300), (1000, 1000)):
        normal = draws(rows + columns, dtype)
        params = [normal(rows, 8), normal(columns, 8)]
        flops = 3 * 2 * rows * columns * 8
        yield f"({rows} x 8) (8 x {columns})", factors, params, (normal(rows, columns),), flops, (rows, 8, columns)
    for k, d in ((5, 4), (10, 20), (16, 16), (20, 20)):
        normal = draws(k + d, dtype)
        case = [normal(1000, k, d)], (normal(1000, d, k),), 2 * 2 * 1000 * k * k * d, (1000 * k, d, k)
        yield f"1,000 times ({k} x {d}) ({d} x {k})", squares, *case
        case = [normal(k, d, d)], (normal(k, 1000, d),), 2 * 2 * 1000 * k * d * d, (1000 * k, d, d)
        yield f"{k} times (1000 x {d}) ({d} x {d})", transformed, *case
        case = [normal(k, d), 0.1 * normal(k, d, d)], (normal(1000, d),), 3 * 2 * 1000 * k * d * d, (1000 * k, d, d)
        yield f"{k} distances from 1,000, {d} wide", distances, *case


def factors(params: Any, t: Any) -> Any:
    """A matrix as a product of two."""
    return ((params[0] @ params[1].T - t) ** 2).mean()


def squares(params: Any, b: Any) -> Any:
    """A product for each sample."""
    return ((params[0] @ b) ** 2).mean()


def transformed(params: Any, x: Any) -> Any:
    """The samples of each part by a matrix of its own."""
    return ((x @ params[0]) ** 2).mean()


def distances(params: Any, x: Any) -> Any:
    """The distances from some centers, each in coordinates of its own, as mixtures of Gaussians have them."""
    centers, scales = params
    return ((((x[:, None] - centers)[:, :, None] @ scales)[:, :, 0] ** 2).sum(-1) ** 2).mean()


def draws(seed: int, dtype: Any) -> Callable[..., Any]:
    """Standard normal numbers, the same in every dtype."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


# -- the three sides: each a function of a number of steps that returns the losses of all
# ----------------------------------------------------------------------------------------


def compared(loss: Any, params: Any, data: Any, flops: int, asked: argparse.Namespace) -> dict[str, float]:
    """The seconds of a step of each side."""
    steps = max(2, int(asked.seconds / (flops / 1e11 + 1e-5)))
    sides = {"ours": by_descend(loss, params, data), "eager": by_eager(loss, params, data)}
    sides["jax"] = by_jax(loss, params, data)
    losses = {name: run(CHECKED) for name, run in sides.items()}
    for name, found in losses.items():
        off = max(abs(a - b) / abs(b) for a, b in zip(found, losses["eager"], strict=True))
        assert off <= AGREEMENT[asked.dtype], f"{name}: {found} for {losses['eager']}"
    clock = time.process_time if asked.threads == 1 else time.perf_counter
    longest = {name: steps if name != "eager" else max(2, steps // 4) for name in sides}
    taken: dict[tuple[str, int], float] = {}
    for _ in range(asked.rounds + 1):  # the first one warms up
        for name, run in sides.items():
            for count in (FIRST, FIRST + longest[name]):
                started = clock()
                run(count)
                seconds = clock() - started
                taken[name, count] = min(taken.get((name, count), seconds), seconds)
    return {name: (taken[name, FIRST + more] - taken[name, FIRST]) / more for name, more in longest.items()}


def by_descend(loss: Any, params: Any, data: Any) -> Callable[[int], list[float]]:
    """Ours."""
    from fastpoly import descend

    def run(steps: int) -> list[float]:
        return descend(loss, params, data, learn_rate=RATE, steps=steps, backend="fused").loss.tolist()

    return run


def by_eager(loss: Any, params: Any, data: Any) -> Callable[[int], list[float]]:
    """torch as it is."""
    import torch
    from torch.utils import _pytree as tree

    start, structure = tree.tree_flatten(params)

    def run(steps: int) -> list[float]:
        leaves = [leaf.clone().requires_grad_() for leaf in start]
        losses = []
        for _ in range(steps):
            value = loss(tree.tree_unflatten(leaves, structure), *data)
            gradients = torch.autograd.grad(value, leaves)
            with torch.no_grad():
                for leaf, gradient in zip(leaves, gradients, strict=True):
                    leaf -= RATE * gradient
            losses.append(value.detach())
        return torch.stack(losses).tolist()

    return run


def by_jax(loss: Any, params: Any, data: Any) -> Callable[[int], list[float]]:
    """JAX's scan, compiled for each number of steps once."""
    import jax_zoo

    known: dict[int, Any] = {}

    def run(steps: int) -> list[float]:
        if steps not in known:
            dtype = data[0].numpy().dtype
            known[steps] = jax_zoo.scan(loss, params, data, RATE, steps, dtype)
        return known[steps]()[1].tolist()

    return run


def rate(shape: tuple[int, int, int], dtype: Any) -> float:
    """GFLOP/s of torch.mm."""
    import torch

    n, k, m = shape
    one, other, out = torch.randn(n, k, dtype=dtype), torch.randn(k, m, dtype=dtype), torch.empty(n, m, dtype=dtype)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        torch.mm(one, other, out=out)
        seconds.append(time.perf_counter() - started)
    return 2 * n * k * m / min(seconds) / 1e9


if __name__ == "__main__":
    main()
