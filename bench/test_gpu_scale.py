"""From how many samples on is a GPU faster? The post: "as the size of the data set and the number of parameters
increase, the advantage of the GPU will become apparent".

200,000 steps, the samples where the backend wants them; a loop that would take too long runs fewer, and what a run of
one step takes is subtracted before the rest is scaled. The CPU's rows are of the machine that has the GPU.
"""

import time
from functools import lru_cache

import numpy as np
import pytest
import torch

from fastpoly import fit
from fastpoly._post import REFERENCES, STEPS

pytestmark = [pytest.mark.gpu, pytest.mark.benchmark(group="scale")]

STEP_SECONDS = {
    "numba": (5e-8, 3e-10),
    "torch-autograd": (2e-4, 1e-7),
    "torch-autograd-gpu": (1e-3, 1e-10),
    "cudagraph": (5e-5, 1e-10),
    "fused-autograd-gpu": (1e-7, 1e-9),
    "triton": (1e-7, 1e-9),
}
"""Of a loop, about: of a step, and of each sample in it. They only set how many steps are run."""

LARGEST = {"numba": 7, "torch-autograd": 6, "fused-autograd-gpu": 7, "triton": 7}
"""The power of ten up to which each is measured, if not 10^8: beyond, its steps take milliseconds."""

ON_CPU = ("gram", "numba", "torch-autograd")
ON_GPU = ("gram, on the GPU", "torch-autograd-gpu", "cudagraph", "fused-autograd-gpu", "triton")


@lru_cache(maxsize=1)
def samples(n):
    x = np.linspace(0, 5, n)
    return x, np.sin(x)


@lru_cache(maxsize=1)
def samples_on_gpu(n):
    return tuple(torch.from_numpy(values).cuda() for values in samples(n))


@pytest.mark.what("{backend}, {n:,} samples")
@pytest.mark.parametrize(
    ("n", "backend"), [(10**p, name) for p in range(2, 9) for name in (*ON_CPU, *ON_GPU) if p <= LARGEST.get(name, 8)]
)
def test_n(benchmark, timing, n, backend):
    on_gpu, precision, steps = backend in ON_GPU, "double", STEPS
    if backend in STEP_SECONDS:
        each, sample = STEP_SECONDS[backend]
        steps = min(STEPS, max(3, int((0.3 if benchmark.enabled else 0.003) / (each + sample * n))))
    x, y = samples_on_gpu(n) if on_gpu else samples(n)

    def run(steps=steps):
        result = fit(x, y, steps=steps, backend=backend.partition(",")[0], precision=precision)
        if on_gpu:
            torch.cuda.synchronize()
        return result.weights

    weights = np.asarray(torch.as_tensor(run()).cpu())
    expected = fit(*samples(n), steps=steps, backend="gram", precision=precision, trace_every=None).weights
    off = float(np.abs(weights - expected).max())
    assert off <= REFERENCES[precision].tolerance
    fixed = 0.0
    if steps < STEPS and benchmark.enabled:
        run(1)
        started = time.perf_counter()
        run(1)
        fixed = time.perf_counter() - started
    timing(
        run,
        name=f"{backend}, n {n:,}",
        backend=backend,
        precision=precision,
        n=n,
        steps_run=steps,
        fixed=fixed,
        rounds=5,
        budget=0.5,
        axis="n",
        deviation=off,
        deviation_of="weights",
    )
