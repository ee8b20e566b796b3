"""Is the loop by hand right? At each of its plans: registers of one warp, of more, a loop over blocks of samples."""

import numpy as np
from raw_runs import fit, fit_many

from fastpoly import _portions as portions

from . import card
from .measure import looped, off

SIZES = card.full(((100, 4), (1000, 4), (3000, 4), (300, 4), (3, 2), (33, 0)), ((100, 4), (3, 2)))
"""Samples and degree: one warp, four and eight, more than registers hold; fewer samples than lanes; a constant."""

STEPS = card.full(200, 3)
BOUNDS = {"double": 1e-12, "mixed": 2e-6, "single": 2e-6}


def units():
    of_fit = {
        f"fit {precision}, n = {n}, degree {degree}": lambda n=n, d=degree, p=precision: fitted(n, d, p)
        for n, degree in SIZES
        for precision in (BOUNDS if n in (100, 1000) else ("single", "double"))
    }
    return {**of_fit, "the same bits in portions, alone and in a batch": the_same_bits}


def samples(n):
    x = np.linspace(-1, 1.2, n)
    return x, np.cos(3 * x)


def fitted(n, degree, precision):
    x, y = samples(n)
    weights, mse = looped(x, y, degree, STEPS, 0.1, precision)
    got = fit(x, y, degree, STEPS, 0.1, backend="triton", precision=precision)
    bound = BOUNDS[precision]
    yield {"kind": "check", "off": off(got.weights, weights, bound), "mse_off": off(got.mse, mse, bound, "mse")}


def the_same_bits():
    x, y = samples(100)
    steps = card.full(20_000, 12)
    one = fit(x, y, steps=steps, backend="triton", trace_every=11)
    kept = portions.FIRST_SECONDS, portions.PORTION_SECONDS
    portions.FIRST_SECONDS = portions.PORTION_SECONDS = 2e-4
    try:
        cut = fit(x, y, steps=steps, backend="triton", trace_every=11)
    finally:
        portions.FIRST_SECONDS, portions.PORTION_SECONDS = kept
    options = {"steps": steps, "learn_rate": 1e-5, "backend": "triton", "trace_every": 11}
    many = fit_many(x, np.stack([y, 2 * y, y]), **options)
    assert one.weights.tobytes() == cut.weights.tobytes() == many.weights[2].tobytes(), "weights differ"
    assert one.mse.tobytes() == cut.mse.tobytes() == many.mse[0].tobytes(), "mse differs"
