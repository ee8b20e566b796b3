"""The peer: the losses of loop_models.py in JAX, lax.scan written by hand, and the loop of descents in another."""

from functools import partial

import jax
import jax.numpy as jnp
import loop_models
import numpy as np
import torch
from jax import lax
from jax.nn import log_sigmoid, log_softmax, relu, sigmoid, softplus
from jax.scipy.special import logsumexp

jax.config.update("jax_enable_x64", True)


def cross_entropy_with_logits(z, y):
    return (softplus(z) - z * y).mean()


def mixture(w, x):
    z = (x[:, None] - w["means"]) / jnp.exp(w["scales"])
    logs = -0.5 * z**2 - w["scales"] - 0.5 * np.log(2 * np.pi) + log_softmax(w["logits"])
    return -logsumexp(logs, 1).mean()


def logistic(w, x, y):
    return cross_entropy_with_logits(x @ w, y) + 1e-3 * (w**2).sum()


def weibull(w, x, t, died):
    shape, scale = jnp.exp(w[0]), jnp.exp(w[1] + x @ w[2:])
    hazard = w[0] - (w[1] + x @ w[2:]) + (shape - 1) * jnp.log(t / scale)
    return -(died * hazard - (t / scale) ** shape).mean()


def ordinal(w, x, k):
    cuts = jnp.cumsum(jnp.concatenate([w["cuts"][:1], softplus(w["cuts"][1:])]))
    below = jnp.pad(sigmoid(cuts - (x @ w["slopes"])[:, None]), ((0, 0), (1, 0)))
    below = jnp.pad(below, ((0, 0), (0, 1)), constant_values=1.0)
    rows = np.arange(len(k))
    return -jnp.log(below[rows, k + 1] - below[rows, k] + 1e-9).mean()


def xor(w, x, y):
    return cross_entropy_with_logits(jnp.tanh(x @ w["W"] + w["b"]) @ w["out"], y)


def pinn(w, x):
    def u(t):
        return jnp.tanh(t * w["W"] + w["b"]) @ w["out"]

    residual = jax.vmap(jax.grad(jax.grad(u)))(x) + jax.vmap(u)(x)
    return (residual**2).mean() + u(0.0) ** 2 + (jax.grad(u)(0.0) - 1) ** 2


def factors(w, user, item, rating):
    return (((w["users"][user] * w["items"][item]).sum(1) - rating) ** 2).mean()


def bradley_terry(w, winner, loser):
    return -log_sigmoid(w[winner] - w[loser]).mean() + 1e-3 * (w**2).sum()


def item_response(w, person, item, right):
    return cross_entropy_with_logits(jnp.exp(w["slopes"][item]) * (w["able"][person] - w["hard"][item]), right)


def cox(w, x, died):
    risk = x @ w
    return -((risk - lax.cumlogsumexp(risk)) * died).sum() / died.sum()


def picks(w, x, order, mask, group):
    value = x @ w["slopes"]
    running = jnp.cumsum(jnp.exp(value[order] / 3))
    own = (value[np.flatnonzero(mask)] ** 2).mean()
    return own + jnp.log(running).mean() + ((w["groups"][group] - value) ** 2).mean()


def gaussian_process(w, x, y):
    spread = jnp.exp(w[0]) * jnp.exp(-0.5 * ((x[:, None] - x) / jnp.exp(w[1])) ** 2)
    lower = jnp.linalg.cholesky(spread + (jnp.exp(w[2]) + 1e-6) * np.eye(len(x)))
    white = jax.scipy.linalg.solve_triangular(lower, y, lower=True)
    return (0.5 * (white**2).sum() + jnp.log(jnp.diagonal(lower)).sum()) / len(x)


def filled(w, y):
    def step(x, before):
        x = w[0] * x + w[1] * before
        return x, x

    return ((lax.scan(step, y[0], y[:-1])[1] - y[1:]) ** 2).sum() / len(y)


def lstm(w, x):
    def step(state, pair):
        (h, c), (now, then) = state, pair
        i, f, g, o = jnp.split(w["W"] @ now + w["U"] @ h + w["b"], 4)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), (h @ w["out"] - then[0]) ** 2

    return lax.scan(step, (jnp.zeros(6), jnp.zeros(6)), (x[:-1], x[1:]))[1].sum() / len(x)


def convolution(w, x, y):
    hidden = relu(lax.conv(x, w["kernel"], (1, 1), "VALID") + w["b"][:, None, None])
    hidden = lax.reduce_window(hidden, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    logs = log_softmax(hidden.reshape(len(x), -1) @ w["out"], 1)
    return -logs[np.arange(len(y)), y].mean()


def quantiles(w, x, y):
    return ((jnp.sort(x @ w) - np.sort(y)) ** 2).mean()


def descent(name, small):
    """A function that takes the steps of a loop: it returns the losses. Its first call compiles."""
    loop = loop_models.model(name, small)
    tree_map = torch.utils._pytree.tree_map
    start, data = tree_map(np.asarray, loop.params), [np.asarray(leaf) for leaf in loop.data]
    gradient = jax.value_and_grad(lambda w: globals()[name](w, *data))

    def step(w, _):
        value, slope = gradient(w)
        return jax.tree.map(lambda one, d: one - loop.learn_rate * d, w, slope), value

    @partial(jax.jit, static_argnums=1)
    def run(w, count):
        return lax.scan(step, w, None, length=count)[1]

    return lambda: jax.block_until_ready(run(start, loop.steps))
