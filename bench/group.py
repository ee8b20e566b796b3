"""When does a second process pay? Steps per second of `descend(..., group=)` against samples, for one and two.

Each process has one thread for its kernels. One process is `descend` as it is, a kernel that takes all the steps; two
are a kernel for each step's gradient, an all-reduce over gloo on this machine's loopback, and a kernel for the update.
Times are slopes, from few steps to many, so that tracing does not count; the best of some rounds.

    python bench/group.py [--most 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fastpoly import descend
from fastpoly._fuse import program

FEW = 2
SECONDS = 0.5
"""What the many steps should take."""


def loss(w: Any, x: Any, y: Any) -> Any:
    return ((y - w[0] * torch.sin(w[1] * x + w[2])) ** 2).mean()


def samples(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(0, 6, n, dtype=torch.float64)
    return x, 1.1 * torch.sin(0.9 * x + 0.2)


def sizes(most: int) -> list[int]:
    return [n for n in (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000) if n <= most]


def step_seconds(n: int, rounds: int, **options: Any) -> float:
    """The seconds of a step on n samples."""
    data, start = samples(n), torch.ones(3, dtype=torch.float64)
    guess = (1e-4 if options else 2e-7) + 5e-9 * n
    many = FEW + max(20, int(SECONDS / guess))  # the same number in every process

    def took(steps: int) -> float:
        began = time.perf_counter()
        descend(loss, start, data, learn_rate=1e-3, steps=steps, trace_every=None, backend="fused", **options)
        return time.perf_counter() - began

    took(FEW)
    rows = [(took(FEW), took(many)) for _ in range(rounds)]
    few, whole = (min(column) for column in zip(*rows, strict=True))
    return (whole - few) / (many - FEW)


def all_reduce_seconds(count: int, rounds: int) -> float:
    """The seconds of a sum over all processes of so many doubles."""
    flat = torch.zeros(count, dtype=torch.float64)
    repeats = 500 if count < 10_000 else 20
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repeats):
            dist.all_reduce(flat)
        found.append((time.perf_counter() - began) / repeats)
    return min(found)


def measured(measure: Callable[[], Any], rank: int, size: int, file: str) -> None:
    """As one of so many processes; the first writes what it found."""
    program.processors = lambda: 1
    dist.init_process_group("gloo", init_method=f"file://{file}.store", rank=rank, world_size=size)
    found = measure()
    if rank == 0:
        Path(file).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def together(size: int, *arguments: str) -> Any:
    """What the first of so many processes found."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "found")
        command = [sys.executable, __file__, *arguments, "--file", file, "--size", str(size)]
        processes = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(size)]
        ended = [process.wait() for process in processes]
        if any(ended):
            raise SystemExit("a process ended with an error")
        return json.loads(Path(file).read_text())


def everything(most: int, rounds: int) -> dict[str, Any]:
    group = dist.group.WORLD
    found = {"steps": {n: step_seconds(n, rounds, group=group) for n in sizes(most)}}
    found["all_reduce"] = {count: all_reduce_seconds(count, rounds) for count in (4, 1_000, 100_000)}
    if dist.get_world_size() == 1:
        found["plain"] = {n: step_seconds(n, rounds) for n in sorted({*sizes(most), *(2 * n for n in sizes(most))})}
    return found


def printed(one: dict[str, Any], two: dict[str, Any]) -> None:
    plain, alone, pair = one["plain"], one["steps"], two["steps"]
    print("| samples a process | one process | a group of one | two processes | one with all samples | two pay |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for n in map(int, alone):
        rates = [1 / plain[str(n)], 1 / alone[str(n)], 1 / pair[str(n)], 1 / plain[str(2 * n)]]
        print(f"| {n:,} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + f" | {rates[2] / rates[3]:.2f} x |")
    print("\nSteps per second. An all-reduce between two processes of")
    for count, seconds in two["all_reduce"].items():
        print(f"    {int(count):7,} doubles takes {seconds * 1e6:7,.0f} us")
    largest = max(map(int, alone))
    sample = plain[str(2 * largest)] / (2 * largest)
    step = min(pair.values())
    print(
        f"\nA sample costs {sample * 1e9:.2f} ns a step, a step of two processes {step * 1e6:,.0f} us before any: two"
    )
    print(f"pay from about {2 * step / sample:,.0f} samples in all on, of a loss with as little arithmetic as this.")
    paid = [2 * int(n) for n in alone if pair[n] < plain[str(2 * int(n))]]
    print(f"Of these sizes they did from {paid[0]:,} on." if paid else "Of these sizes they did at none.")
    print(f"Processes that wanted one of the {os.cpu_count()} cores meanwhile: {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--file")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--size", type=int)
    given = parser.parse_args()
    if given.file is not None:
        measured(lambda: everything(given.most, given.rounds), given.rank, given.size, given.file)
        return
    arguments = ("--most", str(given.most), "--rounds", str(given.rounds))
    printed(together(1, *arguments), together(2, *arguments))


if __name__ == "__main__":
    main()
