"""`make auto-grid`: what every backend takes on a grid of losses, and whether `auto` takes the right one.

Each cell of the grid is measured by a process with empty caches ("cold") and by one that finds them filled ("warm"):
the seconds until a loop has begun, and the seconds of a step, for about a second each. Times of runs are made of these
two, so that 200,000 steps of a slow backend need not be waited for. Rows go to a file at once, and what is in it is not
measured again; `--table` prints what `auto` would have taken, from the file alone.

On a machine that others use, `--shared` measures one core by the processor's time instead of the clock's.

    python bench/auto_grid.py [--rows FILE] [--device cpu|cuda] [--minutes 20] [--only TEXT] [--backends a,b] [--shared]
                               [--table]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

STEPS = (100, 1_000, 10_000, 200_000)
STEP_SECONDS = 0.5
"""For the steps of one backend."""

SHORTEST = 0.004
"""Seconds of a round that counts; the best of them counts, for a machine is slower than itself at times."""

TOO_SLOW = 0.4
"""Seconds of an eager step beyond which torch.compile is left out: it takes sixteen steps to begin with."""

ALLOWED, EXCESS = 1.3, 0.05
"""`auto` may take so many times what the best backend takes, or so many seconds more."""

BACKENDS = {"cpu": ("eager", "fused", "compile"), "cuda": ("eager", "triton", "cudagraph", "compile")}


def cells():
    """(model, n, width, dtype), the small ones first."""
    for n in (100, 10_000, 1_000_000):
        for model in ("polynomial", "exponential-decay"):
            yield model, n, 1, "float64"
        yield "softmax", n, 16, "float32"
    for n in (100, 2_000, 50_000):
        for width in (8, 32, 128, 256):
            yield "network", n, width, "float32"
            if width in (8, 128) and n < 50_000:
                yield "network", n, width, "float64"


def name_of(cell):
    model, n, width, dtype = cell
    return f"{model} n={n} width={width} {dtype}"


# -- the losses


def problem(cell, device):
    """(loss, params, data) of a cell."""
    import torch
    import zoo

    model, n, width, dtype = cell
    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, kind)

    if model in zoo.NAMES and width == 1:
        found = zoo.model(model, kind, n)
        return found.loss, found.params.to(device), tuple(part.to(device) for part in found.data)
    if model == "softmax":
        labels = torch.randint(10, (n,), generator=generator).to(device)
        params = {"weight": 0.1 * normal(10, width), "bias": torch.zeros(10, dtype=kind, device=device)}
        return zoo.softmax_loss, params, (normal(n, width), labels)
    params = {
        "w1": normal(8, width) / 3,
        "b1": torch.zeros(width, dtype=kind, device=device),
        "w2": normal(width, width) / width**0.5,
        "b2": torch.zeros(width, dtype=kind, device=device),
        "w3": normal(width, 1) / width**0.5,
    }
    return network_loss, params, (normal(n, 8), normal(n, 1))


def network_loss(p, x, y):
    """8-width-width-1, tanh."""
    import torch

    h = torch.tanh(x @ p["w1"] + p["b1"])
    return ((torch.tanh(h @ p["w2"] + p["b2"]) @ p["w3"] - y) ** 2).mean()


def step_of(cell, device):
    """What `descend` would repeat: the step, its inputs, the names."""
    import fastpoly._descend as of

    found = {}

    class FoundError(Exception):
        pass

    def repeat(step, inputs, *_, names, **__):
        found.update(function=step, inputs=inputs, names=names)
        raise FoundError

    real, of.repeat = of.repeat, repeat
    loss, params, data = problem(cell, device)
    try:
        of.descend(loss, params, data, learn_rate=1e-7, steps=10)
    except FoundError:
        pass
    finally:
        of.repeat = real
    return found["function"], found["inputs"], found["names"]


# -- in a process of its own


def by_the_clock():
    return time.perf_counter()


def by_the_processor():
    """Seconds that a core has worked for this process and the compilers that it has called."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in used)


now = by_the_clock


def use_one_core():
    global now
    now = by_the_processor
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})


def measure(cell, form, device, backends, file):
    """Write a row for each backend."""
    done = {(row["form"], row["backend"]) for row in read(file) if row["cell"] == list(cell)}
    function, inputs, names = step_of(cell, device)
    if ("cold", "features") not in done:
        write(file, {"cell": cell, "form": "cold", "backend": "features", **features(function, inputs, names, device)})
    slowest = max((row["step"] for row in read(file) if row["cell"] == list(cell) and "step" in row), default=0.0)
    for backend in backends:
        if (form, backend) in done or (form == "warm" and backend == "eager"):
            continue
        if backend == "compile" and slowest > TOO_SLOW:
            continue
        row = {"cell": cell, "form": form, "backend": backend}
        row.update(seconds_of(backend, function, inputs, names, device, form))
        slowest = max(slowest, row["step"] if backend == "eager" else 0.0)
        write(file, row)


def features(function, inputs, names, device):
    """What the model knows of a step."""
    from fastpoly._choice import begin, work
    from fastpoly._fuse.traced import read, written_anew

    reading = read(function, inputs, names)
    asked = work.of_graph(reading.graph)
    write_for = begin._writer(begin.FUSERS[device])
    kernel = work.of_kernel(written_anew(reading, 0, write_for))
    return {
        "work": {"launches": asked.launches, "nodes": asked.nodes, "dtype": asked.dtype},
        "kernel": kernel.__dict__,
    }


def seconds_of(backend, function, inputs, names, device, form):
    import torch

    from fastpoly._loops import begin

    def waited():
        if device == "cuda":
            torch.cuda.synchronize()
        return now()

    started = waited()
    loop = begin(backend)(function, inputs, names, 0)
    begun = waited() - started
    if form == "warm":
        started = waited()
        begin(backend)(function, inputs, names, 0)
        return {"begin": begun, "again": waited() - started}
    started = waited()
    loop.advance(1, 1, 0)
    first = waited() - started
    count, seconds, rounds = 1, 0.0, []
    while not rounds or seconds < STEP_SECONDS:
        started = waited()
        loop.advance(count, 1, 0)
        took = waited() - started
        if took > SHORTEST or count >= 2**14:
            rounds.append(took / count)
        seconds += took
        if took < 0.05 and count < 2**18:
            count *= 4
    return {"begin": begun, "first": first, "step": min(rounds), "median": statistics.median(rounds)}


# -- the file


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def write(file, row):
    with file.open("a") as to:
        to.write(json.dumps(row) + "\n")


def run(options):
    until = time.monotonic() + 60 * options.minutes
    for cell in cells():
        if options.only not in name_of(cell):
            continue
        with tempfile.TemporaryDirectory() as caches:
            places = ("FASTPOLY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
            alone = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"} if options.shared else {}
            environment = {**os.environ, **alone, **{place: f"{caches}/{place}" for place in places}}
            there = {(row["form"], row["backend"]) for row in read(options.rows) if row["cell"] == list(cell)}
            wanted = options.backends.split(",") if options.backends else list(BACKENDS[options.device])
            if ("warm", wanted[-1]) in there:
                continue
            for form in ("cold", "warm"):
                left = until - time.monotonic()
                if left < 10:
                    print("no time left")
                    return
                command = [sys.executable, __file__, "--cell", json.dumps([cell, form]), "--device", options.device]
                try:
                    command += ["--backends", ",".join(wanted), "--rows", str(options.rows)]
                    command += ["--shared"] if options.shared else []
                    subprocess.run(command, check=False, env=environment, timeout=min(left, 400))
                except subprocess.TimeoutExpired:
                    write(options.rows, {"cell": cell, "form": form, "backend": "timeout"})
            print(f"{name_of(cell)}: {until - time.monotonic():.0f} s left", flush=True)


# -- what auto would have taken
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Of a cell, a form and a number of steps: what was taken, what it takes, and the same of the best."""

    cell: tuple
    form: str
    steps: int
    taken: str
    seconds: float
    best: str
    least: float

    @property
    def is_allowed(self):
        return self.seconds <= max(ALLOWED * self.least, self.least + EXCESS)


def verdicts(rows, machine):
    """For each cell of which all was measured; a function of the rows alone."""
    by_cell = {}
    for row in rows:
        by_cell.setdefault(tuple(row["cell"]), {})[row["form"], row["backend"]] = row
    for cell, found in by_cell.items():
        if ("cold", "features") not in found or ("cold", "eager") not in found:
            continue
        for form in ("cold", "warm"):
            for steps in STEPS:
                yield verdict(cell, form, steps, found, machine)


def verdict(cell, form, steps, found, machine):
    from fastpoly._choice import costs, work
    from fastpoly._choice.decision import TRIAL_STEPS, choose
    from fastpoly._fuse.launches import Launch

    told = found["cold", "features"]
    launches = tuple((Launch(*launch), count) for launch, count in told["work"]["launches"])
    asked = work.Work(launches, told["work"]["nodes"], told["work"]["dtype"])
    kernel = work.Kernel(**{**told["kernel"], "nests": tuple(map(tuple, told["kernel"]["nests"]))})
    fuser = "triton" if machine.graph else "fused"
    measured = {name: found["cold", name]["step"] for _, name in found if "step" in found.get(("cold", name), {})}
    begin = {name: found["cold", name]["begin"] for name in measured}
    state = costs.State()
    if form == "warm":
        begin = {name: found.get(("warm", name), found["cold", name])["begin"] for name in measured}
        state = costs.State("disk", known=frozenset({fuser, "compile"}))
    modelled = {
        "eager": costs.eager(asked, machine),
        "cudagraph": costs.captured(asked, machine, state),
        "compile": costs.compiled(asked, machine, state),
        fuser: costs.fused(kernel, asked, machine, state),
    }
    spent = []

    def measure(name):
        spent.append(TRIAL_STEPS * measured[name] + (0.0 if name == "eager" else begin[name]))
        return measured[name]

    chosen = choose({name: modelled[name] for name in modelled if name in measured}, steps, measure=measure)
    total = {name: begin[name] + steps * measured[name] for name in measured}
    seconds = sum(spent) + total[chosen.backend]
    if chosen.backend in chosen.timed and chosen.backend != "eager":
        seconds -= begin[chosen.backend]  # it had begun for its trial
    best = min(total, key=total.__getitem__)
    return Verdict(cell, form, steps, chosen.backend, seconds, best, total[best])


def print_table(rows, machine):
    every = list(verdicts(rows, machine))
    wrong = [one for one in every if not one.is_allowed]
    print(f"{len(every)} of cells, forms and steps, {len(every) - len(wrong)} within {ALLOWED} times or {EXCESS} s\n")
    print("| cell | form | steps | taken | s | best | s | times |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in wrong:
        print(
            f"| {name_of(one.cell)} | {one.form} | {one.steps:,} | {one.taken} | {one.seconds:.3g} | {one.best} "
            f"| {one.least:.3g} | {one.seconds / one.least:.2f} |"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=Path, default=Path("auto-grid.jsonl"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--only", default="")
    parser.add_argument("--backends", default="", help="of these alone; the last one is what a cell is known by")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--cell")
    options = parser.parse_args()
    if options.table:
        from fastpoly._choice import machines

        machine = machines.H200 if options.device == "cuda" else machines.AVX2
        print_table(read(options.rows), replace(machine, threads=1) if options.shared else machine)
        return
    if options.cell:
        if options.shared:
            use_one_core()
        cell, form = json.loads(options.cell)
        measure(tuple(cell), form, options.device, options.backends.split(","), options.rows)
    else:
        run(options)


if __name__ == "__main__":
    main()
