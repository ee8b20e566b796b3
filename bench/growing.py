"""How a run that grows with a size is measured: `grown`, a fixture of every file here.

A loop that would take too long runs fewer steps: what a run of one step takes is subtracted before the rest is scaled.
"""

import time
import tracemalloc
from functools import lru_cache

import numpy as np
import pytest

from fastpoly._post import REFERENCES

PRECISION = {"numpy": "mixed"}
"""As the post has it; the others run in double."""

STEP_SECONDS = {
    "numba": (5e-8, 5e-10),
    "fused-autograd": (5e-8, 5e-10),
    "JAX": (1e-6, 5e-9),
    "numpy": (4e-5, 2e-7),
    "torch-autograd": (2e-4, 1e-7),
}
"""Of a loop, about: of a step, and of each sample in it. They only set how many steps are run."""

IN_NUMPY = ("gram", "spectral", "numba", "numpy")
"""Their temporary memory is numpy's, which tracemalloc sees."""


@lru_cache(maxsize=1)
def samples(n):
    x = np.linspace(0, 5, n)
    return x, np.sin(x)


@pytest.fixture
def grown(benchmark, timing, quick):
    """grown(run, expected, axis, backend, steps=, n=, ...): run(steps) asserted to be right, timed and scaled.

    `run` returns the weights, and `expected(steps)` those of another method.
    """

    def measure(run, expected, axis, backend, *, steps, n=100, degree=4, batch=1, exactly=False, method=None):
        precision = PRECISION.get(backend, "double")
        steps_run = steps if exactly else steps_to_run(method or backend, steps, n, batch, benchmark, quick)
        memory = {}
        if (method or backend) in IN_NUMPY and benchmark.enabled:
            tracemalloc.start()
            weights = run(steps_run)
            memory["memory_mib"] = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
        else:
            weights = run(steps_run)
        off = float(np.abs(weights - expected(steps_run)).max())
        assert off <= REFERENCES[precision].tolerance
        fixed = seconds_of_one_step(run) if steps_run < steps and benchmark.enabled else 0.0
        size = {"n": n, "degree": degree, "batch": batch, "steps": steps}[axis]
        timing(
            lambda: run(steps_run),
            name=f"{backend}, {axis} {size:,}",
            backend=backend,
            precision=precision,
            n=n,
            degree=degree,
            batch=batch,
            steps=steps,
            steps_run=steps_run,
            fixed=fixed,
            rounds=5,
            budget=0.5,
            axis=axis,
            deviation=off,
            deviation_of="weights",
            **memory,
        )

    return measure


def seconds_of_one_step(run):
    run(1)  # JAX compiles for each number of steps
    started = time.perf_counter()
    run(1)
    return time.perf_counter() - started


def steps_to_run(backend, steps, n, batch, benchmark, quick):
    if backend not in STEP_SECONDS:
        return steps
    seconds = 0.05 if quick else 0.1
    each, sample = STEP_SECONDS[backend]
    return min(steps, max(3, int((seconds if benchmark.enabled else 0.001) / (each + sample * n) / batch)))
