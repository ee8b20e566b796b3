"""What does autograd cost, once traced and fused: against the gradient by hand, the eager loop, and JAX?

The post measured 8 times the gradient by hand, in 2017. JAX, the peer, compiles the whole loop, too; it is given its
data as constants and the better unroll of two. Models and their eager loop are those of tests/zoo.py.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo

from fastpoly import descend, fit, reference
from fastpoly._post import LEARN_RATE, REFERENCES, STEPS

PRECISIONS = {"double": (np.float64, torch.float64), "single": (np.float32, torch.float32)}

# -- the post's problem
# ----------------------------------------------------------------------------------------


def fused(x, y, precision):
    """The fit as a function of nothing, its answer found right."""
    x, y = (samples.astype(PRECISIONS[precision][0]) for samples in (x, y))
    expected = REFERENCES[precision]
    result = fit(x, y, backend="fused-autograd", precision=precision)
    assert result.weights == pytest.approx(expected.weights, abs=expected.tolerance)
    return lambda: fit(x, y, backend="fused-autograd", precision=precision)


@pytest.mark.benchmark(group="autograd")
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_fused_autograd_against_the_gradient_by_hand(versus, post, precision):
    by_autograd = fused(*post, precision)
    x, y = (samples.astype(PRECISIONS[precision][0]) for samples in post)

    def by_hand():
        return fit(x, y, backend="numba", precision=precision)

    assert by_autograd().mse == pytest.approx(by_hand().mse, rel=1e-4)
    versus((f"fused-autograd {precision}", by_autograd), (f"numba {precision}", by_hand), rounds=31, at_most=1.10)


@pytest.mark.benchmark(group="autograd")
def test_eager_autograd_against_fused(versus, post):
    by_autograd = fused(*post, "single")
    columns = [samples.reshape(-1, 1) for samples in post]
    steps = STEPS // 100

    def eager():
        return reference.train(*columns, nSteps=steps, use_autograd=True)

    assert eager()["mseTrace"].numpy() == pytest.approx(by_autograd().mse[:steps], rel=1e-5)
    versus(
        (f"torch eager autograd (from {steps:,} steps)", eager),
        ("fused-autograd single", by_autograd),
        rounds=5,
        inner=(1, 10),
        times=(STEPS / steps, 1),
        at_least=2500,
    )


# -- against JAX
# ----------------------------------------------------------------------------------------


@pytest.fixture
def jax_descent(benchmark):
    """jax_descent(model, steps): lax.scan on a zoo model, at the better unroll of 1 and 8, as (name, function)."""
    pytest.importorskip("jax")
    import jax_zoo

    def seconds(run):
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    def fastest(model, steps):
        dtype = jax_zoo.arrays(model.data)[0].dtype
        problem = jax_zoo.jax_loss(model.name), model.params, model.data, model.learn_rate, steps, dtype
        runs = {unroll: jax_zoo.scan(*problem, unroll) for unroll in ((1,) if benchmark.disabled else (1, 8))}
        for run in runs.values():
            run()  # warm
        best = min(runs, key=lambda unroll: min(seconds(runs[unroll]) for _ in range(3)))
        return f"JAX, unroll {best}", runs[best]

    return fastest


@pytest.mark.parametrize("name", zoo.NAMES)
def test_jax_computes_what_torch_does(name):
    """The same loss, the same gradient, and the same 100 steps, or the comparison means nothing."""
    jax = pytest.importorskip("jax")
    import jax_zoo

    model = zoo.model(name, torch.float64)
    loss, params, data = jax_zoo.jax_loss(name), jax_zoo.arrays(model.params), jax_zoo.arrays(model.data)
    value, gradient = jax.value_and_grad(loss)(jax.tree.map(jax.numpy.asarray, params), *data)
    expected_gradient, expected = torch.func.grad_and_value(model.loss)(model.params, *model.data)
    run = jax_zoo.scan(loss, model.params, model.data, model.learn_rate, 100, np.float64)
    descended, losses = run()
    expected_params, expected_losses = zoo.eager(model, 100)
    assert float(value) == pytest.approx(expected.item(), rel=1e-12)
    assert np.asarray(losses) == pytest.approx(expected_losses.numpy(), rel=1e-12)
    for tree, torch_tree in ((gradient, expected_gradient), (descended, expected_params)):
        leaves = jax.tree.leaves(jax.tree.map(lambda a, b: (np.asarray(a), b), tree, jax_zoo.arrays(torch_tree)))
        for ours, theirs in zip(leaves[::2], leaves[1::2], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-12 * np.abs(theirs).max())


@pytest.mark.benchmark(group="autograd against JAX")
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_jax_against_fused_autograd(versus, post, jax_descent, precision):
    by_autograd = fused(*post, precision)
    model = zoo.model("polynomial", PRECISIONS[precision][1])
    assert model.learn_rate == LEARN_RATE
    name, by_jax = jax_descent(model, STEPS)
    weights, losses = by_jax()
    assert np.ravel(weights) == pytest.approx(REFERENCES[precision].weights, abs=REFERENCES[precision].tolerance)
    assert np.asarray(losses) == pytest.approx(by_autograd().mse, rel=1e-4)
    versus((f"{name}, {precision}", by_jax), (f"fused-autograd {precision}", by_autograd), rounds=9, at_least=8)


ZOO_STEPS = {
    "polynomial": 600_000,
    "horner": 600_000,
    "fourier": 60_000,
    "exponential-decay": 600_000,
    "damped-sine": 150_000,
    "gaussian-peak": 600_000,
    "rational": 600_000,
    "logistic": 300_000,
    "softmax": 300_000,
    "huber": 600_000,
    "ridge": 600_000,
    "multi-output": 150_000,
    "linear-64": 600_000,
    "poisson": 600_000,
    "tanh-network": 150_000,
    "gelu-network": 15_000,
    "layer-norm": 60_000,
}
"""So that JAX takes 0.3 to 0.6 seconds: `descend` traces in every call, for 3 to 12 ms, which JAX did beforehand."""

BARS = {
    ("exponential-decay", "single"): 5,
    ("exponential-decay", "double"): 5,
    ("damped-sine", "single"): 5,
    ("damped-sine", "double"): 5,
    ("tanh-network", "single"): 3,
}
"""Of JAX's time to that of `descend`; 2 for the others."""

AGREEMENT = {"double": 1e-9, "single": 1e-3}
"""Of the last losses, relative: thousands of roundings, each in its own order, of which a descent forgets most."""


@pytest.mark.benchmark(group="zoo against JAX")
@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("name", zoo.NAMES)
def test_jax_against_descend(benchmark, versus, jax_descent, name, precision):
    model = zoo.model(name, PRECISIONS[precision][1])
    steps = 50 if benchmark.disabled else ZOO_STEPS[name]

    def by_descend():
        return descend(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=steps, backend="fused")

    peer, by_jax = jax_descent(model, steps)
    losses = by_descend().loss
    assert len(losses) == steps
    assert float(losses[-1]) == pytest.approx(float(by_jax()[1][-1]), rel=AGREEMENT[precision])
    versus(
        (f"{name} {precision}: {peer}", by_jax),
        ("descend", by_descend),
        rounds=5,
        at_least=BARS.get((name, precision), 2),
    )


@pytest.mark.benchmark(group="the README's model")
def test_eager_autograd_against_descend(benchmark, versus):
    """A damped sine, the model of the README's section on losses of one's own."""
    model = zoo.model("damped-sine", torch.float32)
    few, steps = 500, 500 if benchmark.disabled else ZOO_STEPS["damped-sine"]

    def by_descend():
        return descend(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=steps, backend="fused")

    losses = zoo.eager(model, few)[1]
    assert by_descend().loss[:few] == pytest.approx(losses, rel=1e-4)  # single; 8e-6 is measured
    versus(
        (f"damped-sine single: torch eager autograd (from {few:,} steps)", lambda: zoo.eager(model, few)),
        ("descend", by_descend),
        rounds=5,
        times=(steps / few, 1),
        at_least=300,
    )


# -- cold start
# ----------------------------------------------------------------------------------------

FIRST = """
import time, torch, zoo
from fastpoly import descend
model = zoo.model("polynomial", torch.float32)
started = time.perf_counter()
run = descend(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=10, backend="fused")
print(time.perf_counter() - started, float(run.loss[-1]))
"""


def first_descent(cache):
    """Seconds of the first `descend` of a fresh process that has torch and `cache`, a folder."""
    environment = {**os.environ, "FASTPOLY_CACHE_DIR": str(cache), "PYTHONPATH": str(Path(zoo.__file__).parent)}
    run = subprocess.run([sys.executable, "-c", FIRST], check=True, capture_output=True, text=True, env=environment)
    seconds, loss = map(float, run.stdout.split())
    assert loss == pytest.approx(zoo.eager(zoo.model("polynomial", torch.float32), 10)[1][-1].item(), rel=1e-5)
    return seconds


@pytest.mark.benchmark(group="cold start")
@pytest.mark.parametrize(("cache", "milliseconds"), [("empty", 1500), ("filled", 300)])
def test_the_first_descent_of_a_process(benchmark, limits, tmp_path, cache, milliseconds):
    rounds = 1 if benchmark.disabled else 5
    folders = [tmp_path / (str(i) if cache == "empty" else "") for i in range(rounds)]
    if cache == "filled":
        first_descent(tmp_path)
    seconds = statistics.median(first_descent(folder) for folder in folders)
    limits(f"first descend of a process, {cache} cache:", 1e3 * seconds, milliseconds, "ms")
    benchmark.pedantic(lambda: None)
