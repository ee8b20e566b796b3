"""The larger losses by JAX's lax.scan, products in full float32; its first losses are torch's."""

import os
import time

from . import card
from .book import NotMeasured
from .larger import NAMES, expected, named
from .measure import off, on_gpu, taken, timing

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
STEPS = card.full(1000, 16)
UNROLLS = card.full((1, 8), (1,))


def units():
    return {f"{name}, unroll {unroll}": lambda n=name, u=unroll: of(n, u) for unroll in UNROLLS for name in NAMES}


def of(name, unroll):
    try:
        import jax_zoo
    except ImportError:
        raise NotMeasured("JAX is not installed") from None
    if jax_zoo.jax.default_backend() != "gpu" and not card.EMULATED:
        raise NotMeasured("this JAX has no CUDA; pip install 'jax[cuda12]'")
    loss = named(name)
    in_jax = polynomial if name.startswith("polynomial") else network
    dtype = "float32"
    started = time.perf_counter()
    run = jax_zoo.scan(in_jax(jax_zoo.jnp), loss.params, loss.data, loss.rate, STEPS, dtype, unroll)
    losses = run()[1]
    first = time.perf_counter() - started
    want = expected(loss, *on_gpu((loss.params, loss.data)), 5)
    who = {"name": f"JAX, unroll {unroll}", "backend": "JAX", "precision": "single", "model": name}
    yield timing(
        taken(run, 3),
        group="zoo",
        n=len(loss.data[0]),
        steps=STEPS,
        first=first,
        deviation=off(losses[:5], want, 1e-4, "loss"),
        deviation_of="losses",
        **who,
    )


def polynomial(jnp):  # noqa: ARG001
    def loss(w, x, y):
        return ((w[0] + w[1] * x + w[2] * x**2 + w[3] * x**3 + w[4] * x**4 - y) ** 2).mean()

    return loss


def network(jnp):
    def loss(p, x, y):
        h = jnp.tanh(jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"])
        return ((h @ p["w3"] + p["b3"] - y) ** 2).mean()

    return loss
