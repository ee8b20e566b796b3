"""Are `descend` and `scan` right on the GPU? Losses of every kind, by the traced kernel and by graphs; optimizers."""

import contextlib

import torch
import zoo

from fastpoly import descend, scan

from . import card
from .measure import off, on_gpu

NAMES = ("exponential-decay", "tanh-network", "softmax", "linear-64", "damped-sine", "polynomial")
NAMES = card.full(NAMES, ("exponential-decay", "damped-sine"))
SIZES = card.full(((100, "triton"), (100, "cudagraph"), (1000, "triton")), ((20, "triton"), (20, "cudagraph")))
STEPS = card.full(100, 3)
OPTIMIZERS = card.full(("momentum", "nesterov", "adam", "adamw"), ("adam",))


def units():
    return {
        **{f"descend {m}, n = {n}, {b}": lambda m=m, n=n, b=b: descended(m, n, b) for n, b in SIZES for m in NAMES},
        **{
            f"{optimizer}, {backend}": lambda o=optimizer, b=backend: optimized(o, b)
            for optimizer in OPTIMIZERS
            for backend in ("triton", "cudagraph")
        },
        **{f"scan, {backend}": lambda b=backend: scanned(b) for backend in ("triton", "cudagraph")},
    }


def descended(name, n, backend):
    model = zoo.model(name, torch.float64, n)
    params, data = on_gpu((model.params, model.data))
    # what a loss makes itself is on the CPU: only the traced kernel puts that right. The emulated ones make nothing
    with torch.device("cuda") if backend == "cudagraph" and not card.EMULATED else contextlib.nullcontext():
        got = descend(model.loss, params, data, learn_rate=model.learn_rate, steps=STEPS, backend=backend)
    yield {"kind": "check", "off": off(got.loss, zoo.eager(model, STEPS)[1], 1e-9, "loss")}


def optimized(optimizer, backend):
    """Against the same on the CPU, by eager torch."""
    model = zoo.model("exponential-decay", torch.float64, card.full(100, 20))
    options = {"learn_rate": model.learn_rate, "steps": STEPS, "optimizer": optimizer}
    want = descend(model.loss, model.params, model.data, backend="eager", **options)
    got = descend(model.loss, *on_gpu((model.params, model.data)), backend=backend, **options)
    yield {"kind": "check", "off": off(got.loss, want.loss, 1e-9, "loss")}


def scanned(backend):
    """A step with a carry of two tensors and data of its own at each step."""

    def step(carry, value):
        position, speed = carry
        speed = 0.9 * speed - 0.1 * torch.sin(position) + value
        position = position + 0.1 * speed
        return (position, speed), position.sum()

    start = torch.linspace(0, 1, 8, dtype=torch.float64)
    start, values = (start, torch.zeros_like(start)), torch.full((8,), 0.01, dtype=torch.float64)
    want = scan(step, start, values, STEPS, backend="eager")
    got = scan(step, *on_gpu((start, values)), STEPS, backend=backend)
    yield {"kind": "check", "off": off(_last(got), _last(want), 1e-11, "the outputs")}


def _last(result):
    return result[1] if isinstance(result, tuple) else result.outputs
