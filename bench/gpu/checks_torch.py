"""Are the backends of `fit` right whose tensors lie on the GPU, and `fit_many`, `train`, what is said of divergence?"""

import warnings

import numpy as np
from raw_runs import fit, fit_many

import fastpoly
from fastpoly import DivergenceWarning

from . import card
from .measure import looped, off, on_gpu

STEPS = card.full(300, 3)
BOUNDS = {"double": 1e-11, "single": 2e-5}
BACKENDS = {
    "spectral": ["double"],
    "gram": ["double"],
    "torch-gpu": ["double", "single"],
    "torch-autograd-gpu": ["double", "single"],
    "cudagraph": ["double", "single"],
    "fused-autograd-gpu": ["double", "single"],
    "triton": ["double"],
}


def units():
    return {
        **{f"{b} {p}, tensors on the GPU": lambda b=b, p=p: fitted(b, p) for b, ps in BACKENDS.items() for p in ps},
        **{f"divergence, {b}": lambda b=b: diverging(b) for b in ("triton", "fused-autograd-gpu", "cudagraph")},
        **{
            f"fit_many {b}, {'own' if own else 'shared'} x": lambda b=b, own=own: many(b, own)
            for b in ("gram", "spectral", "triton")
            for own in (False, True)
        },
        "train(use_gpu, use_autograd)": trained,
    }


def fitted(backend, precision):
    x = np.linspace(-1, 1.2, 100)
    y = np.cos(3 * x)
    weights, mse = looped(x, y, 4, STEPS, 0.1, precision)
    got = fit(*on_gpu((x, y)), 4, STEPS, 0.1, backend=backend, precision=precision)
    assert got.weights.is_cuda, "the weights came back on the CPU"
    assert got.mse.is_cuda, "the mse came back on the CPU"
    bound = BOUNDS[precision]
    yield {"kind": "check", "off": off(got.weights, weights, bound), "mse_off": off(got.mse, mse, bound, "mse")}


def diverging(backend):
    x = np.linspace(-1, 1.2, 100)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        got = fit(x, np.cos(3 * x), 4, card.full(500, 8), card.full(50.0, 1e9), backend=backend, precision="single")
    assert got.diverged_at == len(got.mse) > 0, got
    assert np.isfinite(np.asarray(got.mse)).all(), "the trace has what is not finite"
    assert any(issubclass(w.category, DivergenceWarning) for w in told), "nothing warned of it"


def many(backend, own):
    rng = np.random.default_rng(0)
    batch, steps = card.full(50, 2), card.full(400, 3)
    xs = np.sort(rng.uniform(-1, 1, (batch, 40)), 1) if own else np.linspace(-1, 1, 40)
    ys = rng.normal(size=(batch, 40))
    ends = 0, batch - 1
    want = np.stack([looped(xs[i] if own else xs, ys[i], 3, steps, 0.2, "double")[0] for i in ends])
    got = fit_many(*on_gpu((xs, ys)), 3, steps, 0.2, backend=backend, trace_every=10)
    yield {"kind": "check", "off": off(got.weights.cpu()[list(ends)], want, 1e-10)}


def trained():
    column = np.linspace(0, 5, 100).reshape(-1, 1)
    steps = card.full(100, 3)
    got = fastpoly.train(column, np.sin(column), nSteps=steps, use_gpu=True, use_autograd=True)
    want = fastpoly.reference.train(column, np.sin(column), nSteps=steps, use_torch=True)
    yield {"kind": "check", "off": off(got["mseTrace"], want["mseTrace"], 1e-4, "mse")}
