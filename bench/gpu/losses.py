"""A step of `descend` for losses of one's own with 100 samples: by the traced kernel, and by graphs of torch's own."""

import torch
import zoo

from fastpoly import descend

from . import card
from .measure import off, on_gpu, taken, timing

NAMES = card.full(
    {"exponential-decay": 600_000, "damped-sine": 150_000, "tanh-network": 150_000},
    {"damped-sine": 20},
)
"""With the steps that bench/losses.py takes of each."""

DTYPES = {"single": torch.float32, "double": torch.float64}
STEPS = card.full({"triton": 50_000, "cudagraph": 20_000}, {"triton": 2, "cudagraph": 2})
AGREEMENT = {"single": 1e-3, "double": 1e-9}


def units():
    return {
        f"{name} {precision} {backend}": lambda n=name, p=precision, b=backend: of(n, p, b)
        for backend in STEPS
        for name in NAMES
        for precision in card.full(tuple(DTYPES), ("single",))
    }


def of(name, precision, backend):
    model = zoo.model(name, DTYPES[precision])
    params, data = on_gpu((model.params, model.data))

    def run(steps=STEPS[backend]):
        return descend(model.loss, params, data, learn_rate=model.learn_rate, steps=steps, backend=backend)

    few = card.full(50, 2)
    off(run(few).loss, zoo.eager(model, few)[1], AGREEMENT[precision], "loss")
    run()
    who = {"name": backend, "backend": backend, "precision": precision, "model": name}
    yield timing(taken(run, 3), group="zoo", steps=NAMES[name], steps_run=STEPS[backend], **who)
