"""The peer on the same card: JAX's lax.scan, with products in full float32, on the post's problem and three losses."""

import os

import numpy as np
from raw_runs import fit

from fastpoly._post import STEPS as ALL
from fastpoly._post import samples

from . import card
from .book import NotMeasured
from .losses import NAMES
from .measure import off, taken, timing

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
STEPS = card.full(10_000, 40)
UNROLLS = card.full((1, 8, 32), (1,))
BOUNDS = {"single": 5e-6, "double": 1e-9}


def units():
    return {
        **{
            f"{p}, unroll {u}": lambda p=p, u=u: polynomial(p, u)
            for u in UNROLLS
            for p in card.full(tuple(BOUNDS), ["single"])
        },
        **{
            f"{name} {p}": lambda n=name, p=p: loss(n, p)
            for name in NAMES
            for p in card.full(tuple(BOUNDS), ["single"])
        },
    }


def zoo_in_jax():
    """bench/jax_zoo.py, where JAX has a GPU."""
    try:
        import jax_zoo
    except ImportError:
        raise NotMeasured("JAX is not installed") from None
    if jax_zoo.jax.default_backend() != "gpu" and not card.EMULATED:
        raise NotMeasured("this JAX has no CUDA; pip install 'jax[cuda12]'")
    return jax_zoo


def polynomial(precision, unroll):
    run = zoo_in_jax().descent("polynomial", precision, STEPS, unroll)
    weights, _ = run()
    x, y = (v.ravel() for v in samples())
    want = fit(x, y, steps=STEPS, backend="numba", precision=precision).weights
    found = off(np.ravel(weights), want, BOUNDS[precision])
    name = {"name": f"JAX, unroll {unroll}", "backend": "JAX", "precision": precision, "steps": ALL, "steps_run": STEPS}
    yield timing(taken(run, 5), group="peers", deviation=found, deviation_of="weights", **name)


def loss(name, precision):
    run = zoo_in_jax().descent(name, precision, STEPS, 8)
    run()
    who = {"name": "JAX, unroll 8", "backend": "JAX", "precision": precision, "model": name}
    yield timing(taken(run, 3), group="zoo", steps=NAMES[name], steps_run=STEPS, **who)
