"""Dask's workers on this machine: samples that do not fit into their memories, and ten million curves made on them.

    python bench/cluster.py [--gigabytes 3] [--curves 10000000] [--rounds 3]

`fit` of a file with more samples than four workers may hold together, against the passes over the file that it needs
(one where the interval is given, else two) by the same workers, which read every byte and add up nothing; its answer
must have the bits of `fit` of the same file mapped into memory. And `curve_fit` of curves that workers make themselves,
by two processes of one thread each and by one, with memory set as dask sets it for its workers, and kept.

What is compared takes turns, and medians are printed. Beside the time on the clock stands that on the processors, all
workers together: other programs lengthen it far less, and a machine without any is as fast as that at best.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import distributed
import numpy as np

from fastpoly import curve_fit, fit

if TYPE_CHECKING:
    import torch  # a worker that adds up samples needs none of its 180 MiB

BLOCK = 2**20
"""Samples that are made and read at a time."""

WORKERS, MEMORY = 4, 500 * 2**20
"""Processes, and bytes that each of them may hold."""

WAYS: dict[str, dict[str, Any]] = {
    "moments": {"backend": "gram", "steps": 50_000, "learn_rate": 0.1},
    "triangles": {},
}

CURVES_AT_A_TIME, TIMES = 100_000, 40

ALLOCATORS: dict[str, dict[str, int]] = {
    "memory given back at once (dask's default)": {},
    "memory kept": {"MALLOC_MMAP_THRESHOLD_": 2**25, "MALLOC_TRIM_THRESHOLD_": 2**28},
}
"""What glibc's malloc is told when a worker starts. By default an array of 128 KiB or more goes back to the system with
its last use, and the next one's pages come from there again, one by one."""

Array = Any


@contextmanager
def workers(count: int, memory: int | None = None, environment: dict[str, int] | None = None) -> Iterator[None]:
    """So many processes of one thread."""
    limit: Any = memory or "auto"
    preset = "distributed.nanny.pre-spawn-environ"
    with dask.config.set({preset: {**dask.config.get(preset), **(environment or {})}}):
        local = distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, memory_limit=limit, dashboard_address=None
        )
    with local as cluster, distributed.Client(cluster) as client:
        addresses = list(client.scheduler_info(n_workers=-1)["workers"])
        assert len(addresses) == count
        cores = sorted(os.sched_getaffinity(0))
        for place, address in enumerate(addresses):
            client.run(stay, {cores[place % len(cores)]}, workers=[address])
        yield


def stay(cores: set[int]) -> None:
    """Keep all threads of this process on these cores: a kernel has as many threads as its process has cores."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


@dataclass(frozen=True)
class Spent:
    """Seconds that something took: on the clock, and on processors, all workers together."""

    clock: float
    processors: float

    def __str__(self) -> str:
        return f"{self.clock:.3g} s, {self.processors:.3g} s on processors"


def timed(function: Callable[[], Any]) -> tuple[Spent, Any]:
    """What it takes the workers that there are, and what it returns."""
    client = distributed.get_client()
    before = sum(client.run(time.process_time).values())
    began = time.perf_counter()
    found = function()
    clock = time.perf_counter() - began
    return Spent(clock, sum(client.run(time.process_time).values()) - before), found


def middle(turns: list[Spent]) -> Spent:
    """Medians."""
    return Spent(median(turn.clock for turn in turns), median(turn.processors for turn in turns))


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


def samples(gigabytes: float, rounds: int) -> None:
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
            runs = {"a pass that reads": (1, lambda: dask.compute(*tasks))}
            for name, want in wanted.items():
                for passes, domain, given in ((1, want.domain, "given"), (2, "auto", "looked for")):

                    def fitted(domain=domain, options=WAYS[name]):
                        return fit(x, y, 5, domain=domain, **options)

                    assert np.array_equal(fitted().weights, want.weights)
                    runs[f"{name}, domain {given}"] = passes, fitted
            turns = [{name: timed(run)[0] for name, (_, run) in runs.items()} for _ in range(rounds)]
        taken = {name: middle([turn[name] for turn in turns]) for name in runs}
        one = next(iter(taken.values()))
        for name, spent in taken.items():
            passes, _ = runs[name]
            ratios = spent.clock / passes / one.clock, spent.processors / passes / one.processors
            print(f"{name}: {spent}; {ratios[0]:.2f} x {passes} passes, {ratios[1]:.2f} x on processors")
        print("all with the bits of the file in one process")


# -- curves
# ----------------------------------------------------------------------------------------------------------------


def decay(t: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The model."""
    import torch

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


def curves(count: int, rounds: int) -> None:
    """Print how many curves a second one process fits, and two."""
    for name, environment in ALLOCATORS.items():
        turns: dict[int, list[Spent]] = {1: [], 2: []}
        for _ in range(rounds):
            for processes, spent in turns.items():
                with workers(processes, environment=environment):
                    fitted(2 * CURVES_AT_A_TIME * processes)  # kernels are compiled and loaded
                    taken, (rate, error) = timed(lambda: fitted(count))
                    spent.append(taken)
                assert abs(rate - 1) < 1e-2
        print(f"{name}: mean rate {rate:.4f}, mean of its standard deviations {error:.4f}")
        one, two = middle(turns[1]), middle(turns[2])
        for processes, each in ((1, one), (2, two)):
            print(f"    {processes} process(es): {count:,} curves in {each}, {count / each.clock:,.0f} a second")
        at_best = 2 * one.processors / two.processors
        print(
            f"    two processes: {one.clock / two.clock:.2f} x one, at best {at_best:.2f} x on a machine without others"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--curves", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    options = parser.parse_args()
    if options.gigabytes:
        samples(options.gigabytes, options.rounds)
    if options.curves:
        curves(options.curves, options.rounds)
    print(f"Processes that wanted one of the {os.cpu_count()} cores meanwhile: {os.getloadavg()[1]:.1f}")


if __name__ == "__main__":
    main()
