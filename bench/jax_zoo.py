"""The peer: the losses of tests/zoo.py in JAX, and the loop that JAX has for them, lax.scan.

Written as JAX users do who want it fast: the data are numpy arrays, and what depends on them alone is numpy, which runs
once, while JAX traces. XLA would compute it again in every turn of the loop.

Importing this imports JAX and turns its float64 on, so it is imported where a benchmark runs, after a look for JAX.
"""

import time
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import torch
import zoo

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")  # on a GPU float32 products have 3 digits by default


def mean_square(y_model, y):
    return ((y - y_model) ** 2).mean()


def powers(x, w):
    return x.reshape(-1, 1) ** np.arange(len(w), dtype=x.dtype)


def polynomial(w, x, y):
    return mean_square(powers(x, w) @ w, y)


def horner(w, x, y):
    p = w[-1]
    for k in range(len(w) - 2, -1, -1):
        p = p * x + w[k]
    return mean_square(p, y)


def fourier(params, x, y):
    phase = params["frequency"] * (x[:, None] * np.arange(1, 4, dtype=x.dtype))
    return mean_square(params["offset"] + jnp.sin(phase) @ params["sines"] + jnp.cos(phase) @ params["cosines"], y)


def exponential_decay(w, x, y):
    return mean_square(w[0] * jnp.exp(-w[1] * x) + w[2], y)


def damped_sine(w, x, y):
    a, b, c, d = w
    return mean_square(a * jnp.exp(-b * x) * jnp.sin(c * x + d), y)


def gaussian_peak(params, x, y):
    z = (x - params["center"]) / params["width"]
    return mean_square(params["height"] * jnp.exp(-0.5 * z**2) + params["offset"], y)


def rational(params, x, y):
    p, q = params
    return mean_square((p[0] + p[1] * x + p[2] * x**2) / (1 + (q * x) ** 2), y)


def logistic(params, x, y):
    w, b = params
    z = x @ w + b
    return (jax.nn.softplus(z) - y * z).mean()


def softmax(params, x, labels):
    z = jax.nn.log_softmax(x @ params["weight"].T + params["bias"])
    return -jnp.take_along_axis(z, labels[:, None], axis=1).mean()


def huber(w, x, y):
    r = y - powers(x, w) @ w
    return jnp.where(abs(r) <= 1, r**2 / 2, abs(r) - 0.5).mean()


def ridge(w, x, y):
    return mean_square(powers(x, w) @ w, y) + 1e-2 * (w**2).sum()


def multi_output(w, x, y):
    return mean_square(powers(x, w) @ w, y)


def linear(params, x, y):
    w, b = params
    return mean_square(x @ w + b, y)


def poisson(params, x, counts):
    w, b = params
    z = x @ w + b
    return (jnp.exp(z) - counts * z).mean()


def tanh_network(params, x, y):
    return mean_square(jnp.tanh(x @ params["a"] + params["b"]) @ params["c"] + params["d"], y)


def gelu_network(params, x, y):
    """The weights lie as torch.nn.Linear has them, (out, in); GELU with the error function, as torch.nn.GELU."""
    for layer in ("0", "2"):
        x = jax.nn.gelu(x @ params[f"{layer}.weight"].T + params[f"{layer}.bias"], approximate=False)
    return mean_square(x @ params["4.weight"].T + params["4.bias"], y)


def layer_norm(params, x, y):
    h = x @ params["a"]
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return mean_square(jax.nn.softplus(h * params["gain"] + params["shift"]) @ params["c"], y)


LOSSES = {
    "polynomial": polynomial,
    "horner": horner,
    "fourier": fourier,
    "exponential-decay": exponential_decay,
    "damped-sine": damped_sine,
    "gaussian-peak": gaussian_peak,
    "rational": rational,
    "logistic": logistic,
    "softmax": softmax,
    "huber": huber,
    "ridge": ridge,
    "multi-output": multi_output,
    "linear-64": linear,
    "poisson": poisson,
    "tanh-network": tanh_network,
    "gelu-network": gelu_network,
    "layer-norm": layer_norm,
}


def jax_loss(name):
    """The loss of the zoo's model of this name: loss(params, *data), with params JAX arrays and data numpy ones."""
    return LOSSES[name]


def arrays(tree, dtype=None):
    """A tree of torch tensors as numpy arrays; floating ones in `dtype`, or else in their own."""

    def array(tensor):
        return tensor.numpy().astype(dtype) if dtype and tensor.is_floating_point() else tensor.numpy()

    return jax.tree.map(array, tree)


def scan(loss, params, data, learn_rate, steps, dtype, unroll=1):
    """Compile the whole descent: lax.scan of value_and_grad and a step of SGD.

    Args:
        loss: loss(params, *data), with params JAX arrays and data numpy ones.
        params, data: of the zoo's model, torch tensors.
        learn_rate, steps: of the run.
        dtype: of every floating number.
        unroll: of lax.scan, the steps that become one turn of the compiled loop.

    Returns:
        A function of nothing that runs it from `params`, waits, and returns the params after the last step and the
        losses, (steps,), each before its step.
    """
    start, data = jax.tree.map(jnp.asarray, arrays(params, dtype)), arrays(data, dtype)
    value_and_gradient = jax.value_and_grad(lambda params: loss(params, *data))

    def step(params, _):
        value, gradient = value_and_gradient(params)
        return jax.tree.map(lambda p, g: p - learn_rate * g, params, gradient), value

    descend = jax.jit(lambda params: jax.lax.scan(step, params, None, length=steps, unroll=unroll))
    compiled = descend.lower(start).compile()
    return lambda: jax.block_until_ready(compiled(start))


DTYPES = {"double": (np.float64, torch.float64), "single": (np.float32, torch.float32)}


@cache  # compiled once, for whichever benchmarks want it
def descent(name, precision, steps, unroll=1, n=100):
    """`scan` of the zoo's model `name` with n samples."""
    dtype, torch_dtype = DTYPES[precision]
    model = zoo.model(name, torch_dtype, n)
    return scan(jax_loss(name), model.params, model.data, model.learn_rate, steps, dtype, unroll)


@cache
def best(name, precision, steps, unrolls):
    """(unroll, run) of the `descent` that is the fastest of these unrolls, each run once before it is timed once."""

    def seconds(unroll):
        run = descent(name, precision, steps, unroll)
        run()
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    unroll = unrolls[0] if len(unrolls) == 1 else min(unrolls, key=seconds)
    return unroll, descent(name, precision, steps, unroll)
