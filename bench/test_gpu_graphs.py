"""What do CUDA graphs save of the post's GPU loops, and how long does a closed form take on a GPU?"""

import statistics
import time

import numpy as np
import pytest
import torch

import fastpoly
from fastpoly import fit, reference
from fastpoly._post import PUBLISHED_SECONDS, REFERENCES, STEPS

pytestmark = pytest.mark.gpu

PUBLISHED = {"torch-gpu", "torch-autograd-gpu"}
ON_GPU = (*sorted(PUBLISHED), "cudagraph", "compile-gpu", "fused-autograd-gpu", "triton")
FEW = STEPS // 100
"""Steps of a published loop: some 0.3 s."""


def tensors(post):
    return tuple(torch.tensor(values, device="cuda") for values in post)


def fitted(post, backend, precision, steps=STEPS):
    """The fit of samples on the GPU, waited for, as a function of nothing; and how far its weights are off."""
    x, y = tensors(post)

    def run():
        result = fit(x, y, steps=steps, backend=backend, precision=precision)
        torch.cuda.synchronize()
        return result

    expected = REFERENCES[precision]
    if steps == STEPS:
        weights = np.array(expected.weights)
    else:
        weights = fit(*post, steps=steps, backend="numba", precision=precision, trace_every=None).weights
    off = float(np.abs(run().weights.cpu().numpy() - weights).max())
    assert off <= expected.tolerance
    return run, off


@pytest.mark.what("{name} {precision}")
@pytest.mark.benchmark(group="post")
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", ON_GPU)
def test_backend_on_the_gpu(timing, not_measured, post, name, precision):
    backend = next((backend for backend in fastpoly.backends() if backend.name == name), None)
    if backend is None or not backend.available or precision not in backend.precisions:
        reason = (
            "there is no such backend" if backend is None else backend.unavailable or f"it does not run in {precision}"
        )
        not_measured(f"{name} {precision}", reason)
    steps = FEW if name in PUBLISHED else STEPS
    run, off = fitted(post, name, precision, steps)
    timing(
        run,
        name=f"{name}, samples on the GPU",
        backend=name,
        precision=precision,
        steps_run=steps,
        deviation=off,
        deviation_of="weights",
        published=PUBLISHED_SECONDS.get(name) if precision == "single" else None,
    )


@pytest.mark.what("{backend} double, samples on the GPU")
@pytest.mark.benchmark(group="post")
@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_closed_form_on_the_gpu(timing, post, backend):
    run, off = fitted(post, backend, "double")
    timing(
        run,
        name=f"{backend}, samples on the GPU",
        backend=backend,
        precision="double",
        deviation=off,
        deviation_of="weights",
    )


@pytest.mark.what("torch-autograd-gpu / {backend}, single: at least {bar}")
@pytest.mark.benchmark(group="bars")
@pytest.mark.parametrize(("backend", "bar"), [("cudagraph", 5), ("compile-gpu", 15)])
def test_the_published_loop_against_graphs(versus, post, backend, bar):
    """The loop as the post has it, tensors on the GPU, autograd in every step; the answer of both is looked at."""
    run, _ = fitted(post, backend, "single")
    columns = [values.reshape(-1, 1) for values in post]

    def published():
        result = reference.train(*columns, nSteps=FEW, use_autograd=True, use_gpu=True)
        torch.cuda.synchronize()
        return result

    trace = run().mse[:FEW]
    torch.testing.assert_close(published()["mseTrace"], trace, rtol=1e-4, atol=0)
    versus(
        (f"torch-autograd-gpu (from {FEW:,} steps)", published),
        (f"{backend} single", run),
        rounds=5,
        times=(STEPS / FEW, 1),
        at_least=bar,
        source="issue 5",
    )


@pytest.mark.what("spectral on the GPU: at most 1 ms")
@pytest.mark.benchmark(group="bars")
def test_spectral_on_the_gpu(benchmark, limits, post):
    run, _ = fitted(post, "spectral", "double")
    seconds = []
    for _ in range(31 if benchmark.enabled else 1):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    limits(
        "spectral on the GPU, all weights and 200,000 mse", 1e3 * statistics.median(seconds), 1, "ms", source="issue 5"
    )
    benchmark.pedantic(run)
