"""The post's problem by others: JAX, C, what torch itself has for it, and least squares, beside the loops of ours.

A peer's answer is right if its weights are where a run of its precision must end, and every mse is the double loop's.
"""

import numpy as np
import peers
import pytest
from raw_runs import fit

from fastpoly._post import REFERENCES, STEPS

PRECISIONS = ("double", "single")
pytestmark = pytest.mark.benchmark(group="peers")


@pytest.fixture
def measured(timing, post):
    """measured(run, precision, steps_run, **row): assert what `run` returns, weights and mse, and time it."""

    def measure(run, precision, steps_run=STEPS, **row):
        weights, mse = run()
        by_hand = fit(*post, steps=steps_run, backend="numba", precision=precision)
        expected = REFERENCES[precision].weights if steps_run == STEPS else by_hand.weights
        off = float(np.abs(np.ravel(weights) - expected).max())
        assert off <= REFERENCES[precision].tolerance
        # the same steps with sums in another order; in float32 thousands of roundings differ
        rel = {"double": 1e-9, "single": 1e-4}[precision]
        np.testing.assert_allclose(mse, by_hand.mse[-len(mse) :], rtol=rel)  # approx takes 5 s for so many
        timing(run, precision=precision, steps_run=steps_run, deviation=off, deviation_of="weights", **row)

    return measure


def fitted(post, backend, precision):
    def run():
        result = fit(*post, backend=backend, precision=precision)
        return result.weights, result.mse

    return run


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backend", ["numba", "fused-autograd"])
def test_ours(measured, post, backend, precision):
    measured(fitted(post, backend, precision), precision, name=backend, backend=backend)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_c(measured, not_measured, post, precision):
    name = "C, gradient by hand"
    try:
        run = peers.c(*post, precision, STEPS)
    except peers.Missing as missing:
        not_measured(f"{name}, {precision}", str(missing))
    measured(run, precision, name=name, backend="C")


@pytest.mark.what("JAX, unroll {unroll}, {precision}")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("unroll", [1, 8, pytest.param(32, marks=pytest.mark.slow)])
def test_jax(benchmark, measured, jax_zoo, unroll, precision):
    if not benchmark.enabled and unroll > 1:
        pytest.skip("it compiles for seconds, to the same answer")
    run = jax_zoo.descent("polynomial", precision, STEPS, unroll)
    name = f"JAX, unroll {unroll}"
    measured(run, precision, name=name, backend=name)


@pytest.mark.parametrize("loop", ["scan", "while_loop"])
@pytest.mark.slow
def test_loops_of_torch(benchmark, measured, not_measured, post, loop):
    pytest.importorskip("torch")
    name = {"scan": "torch scan, compiled", "while_loop": "torch while_loop, compiled, last mse only"}[loop]
    steps = STEPS // 20 if benchmark.enabled else 10
    try:
        run = getattr(peers, f"torch_{loop}")(*post, "single", steps)
    except peers.Missing as missing:
        not_measured(f"{name}, single", str(missing))
    measured(run, "single", steps, name=name, backend=f"torch {loop}")


def test_least_squares(timing, post):
    run = peers.least_squares(*post)
    x, y = post
    powers = x[:, None] ** np.arange(5)
    assert powers.T @ (y - powers @ run()) == pytest.approx(np.zeros(5), abs=1e-9)  # the minimum's own equations
    timing(
        run,
        name="numpy.polynomial, least squares",
        backend="numpy.polynomial",
        different_method=True,
        rounds=200,
        deviation=float(np.abs(run() - REFERENCES["double"].weights).max()),
        deviation_of="weights",
    )
