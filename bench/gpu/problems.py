"""Many problems of any model, a problem in each thread: descents of polynomials, and fits of spots of 5 x 5 pixels."""

import warnings

import numpy as np
import torch

from fastpoly import curve_fit, descend_many

from . import card
from .bars import SPOTS, THREADS
from .measure import off, taken, timing

BATCH, STEPS = card.full((10_000, 20_000), (33, 3))
SIDE, FITS, CHECKED = 5, card.full(1_000_000, 40), card.full(1_000, 8)
BOUNDS = {"single": 1e-4, "double": 1e-9}


def units():
    found = {f"descend_many {precision}": lambda p=precision: descents(p) for precision in BOUNDS}
    return found | {f"curve_fit {precision}": lambda p=precision: fits(p) for precision in BOUNDS}


def loss(w, x, y):
    return ((y - (w[0] + x * (w[1] + x * (w[2] + x * (w[3] + x * w[4]))))) ** 2).mean()


def descents(precision):
    dtype = {"single": torch.float32, "double": torch.float64}[precision]
    x = torch.linspace(-1, 1, 100, dtype=dtype)
    y = torch.randn((BATCH, 100), generator=torch.Generator().manual_seed(0), dtype=dtype)
    start = torch.zeros(5, dtype=dtype)

    def run(x, y, start, steps=STEPS):
        options = dict(in_dims=(None, None, 0), learn_rate=0.1, steps=steps)
        return descend_many(loss, start, (x, y), **options).params

    found = off(run(x.cuda(), y[:64].cuda(), start.cuda(), 20), run(x, y[:64], start, 20), BOUNDS[precision], "params")
    given = x.cuda(), y.cuda(), start.cuda()
    run(*given)
    what = {"model": THREADS, "group": "zoo", "precision": precision, "batch": BATCH, "steps": STEPS}
    yield timing(
        taken(lambda: run(*given), 5), name="triton", backend="triton", deviation=found, deviation_of="params", **what
    )


def spot(x, height, column, row, width, ground):
    square = (x[0] - column) ** 2 + (x[1] - row) ** 2
    return ground + height * torch.exp(-square / (2 * width * width))


def fits(precision):
    """As Gpufit's authors measure theirs: from host arrays to host arrays, at most 10 iterations."""
    draws, pixels = np.random.default_rng(0), np.arange(SIDE, dtype=float)
    x = np.stack(np.meshgrid(pixels, pixels)).reshape(2, -1)
    truth = np.array([500.0, 2.0, 2.0, 1.0, 10.0]) * (0.9 + 0.2 * draws.random((FITS, 5)))
    height, column, row, width, ground = (one[:, None] for one in truth.T)
    y = ground + height * np.exp(-((x[0] - column) ** 2 + (x[1] - row) ** 2) / (2 * width**2))
    y += 5 * draws.standard_normal(y.shape)

    def run(y, backend):
        options = dict(ftol=1e-4, xtol=1e-4, maxfev=11, precision=precision, backend=backend)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some need more iterations
            return curve_fit(spot, x, y, (450.0, 2.0, 2.0, 1.0, 12.0), **options)

    few = y[:CHECKED]
    found = off(run(few, "triton")[0], run(few, "fused")[0], {"single": 1.0, "double": 1e-4}[precision], "popt")
    run(y, "triton")
    what = {"model": SPOTS, "group": "zoo", "precision": precision, "batch": FITS, "steps": 10}
    what |= {"name": "triton", "backend": "triton", "deviation": found, "deviation_of": "popt"}
    yield timing(taken(lambda: run(y, "triton"), 3), **what)
