"""Dask's workers on this machine: samples that do not fit into their memories, and ten million curves made on them.

    python bench/cluster.py [--gigabytes 3] [--curves 10000000]

`fit` of a file with more samples than four workers may hold together, against the passes over the file that it needs
(one where the interval is given, else two) by the same workers, which read every byte and add up nothing; its answer
must have the bits of `fit` of the same file mapped into memory. And `curve_fit` of curves that workers make themselves,
by two processes of one thread each and by one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import torch

from fastpoly import curve_fit, fit

BLOCK = 2**20
"""Samples that are made and read at a time."""

WORKERS, MEMORY = 4, 500 * 2**20
"""Processes, and bytes that each of them may hold."""

WAYS = {"moments": {"backend": "gram", "steps": 1_000, "learn_rate": 0.1}, "triangles": {}}

CURVES_AT_A_TIME, TIMES = 100_000, 40

Array = Any


@contextmanager
def workers(count: int, memory: int | None = None) -> Iterator[None]:
    """So many processes of one thread."""
    limit: Any = memory or "auto"
    local = distributed.LocalCluster(n_workers=count, threads_per_worker=1, memory_limit=limit, dashboard_address=None)
    with local as cluster, distributed.Client(cluster) as client:
        cores = sorted(os.sched_getaffinity(0))
        for place, address in enumerate(client.scheduler_info(n_workers=-1)["workers"]):
            client.run(stay, {cores[place % len(cores)]}, workers=[address])
        yield


def stay(cores: set[int]) -> None:
    """Keep all threads of this process on these cores: a kernel has as many threads as its process has cores."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def seconds(function: Callable[[], Any], times: int = 3) -> float:
    """The median of what it takes, once it is warm."""
    function()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return median(taken)


# -- samples
# ----------------------------------------------------------------------------------------------------------------


def write(path: Path, blocks: int) -> None:
    """The file: all x, then all y, as doubles."""
    draws = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(draws.uniform(-3, 7, BLOCK).tobytes())
        for block in range(blocks):
            x = np.fromfile(path, count=BLOCK, offset=8 * BLOCK * block)
            file.write((np.sin(x) + 0.1 * draws.standard_normal(BLOCK)).tobytes())


def read(path: str, first: int, block_info: Any = None) -> Array:
    """A block of the file."""
    begin, end = block_info[None]["array-location"][0]
    return np.fromfile(path, count=end - begin, offset=8 * (first + begin))


def read_through(path: str, block: int) -> float:
    """Read a block of x and one of y; the last bytes are all that is looked at."""
    return sum(np.fromfile(path, count=BLOCK, offset=8 * BLOCK * place)[-1] for place in block)


def samples(gigabytes: float) -> None:
    """Print how long `fit` takes of that, in passes over it."""
    blocks = int(gigabytes * 2**30 / (16 * BLOCK))
    count = blocks * BLOCK
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples"
        write(path, blocks)
        x, y = (np.memmap(path, np.float64, "r", 8 * first, (count,)) for first in (0, count))
        wanted = {name: fit(x, y, 5, **options) for name, options in WAYS.items()}
        held = WORKERS * MEMORY / 2**30
        print(f"{count:,} samples, {blocks * BLOCK * 16 / 2**30:.2f} GiB; {WORKERS} workers of {held:.2f} GiB in all")
        with workers(WORKERS, MEMORY):
            x, y = (
                da.map_blocks(read, str(path), first, chunks=((BLOCK,) * blocks,), dtype=float, meta=np.empty(0))
                for first in (0, count)
            )
            tasks = [dask.delayed(read_through)(str(path), (block, blocks + block)) for block in range(blocks)]
            one_pass = seconds(lambda: dask.compute(*tasks))
            print(f"a pass that reads: {one_pass:.3g} s")
            for name, want in wanted.items():
                for passes, domain in ((1, want.domain), (2, "auto")):

                    def fitted(domain=domain, options=WAYS[name]):
                        return fit(x, y, 5, domain=domain, **options)

                    assert np.array_equal(fitted().weights, want.weights)
                    taken = seconds(fitted)
                    given = "looked for" if domain == "auto" else "given"
                    print(f"{name}, domain {given}: {taken:.3g} s, {taken / passes / one_pass:.2f} x {passes} passes")
        print("all with the bits of the file in one process")


# -- curves
# ----------------------------------------------------------------------------------------------------------------


def decay(t: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The model."""
    return a * torch.exp(-b * t) + c


def made(block_info: Any = None) -> Array:
    """Noisy curves, other ones in each chunk."""
    begin, end = block_info[None]["array-location"][0]
    draws = np.random.default_rng(begin)
    rates = 0.5 + draws.random((end - begin, 1))
    t = np.linspace(0, 4, TIMES)
    return 2 * np.exp(-rates * t) + 0.5 + 0.05 * draws.standard_normal((end - begin, TIMES))


def fitted(count: int) -> tuple[float, float]:
    """Fit so many curves; what comes back are two numbers."""
    rows = (CURVES_AT_A_TIME,) * (count // CURVES_AT_A_TIME)
    y = da.map_blocks(made, chunks=(rows, (TIMES,)), dtype=float, meta=np.empty((0, 0)))
    popt, pcov = curve_fit(decay, np.linspace(0, 4, TIMES), y)
    return dask.compute(popt[:, 1].mean(), da.sqrt(pcov[:, 1, 1]).mean())


def curves(count: int) -> None:
    """Print how many curves a second one process fits, and two."""
    taken = []
    for processes in (1, 2):
        with workers(processes):
            fitted(2 * CURVES_AT_A_TIME * processes)  # kernels are compiled and loaded
            began = time.perf_counter()
            rate, error = fitted(count)
            taken.append(time.perf_counter() - began)
        assert abs(rate - 1) < 1e-2
        print(f"{processes} process(es): {count:,} curves in {taken[-1]:.3g} s, {count / taken[-1]:,.0f} a second")
        print(f"    mean rate {rate:.4f}, mean of its standard deviations {error:.4f}")
    print(f"two processes: {taken[0] / taken[1]:.2f} x one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--curves", type=int, default=10_000_000)
    options = parser.parse_args()
    samples(options.gigabytes)
    curves(options.curves)


if __name__ == "__main__":
    main()
