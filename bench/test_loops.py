"""Other people's training loops: `descend` and JAX's scan, in the time of a step and of a first call."""

import importlib.util

import fresh
import loop_models
import numpy as np
import pytest
import torch

from fastpoly import descend

pytestmark = pytest.mark.benchmark(group="bars")

SOURCE = "docs/bars.md: features"
FEW = ("logistic", "filled")
KINDS = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in loop_models.NAMES]
NO_JAX = "JAX is not installed; pip install 'fastpoly[bench]'"

OURS = """
import json, time, torch, loop_models
from fastpoly import descend
torch.set_num_threads(1)
loop = loop_models.model({name!r}, {small})
started = time.perf_counter()
descend(loop.loss, loop.params, loop.data, learn_rate=loop.learn_rate, steps=20, backend="fused")
print(json.dumps(time.perf_counter() - started))
"""

JAXS = """
import json, time, torch, jax_loops, jax, jax.numpy as jnp
jax.block_until_ready(jnp.zeros(2) + 1)
run = jax_loops.descent({name!r}, {small})
started = time.perf_counter()
run()
first = time.perf_counter() - started
started = time.perf_counter()
run()
print(json.dumps(first - (time.perf_counter() - started)))
"""


@pytest.fixture
def jax_loops(not_measured, request):
    if importlib.util.find_spec("jax") is None:
        not_measured(f"loops: {request.node.callspec.params['name']}", NO_JAX)
    import jax_loops

    return jax_loops


@pytest.mark.parametrize("name", KINDS)
def test_a_step(benchmark, versus, jax_loops, name):
    small = not benchmark.enabled
    loop, theirs = loop_models.model(name, small), jax_loops.descent(name, small)
    options = {"learn_rate": loop.learn_rate, "steps": loop.steps, "backend": "fused"}

    def ours():
        return descend(loop.loss, loop.params, loop.data, **options)

    losses = torch.tensor(np.asarray(theirs()))
    torch.testing.assert_close(ours().loss[:20], losses[:20], rtol=1e-7, atol=1e-10)
    assert losses[-1] < losses[0]  # it learns
    versus((f"JAX, {name}", theirs), (f"descend, {name}", ours), rounds=3, at_least=1.0, source=SOURCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", loop_models.NAMES)
@pytest.mark.usefixtures("jax_loops")
def test_the_first_call(benchmark, limits, name):
    """Fresh processes with empty caches, torch and JAX imported; JAX's without its steps."""
    small = not benchmark.enabled
    codes = [code.format(name=name, small=small) for code in (OURS, JAXS)]
    rounds = [[fresh.measured(code) for code in codes] for _ in range(1 if small else 2)]
    ours, theirs = (min(side) for side in zip(*rounds, strict=True))
    benchmark.pedantic(lambda: None, rounds=1)
    what = f"{name}: the first call of descend ({ours:.2f} s) / JAX's ({theirs:.2f} s)"
    limits(what, ours / theirs, 1.0, "x", SOURCE)
