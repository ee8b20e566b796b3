"""Seconds to the first result of each loss of the zoo, traced, with a Triton cache that is empty."""

import os
import tempfile
import time

os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(dir=os.environ["TRITON_CACHE_DIR"])  # before triton is imported

import torch
import zoo

from fastpoly import descend

from . import card
from .measure import off, on_gpu, timing

STEPS = card.full(100, 2)


def units():
    return {name: lambda n=name: of(n) for name in card.full(zoo.NAMES, zoo.NAMES[3:4])}


def of(name):
    model = zoo.model(name, torch.float32)
    params, data = on_gpu((model.params, model.data))
    started = time.perf_counter()
    got = descend(model.loss, params, data, learn_rate=model.learn_rate, steps=STEPS, backend="triton")
    card.wait()
    seconds = time.perf_counter() - started
    off(got.loss, zoo.eager(model, STEPS)[1], 1e-3, "loss")
    who = {"name": f"first descend of {name}", "backend": "triton", "precision": "single", "model": name}
    yield timing([seconds], group="cold", cache="empty", steps=STEPS, **who)
