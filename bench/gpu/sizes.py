"""A step of larger losses by each backend of `descend`, until a second is over; with the first call, which compiles."""

import time
import warnings
from functools import partial

import torch

from fastpoly import UnsupportedOperationError, descend

from . import card
from .book import NotMeasured
from .larger import NAMES, expected, named
from .measure import off, on_gpu, taken, timing

FEW = card.full(50, 3)
ENOUGH = card.full(0.25, 0.0)
"""Seconds of one run from which its step is known."""

BACKENDS = ("auto", "triton", "eager", "compile", "cudagraph")


def units():
    """Those of bars first: auto on each; what compiles for seconds last."""
    return {f"{name}, {backend}": lambda n=name, b=backend: of(n, b) for backend in BACKENDS for name in NAMES}


def of(name, backend):
    torch.backends.cuda.matmul.allow_tf32 = False
    loss = named(name)
    params, data = on_gpu((loss.params, loss.data))
    took = set()

    def run(steps):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # auto says what it does not take
            result = descend(loss.loss, params, data, learn_rate=loss.rate, steps=steps, backend=backend)
        took.add(result.backend)
        return result

    started = time.perf_counter()
    try:
        losses = run(FEW).loss
    except UnsupportedOperationError as error:
        raise NotMeasured(str(error)[:200]) from None
    card.wait()
    first = time.perf_counter() - started
    found = off(losses[:5], expected(loss, params, data, FEW)[:5], 1e-4, "loss")
    steps, seconds = enough(run)
    who = {"name": backend, "backend": backend, "precision": "single", "model": name, "n": len(data[0])}
    more = {"steps": steps, "first": max(first - FEW * min(seconds) / steps, 1e-6), "took": ", ".join(sorted(took))}
    yield timing(seconds, group="zoo", deviation=found, deviation_of="losses", **more, **who)


def enough(run):
    """(steps, seconds of runs of so many): not of the first call of that many, in which graphs are made."""
    steps = FEW
    while True:
        if steps != FEW:
            run(steps)
        seconds = taken(partial(run, steps), 2, 0.5)
        if min(seconds) > ENOUGH or steps > 1e6:
            return steps, seconds
        steps = int(steps * min(20, max(2, 0.4 / min(seconds))))
