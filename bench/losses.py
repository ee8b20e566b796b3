"""The losses of tests/zoo.py as benchmarks run them: how many steps, which in a quick run, how near to agree."""

import pytest
import torch
import zoo

from fastpoly import descend

PRECISIONS = {"double": torch.float64, "single": torch.float32}
IN_EACH = [pytest.param("double", marks=pytest.mark.slow), "single"]
"""The precisions, of which a quick run has one."""

AGREEMENT = {"double": 1e-9, "single": 1e-3}
"""Of the last losses, relative: thousands of roundings, each in its own order, of which a descent forgets most."""

STEPS = {
    "polynomial": 600_000,
    "horner": 300_000,
    "fourier": 60_000,
    "exponential-decay": 600_000,
    "damped-sine": 150_000,
    "gaussian-peak": 600_000,
    "rational": 600_000,
    "logistic": 300_000,
    "softmax": 150_000,
    "huber": 600_000,
    "ridge": 600_000,
    "multi-output": 150_000,
    "linear-64": 600_000,
    "poisson": 600_000,
    "tanh-network": 150_000,
    "gelu-network": 15_000,
    "layer-norm": 30_000,
}
"""So that JAX takes 0.3 to 0.9 seconds: `descend` traces in every call, for 3 to 12 ms, which JAX did beforehand."""

FEW = {"damped-sine"}
"""Those of a quick run: one with a sine and an exponential, beside the post's problem, which others measure."""

MODELS = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in STEPS]


def by_descend(name, precision, steps):
    """The descent as a function of nothing."""
    model = zoo.model(name, PRECISIONS[precision])
    options = {"learn_rate": model.learn_rate, "steps": steps, "backend": "fused"}
    return lambda: descend(model.loss, model.params, model.data, **options)
