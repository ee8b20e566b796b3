"""The peer: the losses of recurrent_models.py in JAX, lax.scan written by hand, and the loop of descents in another."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import recurrent_models
from jax import lax
from jax.scipy.special import logsumexp

jax.config.update("jax_enable_x64", True)


def garch(p, r):
    def step(h, pair):
        before, now = pair
        h = p[0] + p[1] * before**2 + p[2] * h
        return h, jnp.log(h) + now**2 / h

    return lax.scan(step, 1.0, (r[:-1], r[1:]))[1].sum() / len(r)


def kalman(p, y):
    move = jnp.array([[1.0, p[0]], [0.0, p[1]]])
    noise, error = jnp.diag(p[2:4] ** 2), p[4] ** 2

    def step(state, now):
        mean, spread = state
        mean, spread = move @ mean, move @ spread @ move.T + noise
        off, scale = now - mean[0], spread[0, 0] + error
        gain = spread[:, 0] / scale
        after = mean + gain * off, spread - jnp.outer(gain, gain) * scale
        return after, jnp.log(scale) + off**2 / scale

    return lax.scan(step, (jnp.zeros(2), jnp.eye(2)), y)[1].sum() / len(y)


def hmm(p, y):
    move = jax.nn.log_softmax(p["move"], 1)

    def step(alpha, now):
        return logsumexp(alpha[:, None] + move, 0) - (now - p["means"]) ** 2, None

    alpha = jax.nn.log_softmax(p["start"]) - (y[0] - p["means"]) ** 2
    return -logsumexp(lax.scan(step, alpha, y[1:])[0], 0) / len(y)


def rnn(p, x):
    def step(h, now):
        h = jnp.tanh(p["W"] @ now + p["U"] @ h + p["b"])
        return h, h

    hidden = lax.scan(step, jnp.zeros(8), x)[1]
    return ((hidden @ p["out"] - x[:, 0]) ** 2).mean()


def lotka_volterra(p, y):
    def step(state, now):
        a, b = state
        a, b = a + 0.01 * (p[0] * a - p[1] * a * b), b + 0.01 * (p[2] * a * b - p[3] * b)
        return (a, b), (a - now[0]) ** 2 + (b - now[1]) ** 2

    return lax.scan(step, (y[0, 0], y[0, 1]), y[1:])[1].sum() / len(y)


def residual_mlp(p, x, y):
    def layer(x, own):
        return x + jnp.tanh(x @ own["W"] + own["b"]) / len(p["W"]), None

    x, _ = lax.scan(layer, x, p)
    return ((x.sum(1) - y) ** 2).mean()


LOSSES = {f.__name__: f for f in (garch, kalman, hmm, rnn, lotka_volterra, residual_mlp)}


def descent(name, iterations, steps):
    """A function that takes so many steps of descent: it returns the losses. Its first call compiles."""
    model = recurrent_models.model(name, iterations)
    params = jax.tree.map(lambda leaf: np.asarray(leaf), model.params)
    data = [np.asarray(leaf) for leaf in model.data]
    gradient = jax.value_and_grad(lambda p: LOSSES[name](p, *data))

    def step(p, _):
        value, slope = gradient(p)
        return jax.tree.map(lambda one, d: one - model.learn_rate * d, p, slope), value

    @partial(jax.jit, static_argnums=1)
    def run(p, count):
        return lax.scan(step, p, None, length=count)[1]

    return lambda: jax.block_until_ready(run(params, steps))
