"""How fast are products of matrices within a fused loop: in tiles, as loop nests, and by two libraries?

GFLOP/s of one thread, by the processor's time, the best of some rounds: X W and G W^T for n samples and as many columns
as rows, and X^T G, the sum over samples that is the gradient of W. Of a step's time that of one without the product is
taken off. It is from these that `fastpoly/_fuse/tiles.py` has its constants.

    python bench/products.py [--sizes 100x20 1024x256] [--dtype float64] [--tiles 2,8] [--squares 6,4] [--span 64]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

SIZES = ("100x20", "100x32", "1024x20", "1024x32", "1024x64", "1024x256", "1024x512", "8192x256")

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # before numpy asks how many there are


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", help="registers of rows, columns")
    parser.add_argument("--squares", help="rows, columns of a tile along what is summed over")
    parser.add_argument("--span", type=int, help="registers that it sums up at a time")
    asked = parser.parse_args()
    import torch

    from fastpoly._fuse import tiles

    torch.set_num_threads(1)
    for name, given in (("TILES", asked.tiles), ("SQUARES", asked.squares)):
        if given:
            setattr(tiles, name, dict.fromkeys(getattr(tiles, name), tuple(map(int, given.split(",")))))
    tiles.SPAN = asked.span or tiles.SPAN
    print(f"{asked.dtype:12} {'X W':^30} {'G W^T':^30} {'X^T G':^30}")
    print(f"{'':12}" + 3 * f" {'tiles':>6} {'nests':>6} {'mm':>6} {'numpy':>6}  ")
    for size in asked.sizes:
        n, width = map(int, size.split("x"))
        print(f"{size:12}{measured(n, width, getattr(torch, asked.dtype), asked.rounds)}", flush=True)


def measured(n: int, width: int, dtype: Any, rounds: int) -> str:
    """The row of a size."""
    import numpy as np
    import torch

    from fastpoly._fuse import nests, traced

    normal = torch.Generator().manual_seed(0)
    x, w = (torch.randn(rows, width, generator=normal).to(dtype) for rows in (n, width))
    data = x, x[:, :1].clone()
    flops = 2 * n * width * width
    steps = max(3, int(8e9 / flops))
    runs: dict[tuple[str, str], Callable[[], float]] = {}
    for mode, products in (("tiles", nests.products), ("nests", lambda _: [])):
        known = type(traced._known)()

        def take(run: Callable[[], float], known: Any = known, products: Any = products) -> float:
            before = traced._known, nests.products
            traced._known, nests.products = known, products
            seconds = run()
            traced._known, nests.products = before
            return seconds

        for name, (step, carry) in STEPS.items():
            runs[mode, name] = partial(take, by_scan(step, x.clone() if carry == "x" else w, data, steps))
    calls = {"X W": (x, w), "G W^T": (x, w.T), "X^T G": (x.T, x.clone())}
    for name, sides in calls.items():
        runs["mm", name] = repeated(partial(torch.mm, *sides), steps)
        runs["numpy", name] = repeated(partial(np.matmul, *(side.numpy() for side in sides)), steps)
    for _ in range(rounds):
        best = {key: run() for key, run in runs.items()}
    row = ""
    for name, without in (("X W", "w"), ("G W^T", "w"), ("X^T G", "x")):
        own = (flops / (best[mode, name] - best[mode, without]) for mode in ("tiles", "nests"))
        theirs = (flops / best[mode, name] for mode in ("mm", "numpy"))
        row += "".join(f" {rate / 1e9:6.0f}" for rate in (*own, *theirs)) + "  "
    return row


def forward(w: Any, x: Any, y: Any) -> Any:
    """X W, of which one column is used, so that nothing else takes time."""
    return w * 1.000001, ((x @ w)[:, :1] * y).sum()


def backward(w: Any, x: Any, y: Any) -> Any:
    """The same with the other side of W."""
    return w * 1.000001, ((x @ w.T)[:, :1] * y).sum()


def gradient(g: Any, x: Any, _: Any) -> Any:
    """X^T G."""
    return g * 1.000001, (x.T @ g)[:2, :2].sum()


def only_w(w: Any, _: Any, y: Any) -> Any:
    """All but the product."""
    return w * 1.000001, (w[:2, :2].sum() * y).sum()


def only_x(g: Any, _: Any, __: Any) -> Any:
    """All but the product."""
    return g * 1.000001, g[:2, :2].sum()


STEPS = {
    "X W": (forward, "w"),
    "G W^T": (backward, "w"),
    "X^T G": (gradient, "x"),
    "w": (only_w, "w"),
    "x": (only_x, "x"),
}


def by_scan(step: Any, carry: Any, data: Any, steps: int) -> Callable[[], float]:
    """The seconds of a step, by the best calls so far."""
    from fastpoly import scan

    best = {1: float("inf"), 1 + steps: float("inf")}

    def run() -> float:
        for count in best:
            started = time.process_time()
            scan(step, carry, data, count, backend="fused")
            best[count] = min(best[count], time.process_time() - started)
        return (best[1 + steps] - best[1]) / steps

    return run


def repeated(call: Callable[[], Any], steps: int) -> Callable[[], float]:
    """The seconds of a call, the best so far."""
    best = float("inf")

    def run() -> float:
        nonlocal best
        started = time.process_time()
        for _ in range(steps):
            call()
        best = min(best, (time.process_time() - started) / steps)
        return best

    return run


if __name__ == "__main__":
    main()
