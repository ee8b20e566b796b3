"""From how many samples on is a GPU faster? The post: "as the size of the data set and the number of parameters
increase, the advantage of the GPU will become apparent". The CPU's rows are of the machine that has the GPU.

A loop that would take too long runs fewer steps, and what a run of one step takes is subtracted before it is scaled.
"""

import time

import numpy as np
from raw_runs import fit

from fastpoly._post import STEPS as ALL

from . import card
from .measure import off, on_gpu, taken, timing

SIZES = card.full((10**2, 10**3, 10**4, 10**5, 10**6, 10**7), (10**2,))
BACKENDS = {"gram": "double", "numba": "double", "gram, on the GPU": "double", "cudagraph": "double"}
BACKENDS |= {"fused-autograd-gpu": "double", "triton": "double"}
LOOPS = ("numba", "cudagraph", "fused-autograd-gpu", "triton")
SECONDS = 0.1
STEP_SECONDS = {"numba": (5e-8, 5e-10), "cudagraph": (5e-5, 1e-10), "fused-autograd-gpu": (1e-6, 1e-9)}
STEP_SECONDS |= {"triton": (2e-7, 1e-10)}
"""Of a step, and of each sample in it, about: they only say how many steps are run."""


def units():
    return {
        f"{b}, {n:,} samples": lambda b=b, n=n: of(b, n)
        for n in SIZES
        for b in card.full(tuple(BACKENDS), ("gram", "triton"))
    }


def of(backend, n):
    x = np.linspace(0, 5, n)
    x, y = data = (x, np.sin(x))
    if backend in ("numba", "gram"):
        x, y = data
    else:
        x, y = on_gpu(data)
    each, sample = STEP_SECONDS.get(backend, (0, 0))
    few = card.full(min(ALL, max(3, int(SECONDS / (each + sample * n)))), 2) if backend in LOOPS else ALL

    def run(steps=few):
        found = fit(x, y, steps=steps, backend=backend.partition(",")[0], precision="double", trace_every=None)
        return np.asarray(found.weights.cpu() if hasattr(found.weights, "cpu") else found.weights)

    want = fit(*data, steps=few, backend="spectral" if "gram" in backend else "gram", trace_every=None).weights
    found = off(run(), want, 1e-9)
    fixed = 0.0
    if few < ALL:
        run(1)
        started = time.perf_counter()
        run(1)
        fixed = time.perf_counter() - started
    seconds = [fixed + max(s - fixed, 1e-9) * ALL / few for s in taken(run, 3, 0.5)]
    who = {"name": f"{backend}, n {n:,}", "backend": backend, "precision": "double", "axis": "n", "n": n}
    yield timing(seconds, group="scale", deviation=found, deviation_of="weights", **who)
