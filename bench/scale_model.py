"""What would 10**12 samples, 10**9 problems or 1,000 processes take? A model on paper, made of parts measured here.

Measured: a block of samples, a chunk of problems, merging results, a task of dask's scheduler, an all-reduce of two
processes, and how all of these scatter. Simulated: workers that take tasks from one queue, with durations drawn from
those measured, a tree that merges results as they come, and a worker that is lost. Not measured: a network, a disk, and
1,000 workers. What is computed from which figure is printed with it.

    python bench/scale_model.py [--repeats 200] [--samples 1e12] [--problems 1e9] [--workers 1000]
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import torch

from fastpoly import curve_fit
from fastpoly._backends import moments
from fastpoly._fuse import many

ARITY = 16
"""Results that are merged at a time. The library merges up to 64, and has fewer merges."""

BLOCKS = 16
"""Blocks of 2**20 samples in a task: 256 MiB of x and y."""

CURVES, TIMES = 2_000, 50
"""Problems that are timed, and how often a task has as many."""

NETWORK = 10e9 / 8, 50e-6
"""Bytes a second, and seconds that a message takes: assumed, a cluster with 10 Gbit/s Ethernet."""

Array = Any


@dataclass
class Parts:
    """What was measured: seconds.

    Attributes:
        block: of the moments of 2**20 samples, one for each repeat.
        curves: of CURVES fits, one for each repeat.
        chunk: of a chunk of one fit whose function the process has seen: what a chunk costs beside its fits.
        merge: of merging ARITY results.
        result: bytes of one result.
        task: of a task that does nothing, in dask's scheduler.
        step: of an all-reduce of two processes on this machine, one for each repeat.
    """

    block: Array
    curves: Array
    chunk: float
    merge: float
    result: int
    task: float
    step: Array


def timed(function: Callable[[], Any], repeats: int) -> Array:
    found = np.empty(repeats)
    for i in range(repeats):
        began = time.perf_counter()
        function()
        found[i] = time.perf_counter() - began
    return found


def decay(t: Any, a: Any, b: Any, c: Any) -> Any:
    return a * torch.exp(-b * t) + c


def measured(repeats: int) -> Parts:
    draws = np.random.default_rng(0)
    x = draws.random(2**20) * 2 - 1
    y = np.sin(3 * x)
    one = moments._terms_of(x, y, 4)
    t = np.linspace(0, 4, 40)
    curves = 2 * np.exp(-(0.5 + draws.random((CURVES, 1))) * t) + 0.5 + 0.05 * draws.standard_normal((CURVES, 40))
    many.processors = lambda: 1  # as a worker of one core
    curve_fit(decay, t, curves)
    lazy = curve_fit(decay, t, da.from_array(curves[:50], chunks=(1, 40)))
    chunk = float(timed(lambda: dask.compute(*lazy, scheduler="sync"), 3).min()) / 50
    merge = float(np.median(timed(lambda: moments._merged([one] * ARITY), 50)))
    return Parts(
        timed(lambda: moments._terms_of(x, y, 4), repeats),
        timed(lambda: curve_fit(decay, t, curves), max(20, repeats // 4)),
        chunk,
        merge,
        len(pickle.dumps(moments._merged([one] * ARITY))),
        task_seconds(),
        all_reduces(repeats),
    )


def nothing(i: int) -> int:
    return i


def task_seconds(tasks: int = 2_000) -> float:
    """Seconds that a task costs the scheduler, by two workers that do nothing."""
    local = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    with local as cluster, cluster.get_client() as client:
        client.gather(client.map(nothing, range(100)))
        began = time.perf_counter()
        client.gather(client.map(nothing, range(100, 100 + tasks)))
        return (time.perf_counter() - began) / tasks


def ranks(rank: int, file: str, repeats: int, found: Any) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    flat = torch.zeros(4, dtype=torch.float64)
    for _ in range(50):
        dist.all_reduce(flat)
    seconds = timed(lambda: dist.all_reduce(flat), repeats)
    if rank == 0:
        found.put(seconds)
    dist.barrier()
    dist.destroy_process_group()


def all_reduces(repeats: int) -> Array:
    import tempfile

    from torch import multiprocessing

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        found = context.SimpleQueue()
        processes = [context.Process(target=ranks, args=(rank, f"{folder}/store", repeats, found)) for rank in range(2)]
        for process in processes:
            process.start()
        seconds = found.get()
        for process in processes:
            process.join()
    return seconds


# -- simulation
# ----------------------------------------------------------------------------------------------------------------


def queued(durations: Array, workers: int, lost_at: float | None = None) -> Array:
    """When each task ends, if workers take tasks from one queue; what a lost worker has done is done again."""
    free = [(0.0, worker) for worker in range(workers)]
    ends = np.empty(len(durations))
    of_first: list[int] = []
    tasks, at = list(range(len(durations))), 0
    while at < len(tasks):
        when, worker = heapq.heappop(free)
        if worker == 0 and lost_at is not None and when + durations[tasks[at]] > lost_at:
            tasks += of_first  # its results lay in its memory; it does not come back
            lost_at, of_first = None, []
            continue
        ends[tasks[at]] = when + durations[tasks[at]]
        if worker == 0 and lost_at is not None:
            of_first.append(tasks[at])
        heapq.heappush(free, (ends[tasks[at]], worker))
        at += 1
    return ends


def merged(ends: Array, seconds: float) -> float:
    """When the last of a tree is there, each merge beginning as soon as all that it merges are."""
    while len(ends) > 1:
        groups = [ends[i : i + ARITY] for i in range(0, len(ends), ARITY)]
        ends = np.array([group.max() + seconds for group in groups])
    return float(ends[0])


def allotted(durations: Array, workers: int) -> float:
    """When the last of all is done, if each worker gets its share of the tasks beforehand."""
    return float(max(part.sum() for part in np.array_split(durations, workers)))


def text_of(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def row(name: str, value: str, of: str) -> None:
    print(f"| {name} | {value} | {of} |")


def scatter(values: Sequence[float]) -> str:
    low, middle, high, last = np.quantile(values, [0.05, 0.5, 0.95, 1.0])
    return f"{text_of(middle)} (5 %: {text_of(low)}, 95 %: {text_of(high)}, worst {text_of(last)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=200)
    for name, value in (("samples", 1e12), ("problems", 1e9), ("workers", 1e3)):
        parser.add_argument(f"--{name}", type=float, default=value)
    given = parser.parse_args()
    workers = int(given.workers)
    parts = measured(given.repeats)
    draws = np.random.default_rng(0)
    print(f"Processes that wanted one of the {os.cpu_count()} cores meanwhile: {os.getloadavg()[0]:.1f}\n")
    print("| measured here, one core | seconds | of |\n| --- | --- | --- |")
    row("moments, degree 4", scatter(parts.block), "2**20 samples in the cache")
    row("curve_fit", scatter(parts.curves), f"{CURVES:,} curves of 40 samples, 3 parameters")
    row("a chunk", text_of(parts.chunk), "beside its fits")
    row("merge", text_of(parts.merge), f"{ARITY} results, {parts.result:,} bytes each")
    row("dask's scheduler", text_of(parts.task), "a task that does nothing")
    row("all-reduce", scatter(parts.step), "4 doubles, 2 processes, loopback")

    def tasks_of(count: int, each: Array, work: int, beside: float, total: str) -> None:
        durations = draws.choice(each, (count, work)).sum(1) + beside
        ideal = durations.sum() / workers
        message = NETWORK[1] + parts.result * ARITY / NETWORK[0]
        ends = queued(durations, workers)
        tree = merged(ends, parts.merge + message + parts.task)
        lost = queued(durations, workers, ends.max() / 2)
        row(f"{total}: tasks", f"{count:,}", "and 1/15 as many merges")
        row("work, shared evenly", text_of(ideal), f"{workers:,} workers, measured scatter")
        row("from one queue", f"{text_of(ends.max())}, {ends.max() / ideal - 1:+.1%}", "simulated")
        row("in shares fixed beforehand", f"{allotted(durations, workers) / ideal - 1:+.1%}", "simulated")
        row("and the tree", f"{text_of(tree - ends.max())} more", "simulated; messages assumed")
        row("one worker lost half way", f"{text_of(lost.max() - ends.max())} more", "simulated; its results are redone")
        row("the scheduler alone", text_of(parts.task * count), "its tasks, one after the other")

    row("a task should take", text_of(parts.task * workers), f"or the scheduler cannot keep {workers:,} workers busy")
    print(f"\n| on {workers:,} workers of one core | seconds | of |\n| --- | --- | --- |")
    blocks = math.ceil(given.samples / 2**20)
    tasks_of(math.ceil(blocks / BLOCKS), parts.block, BLOCKS, 0.0, f"{given.samples:.0e} samples")
    row(
        "reading them",
        text_of(16 * given.samples / workers / NETWORK[0]),
        "16 bytes each at 10 Gbit/s a worker: assumed",
    )
    tasks_of(
        math.ceil(given.problems / CURVES / TIMES), parts.curves, TIMES, parts.chunk, f"{given.problems:.0e} curves"
    )

    print("\n| steps of one descent, all-reduce in a ring | a step | of |\n| --- | --- | --- |")
    for size in (2, 16, 128, workers):
        message = float(np.median(parts.step)) / 2  # two of them in an all-reduce of two
        waits = draws.choice(parts.step, (2_000, size)).max(1) / 2
        ring, doubling = 2 * (size - 1), 2 * math.ceil(math.log2(size))
        slow = float(waits.mean()) - message
        row(
            f"{size:,} processes",
            f"{text_of(ring * message + slow)}, {text_of(doubling * message + slow)}",
            f"{ring:,} messages in turn, or {doubling} if halved and doubled; {text_of(slow)} for the slowest",
        )


if __name__ == "__main__":
    main()
