"""From how many samples on is a GPU faster? The post: "as the size of the data set and the number of parameters
increase, the advantage of the GPU will become apparent".

The samples lie where the backend wants them. The CPU's rows are of the machine that has the GPU.
"""

from functools import lru_cache

import pytest
import torch
from growing import samples

from fastpoly import fit
from fastpoly._post import STEPS

pytestmark = [pytest.mark.gpu, pytest.mark.benchmark(group="scale")]

ON_CPU = ("gram", "numba", "torch-autograd")
ON_GPU = ("gram, on the GPU", "torch-autograd-gpu", "cudagraph", "fused-autograd-gpu", "triton")
LARGEST = {"numba": 7, "torch-autograd": 6, "fused-autograd-gpu": 7, "triton": 7}
"""The power of ten up to which each is measured, if not 10^8: beyond, its steps take milliseconds."""


@lru_cache(maxsize=1)
def samples_on_gpu(n):
    return tuple(torch.from_numpy(values).cuda() for values in samples(n))


@pytest.mark.what("{backend}, {n:,} samples")
@pytest.mark.parametrize(
    ("n", "backend"), [(10**p, name) for p in range(2, 9) for name in (*ON_CPU, *ON_GPU) if p <= LARGEST.get(name, 8)]
)
def test_n(grown, n, backend):
    x, y = samples_on_gpu(n) if backend in ON_GPU else samples(n)

    def run(steps):
        weights = fit(x, y, steps=steps, backend=backend.partition(",")[0], precision="double").weights
        return torch.as_tensor(weights).cpu().numpy()  # which waits for the GPU

    def expected(steps):
        return fit(*samples(n), steps=steps, backend="spectral" if backend == "gram" else "gram").weights

    grown(run, expected, "n", backend, steps=STEPS, n=n)
