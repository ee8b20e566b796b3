"""The losses of tests/zoo.py with 100 samples: `descend`, JAX's scan, torch eager and torch.compile."""

import peers
import pytest
import torch
import zoo
from losses import AGREEMENT, FEW, IN_EACH, MODELS, PRECISIONS, STEPS, by_descend

pytestmark = pytest.mark.benchmark(group="zoo")


def off_by(loss, steps, name, precision):
    """How far this last loss is from that of `descend`, relative."""
    expected = float(by_descend(name, precision, steps)().loss[-1])
    off = abs(float(loss) - expected) / abs(expected)
    assert off <= AGREEMENT[precision]
    return off


@pytest.mark.parametrize("precision", IN_EACH)
@pytest.mark.parametrize("name", MODELS)
def test_descend(benchmark, timing, name, precision):
    steps = STEPS[name] if benchmark.enabled else 50
    run, few = by_descend(name, precision, steps), min(steps, 300)
    losses = zoo.eager(zoo.model(name, PRECISIONS[precision]), few)[1]
    off = abs(float(run().loss[few - 1] - losses[-1])) / float(losses[-1])
    assert off <= {"double": 1e-10, "single": 1e-4}[precision]
    timing(
        run,
        name="descend, fused",
        backend="fused",
        precision=precision,
        model=name,
        degree=None,
        steps=steps,
        rounds=3,
        deviation=off,
        deviation_of="loss",
    )


@pytest.mark.what("{name} {precision}: JAX")
@pytest.mark.parametrize("precision", IN_EACH)
@pytest.mark.parametrize("name", MODELS)
def test_jax(benchmark, timing, jax_zoo, name, precision):
    steps = STEPS[name] if benchmark.enabled else 50
    unroll, run = jax_zoo.best(name, precision, steps, (1, 8) if benchmark.enabled else (1,))
    off = off_by(run()[1][-1], steps, name, precision)
    timing(
        run,
        name=f"JAX, unroll {unroll}",
        backend="JAX",
        precision=precision,
        model=name,
        degree=None,
        steps=steps,
        rounds=3 if name in FEW else 1,  # the bars have it again, in turn with ours
        deviation=off,
        deviation_of="loss",
    )


@pytest.mark.parametrize("precision", IN_EACH)
@pytest.mark.parametrize("name", MODELS)
def test_torch_eager(benchmark, timing, name, precision):
    model, steps = zoo.model(name, PRECISIONS[precision]), 300 if benchmark.enabled else 10
    off = off_by(zoo.eager(model, steps)[1][-1], steps, name, precision)
    timing(
        lambda: zoo.eager(model, steps),
        name="torch eager autograd",
        backend="torch-autograd",
        precision=precision,
        model=name,
        degree=None,
        steps=STEPS[name],
        steps_run=steps,
        rounds=5,
        deviation=off,
        deviation_of="loss",
    )


COMPILED = ("damped-sine", "tanh-network")
"""The models that torch.compile is measured on: a compilation takes some ten seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_torch_compile(benchmark, timing, not_measured, name):
    """In single precision: one compilation takes seconds."""
    if not benchmark.enabled and name != "damped-sine":
        pytest.skip("it compiles for seconds; one model shows that it can")
    model, steps = zoo.model(name, torch.float32), 4000 if benchmark.enabled else peers.BLOCK
    try:
        run = peers.torch_compile(model, steps)
    except peers.Missing as missing:
        not_measured(f"{name}: torch.compile, single", str(missing))
    off = off_by(run(), steps, name, "single")
    timing(
        run,
        name=f"torch.compile, {peers.BLOCK} steps a call",
        backend="compile",
        precision="single",
        model=name,
        degree=None,
        steps=STEPS[name],
        steps_run=steps,
        rounds=5,
        deviation=off,
        deviation_of="loss",
    )
