"""The post's 200,000 steps by every backend of the GPU. Its answer is looked at first; the first call is timed, too.

What the post published is run for few steps, as its steps take tenths of a millisecond each.
"""

import time

import numpy as np
from raw_runs import fit

import fastpoly
from fastpoly import reference
from fastpoly._post import PUBLISHED_SECONDS, REFERENCES, samples
from fastpoly._post import STEPS as ALL

from . import card
from .book import NotMeasured
from .measure import off, on_gpu, taken, timing

STEPS = card.full(ALL, 3)
FEW = card.full(300, 3)
FROM_CPU = {"triton": ("single", "double", "mixed"), "fused-autograd-gpu": ("single", "double")}
"""Backends that are given numpy arrays, as the post has them: copies are part of their time."""

ON_GPU = {"gram": ("double",), "spectral": ("double",), "compile-gpu": ("single", "double")}
ON_GPU |= {"cudagraph": ("single", "double")}
PUBLISHED = {"torch-gpu": {"use_gpu": True}, "torch-autograd-gpu": {"use_gpu": True, "use_autograd": True}}


def units():
    def each(table, function):
        return {f"{b} {p}": lambda b=b, p=p: function(b, p) for b, of in table.items() for p in card.full(of, of[:1])}

    return {
        **each(FROM_CPU, from_cpu),
        **{f"{backend} single": lambda b=backend: published(b) for backend in PUBLISHED},
        **each(ON_GPU, from_gpu),
    }


def from_cpu(backend, precision):
    x, y = (v.ravel() for v in samples())
    yield from timed(lambda: fit(x, y, steps=STEPS, backend=backend, precision=precision), backend, precision)


def from_gpu(backend, precision):
    found = next(b for b in fastpoly.backends() if b.name == backend)
    if found.unavailable:
        raise NotMeasured(found.unavailable)
    x, y = on_gpu([v.ravel() for v in samples()])
    yield from timed(
        lambda: fit(x, y, steps=STEPS, backend=backend, precision=precision),
        backend,
        precision,
        name=f"{backend}, samples on the GPU" if backend in ("gram", "spectral") else backend,
    )


def timed(run, backend, precision, name=None):
    started = time.perf_counter()
    weights = run().weights
    first = time.perf_counter() - started
    found = off(weights, expected(precision), REFERENCES[precision].tolerance)
    if first < 1:
        run()
    yield timing(
        taken(run, 11),
        group="post",
        name=name or backend,
        backend=backend,
        precision=precision,
        steps=ALL,
        steps_run=STEPS,
        deviation=found,
        deviation_of="weights",
        first=first,
    )


def expected(precision):
    if STEPS == ALL:
        return np.array(REFERENCES[precision].weights)
    return fit(*(v.ravel() for v in samples()), steps=STEPS, backend="numba", precision=precision).weights


def published(backend):
    """reference.train, which is the post's code."""
    columns = samples()

    def run():
        return reference.train(*columns, nSteps=FEW, **PUBLISHED[backend])

    weights = run()["w"]
    want = reference.train(*columns, nSteps=FEW, use_torch=True)["w"]
    yield timing(
        taken(run, 5),
        group="post",
        name=backend,
        backend=backend,
        precision="single",
        steps=ALL,
        steps_run=FEW,
        deviation=off(weights, want, REFERENCES["single"].tolerance),
        deviation_of="weights",
        published=PUBLISHED_SECONDS[backend],
    )
