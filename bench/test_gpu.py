"""The loop in one Triton kernel on a GPU: against a limit, JAX's loop on the same GPU, and in batches two cores."""

import os
import statistics
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fastpoly import fit, fit_many
from fastpoly._post import LEARN_RATE, STEPS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.benchmark(group="bars"),
]

BOUNDS = {"single": 5e-6, "double": 1e-9}
"""Of the weights' difference from the numba loop's, after STEPS steps."""


def by(backend, post, precision, steps=STEPS):
    return lambda: fit(*post, steps=steps, backend=backend, precision=precision)


def by_triton(post, precision, steps=STEPS):
    """The fit as a function of nothing, its answer found right."""
    run = by("triton", post, precision, steps)
    weights, expected = run().weights, by("numba", post, precision, steps)().weights
    assert weights == pytest.approx(expected, abs=BOUNDS[precision])
    return run


@pytest.mark.what("triton single, 200,000 steps: at most 25 ms")
def test_the_posts_problem_within_25_ms(benchmark, limits, post):
    run = by_triton(post, "single")
    seconds = []

    def timed():
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)

    benchmark.pedantic(timed, rounds=21)
    limits("triton single, 200,000 steps", 1e3 * statistics.median(seconds), 25, "ms", source="issue 5")


@pytest.mark.what("JAX on the GPU, best unroll / triton, {precision}: at least 30")
@pytest.mark.parametrize("precision", list(BOUNDS))
def test_jax_on_the_gpu_against_triton(monkeypatch, benchmark, versus, not_measured, post, request, precision):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory, torch's too
    jax_zoo = request.getfixturevalue("jax_zoo")
    if jax_zoo.jax.default_backend() != "gpu":
        not_measured(f"JAX on the GPU, {precision}", "this JAX has no CUDA; pip install 'jax[cuda12]'")
    steps = STEPS // 20 if benchmark.enabled else 100  # a step launches kernels: tens of us
    unroll, by_jax = jax_zoo.best("polynomial", precision, steps, (1, 8) if benchmark.enabled else (1,))
    expected = by_triton(post, precision, steps)()
    weights, trace = by_jax()
    assert np.ravel(weights) == pytest.approx(expected.weights, abs=BOUNDS[precision])
    np.testing.assert_allclose(np.asarray(trace), expected.mse, rtol=1e-4)
    versus(
        (f"JAX on the GPU, unroll {unroll}, {precision} (from {steps:,} steps)", by_jax),
        (f"triton {precision}", by_triton(post, precision)),
        rounds=5,
        times=(STEPS / steps, 1),
        at_least=30,
        source="issue 5",
    )


@pytest.mark.what("fused-autograd-gpu / triton, {precision}: at most 1.2")
@pytest.mark.parametrize("precision", list(BOUNDS))
def test_the_traced_kernel_against_the_one_by_hand(versus, post, precision):
    by_hand, traced = by_triton(post, precision), by("fused-autograd-gpu", post, precision)
    assert traced().weights == pytest.approx(by_hand().weights, abs=BOUNDS[precision])
    versus(
        (f"fused-autograd-gpu {precision}", traced),
        (f"triton {precision}", by_hand),
        rounds=21,
        at_most=1.2,
        source="issue 5",
    )


@contextmanager
def two_cores():
    """The threads that start meanwhile share two cores, as they would on a machine that has no more."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.what("10,000 problems, numba on two cores / triton, {precision}: at least 50")
@pytest.mark.parametrize("precision", list(BOUNDS))
def test_ten_thousand_problems(benchmark, versus, precision):
    """Of 100 samples, 20,000 steps each. numba is timed on a twentieth of them, and checks the weights of all."""
    batch, steps = (10_000, 20_000) if benchmark.enabled else (200, 100)
    rng = np.random.default_rng(0)
    x = np.linspace(0, 5, 100)
    y = rng.uniform(0.5, 2, (batch, 1)) * np.sin(rng.uniform(0.5, 1.5, (batch, 1)) * x)

    def run(backend, y):
        return fit_many(x, y, steps=steps, learn_rate=LEARN_RATE, backend=backend, precision=precision)

    def by_numba():
        with two_cores():
            return run("numba", y[: batch // 20])

    np.testing.assert_allclose(run("triton", y).weights, run("numba", y).weights, rtol=0, atol=2 * BOUNDS[precision])
    versus(
        (f"{batch:,} problems, numba on two cores, {precision} (from {batch // 20:,})", by_numba),
        ("triton", lambda: run("triton", y)),
        rounds=5,
        times=(20, 1),
        at_least=50,
        source="issue 5",
    )
