"""What does autograd cost, once traced and fused: against the gradient by hand, the eager loop, and JAX?

The post measured 8 times the gradient by hand, in 2017. JAX, the peer, compiles the whole loop, too; it is given its
data as constants and the better unroll of two. Models and their eager loop are those of tests/zoo.py.
"""

import statistics
from pathlib import Path

import losses
import numpy as np
import processes
import pytest
import torch
import zoo
from raw_runs import fit

from fastpoly import reference
from fastpoly._post import REFERENCES, STEPS

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


@pytest.mark.benchmark(group="bars")
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_fused_autograd_against_the_gradient_by_hand(versus, post, precision):
    by_autograd = fused(*post, precision)
    x, y = (samples.astype(PRECISIONS[precision][0]) for samples in post)

    def by_hand():
        return fit(x, y, backend="numba", precision=precision)

    np.testing.assert_allclose(by_autograd().mse, by_hand().mse, rtol=1e-4)
    versus((f"fused-autograd {precision}", by_autograd), (f"numba {precision}", by_hand), rounds=31, at_most=1.10)


@pytest.mark.benchmark(group="bars")
def test_eager_autograd_against_fused(benchmark, versus, post):
    by_autograd = fused(*post, "single")
    columns = [samples.reshape(-1, 1) for samples in post]
    steps = STEPS // 100 if benchmark.enabled else 100

    def eager():
        return reference.train(*columns, nSteps=steps, use_autograd=True)

    np.testing.assert_allclose(eager()["mseTrace"].numpy(), by_autograd().mse[:steps], rtol=1e-5)
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


FEW = ("polynomial", "damped-sine", "logistic", "linear-64")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in losses.MODELS]
)
def test_jax_computes_what_torch_does(request, jax_zoo, name):
    """The same loss, the same gradient, and the same 100 steps, or the comparison means nothing."""
    if not request.config.getoption("benchmark_disable"):
        pytest.skip("an answer, for make test; it compiles for a minute")
    import jax

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


@pytest.mark.benchmark(group="bars")
@pytest.mark.what("JAX, best unroll / fused-autograd, {precision}: at least 8")
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_jax_against_fused_autograd(benchmark, versus, post, jax_zoo, quick, precision):
    by_autograd = fused(*post, precision)
    unrolls = (1,) if benchmark.disabled else (1, 8) if quick else (1, 8, 32)
    unroll, by_jax = jax_zoo.best("polynomial", precision, STEPS, unrolls)
    weights, trace = by_jax()
    assert np.ravel(weights) == pytest.approx(REFERENCES[precision].weights, abs=REFERENCES[precision].tolerance)
    np.testing.assert_allclose(trace, by_autograd().mse, rtol=1e-4)
    versus(
        (f"JAX, best unroll ({unroll}), {precision}", by_jax),
        (f"fused-autograd {precision}", by_autograd),
        at_least=8,
    )


BARS = {
    ("exponential-decay", "single"): 5,
    ("exponential-decay", "double"): 5,
    ("damped-sine", "single"): 5,
    ("damped-sine", "double"): 5,
    ("tanh-network", "single"): 3,
}
"""Of JAX's time to that of `descend`; 2 for the others."""


@pytest.mark.benchmark(group="bars")
@pytest.mark.what("{name} {precision}: JAX / descend")
@pytest.mark.parametrize("precision", losses.IN_EACH)
@pytest.mark.parametrize("name", losses.MODELS)
def test_jax_against_descend(benchmark, versus, jax_zoo, name, precision):
    steps = losses.STEPS[name] if benchmark.enabled else 50
    unroll, by_jax = jax_zoo.best(name, precision, steps, (1, 8) if benchmark.enabled else (1,))
    by_descend = losses.by_descend(name, precision, steps)
    trace = by_descend().loss
    assert len(trace) == steps
    assert float(trace[-1]) == pytest.approx(float(by_jax()[1][-1]), rel=losses.AGREEMENT[precision])
    versus(
        (f"{name} {precision}: JAX, unroll {unroll}", by_jax),
        ("descend", by_descend),
        rounds=5,
        at_least=BARS.get((name, precision), 2),
        source="docs/bars.md: features",
    )


@pytest.mark.benchmark(group="bars")
def test_eager_autograd_against_descend(benchmark, versus):
    """A damped sine, the model of README.md and docs/losses.md."""
    model = zoo.model("damped-sine", torch.float32)
    few, steps = 500, losses.STEPS["damped-sine"] if benchmark.enabled else 500
    by_descend = losses.by_descend("damped-sine", "single", steps)
    # single; 8e-6 is measured
    assert by_descend().loss[:few] == pytest.approx(zoo.eager(model, few)[1], rel=1e-4)
    versus(
        (f"damped-sine single: torch eager autograd (from {few:,} steps)", lambda: zoo.eager(model, few)),
        ("descend", by_descend),
        rounds=5,
        times=(steps / few, 1),
        at_least=300,
        source="README",
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
    told = processes.output_of(FIRST, FASTPOLY_CACHE_DIR=str(cache), PYTHONPATH=str(Path(zoo.__file__).parent))
    seconds, loss = map(float, told.split())
    assert loss == pytest.approx(zoo.eager(zoo.model("polynomial", torch.float32), 10)[1][-1].item(), rel=1e-5)
    return seconds


@pytest.mark.benchmark(group="bars")
@pytest.mark.parametrize(
    ("cache", "milliseconds"), [pytest.param("empty", 1500, marks=pytest.mark.slow), ("filled", 300)]
)
def test_the_first_descent_of_a_process(benchmark, limits, quick, tmp_path, cache, milliseconds):
    rounds = 1 if benchmark.disabled or quick else 3
    folders = [tmp_path / (str(i) if cache == "empty" else "") for i in range(rounds)]
    if cache == "filled":
        first_descent(tmp_path)
    seconds = statistics.median(first_descent(folder) for folder in folders)
    limits(
        f"first descend of a process, {cache} cache:",
        1e3 * seconds,
        milliseconds,
        "ms",
        source="docs/bars.md: features",
    )
    benchmark.pedantic(lambda: None)
