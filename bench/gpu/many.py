"""10,000 polynomials at once, 100 samples and 20,000 steps each: what fills the card. And two cores beside it."""

import os
from contextlib import contextmanager

import numpy as np
from raw_runs import fit_many

from fastpoly._post import LEARN_RATE

from . import card
from .bars import MANY
from .measure import off, taken, timing

BATCH, STEPS, PART = card.full((10_000, 20_000, 500), (2, 3, 2))
BOUNDS = {"single": 1e-5, "double": 2e-9}


def units():
    return {precision: lambda p=precision: of(p) for precision in card.full(tuple(BOUNDS), ["single"])}


def of(precision):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 5, 100)
    y = rng.uniform(0.5, 2, (BATCH, 1)) * np.sin(rng.uniform(0.5, 1.5, (BATCH, 1)) * x)

    def run(backend, y):
        return fit_many(x, y, steps=STEPS, learn_rate=LEARN_RATE, backend=backend, precision=precision)

    few = y[:PART]
    found = off(run("triton", few).weights, run("numba", few).weights, BOUNDS[precision])
    what = {"model": MANY, "group": "zoo", "precision": precision, "batch": BATCH, "steps": STEPS}
    seconds = taken(lambda: run("triton", y), 5)
    yield timing(seconds, name="triton", backend="triton", deviation=found, deviation_of="weights", **what)
    with two_cores():
        seconds = [BATCH / PART * s for s in taken(lambda: run("numba", few), 2)]
    yield timing(seconds, name=f"numba (two cores, from {PART:,} problems)", backend="numba", **what)


@contextmanager
def two_cores():
    """The threads that start meanwhile share two cores, as they would on a machine that has no more."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
