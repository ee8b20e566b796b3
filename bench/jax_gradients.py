"""The peers of tests/gradbench/problems.py, as users of JAX write them: jitted, with lax.scan where there is a loop.

Several functions of a problem are several ways to write it, of which the quickest counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from gradbench.problems import FINGERS, JOINTS, determinant, square
from jax import lax
from jax.scipy.special import logsumexp

jax.config.update("jax_enable_x64", True)


def log_sum_exp(x):
    largest = x.max()
    return largest + jnp.log(jnp.exp(x - largest).sum())


def least_squares(x, t, s):
    return 0.5 * ((s - jnp.vander(t, len(x), increasing=True) @ x) ** 2).sum()


def horner(x, t, s):
    return 0.5 * ((s - jnp.polyval(x[::-1], t)) ** 2).sum()


def mixture(params, x, gamma, m):
    alpha, mu, q, lower = (params[name] for name in ("alpha", "mu", "q", "l"))
    (n, d), k = x.shape, len(alpha)
    columns, rows = jnp.triu_indices(d, 1)
    roots = jax.vmap(jnp.diag)(jnp.exp(q)).at[:, rows, columns].set(lower)
    whitened = jnp.einsum("kij,nkj->nki", roots, x[:, None, :] - mu)
    beta = alpha - 0.5 * (whitened**2).sum(2) + q.sum(1)
    likelihood = -n * (d / 2 * math.log(2 * math.pi) + logsumexp(alpha)) + logsumexp(beta, 1).sum()
    freedom = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + sum(math.lgamma((freedom - j) / 2) for j in range(d))
    prior = k * (freedom * d * math.log(gamma / math.sqrt(2)) - log_gamma)
    return likelihood + prior - gamma**2 / 2 * (roots**2).sum() + m * q.sum()


def nearest_centroids(centroids, points):
    def cost(centroids):
        return ((points[:, None, :] - centroids) ** 2).sum(2).min(1).sum()

    slope, curvature = jax.jvp(jax.grad(cost), (centroids,), (jnp.ones_like(centroids),))
    return cost(centroids), slope / curvature


def runge_kutta(x, steps, repeat):
    h, factors = 1 / steps, (jnp.cumsum(x) - x[0])[1:]

    def slope(y):
        return jnp.concatenate([x[:1], factors * y[:-1]])

    def step(y):
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return repeat(step, jnp.zeros_like(x), steps)[-1]


def scanned(step, state, count):
    return lax.scan(lambda state, _: (step(state), None), state, None, length=count)[0]


def unrolled(step, state, count):
    for _ in range(count):
        state = step(state)
    return state


def characters(params, state, sequence):
    main, extra = params["main"], params["extra"]

    def step(carry, pair):
        hidden, cells = carry
        now, following = pair
        x, hiddens, cellss = now * extra[0], [], []
        for layer in range(len(hidden)):
            gates = jnp.concatenate([x, hidden[layer], x, hidden[layer]]) * main[2 * layer] + main[2 * layer + 1]
            forget, inward, outward, change = jnp.split(gates, 4)
            cell = cells[layer] * jax.nn.sigmoid(forget) + jax.nn.sigmoid(inward) * jnp.tanh(change)
            x = jax.nn.sigmoid(outward) * jnp.tanh(cell)
            hiddens.append(x)
            cellss.append(cell)
        guess = x * extra[1] + extra[2]
        guess = guess - jnp.log(jnp.exp(guess).sum() + 2)
        return (jnp.stack(hiddens), jnp.stack(cellss)), (following * guess).sum()

    terms = lax.scan(step, (state[::2], state[1::2]), (sequence[:-1], sequence[1:]))[1]
    return -terms.sum() / ((len(sequence) - 1) * sequence.shape[1])


def errors_of(camera, point, weight, feature):
    turn, center, focal, principal, radial = camera[:3], camera[3:6], camera[6], camera[7:9], camera[9:]
    x = point - center
    angle = jnp.sqrt((turn * turn).sum())
    axis = turn / angle
    seen = x * jnp.cos(angle) + jnp.cross(axis, x) * jnp.sin(angle) + axis * (axis @ x) * (1 - jnp.cos(angle))
    flat = seen[:2] / seen[2]
    square = (flat * flat).sum()
    flat = flat * (1 + radial[0] * square + radial[1] * square * square)
    return weight * (flat * focal + principal - feature)


def bundle(params, features):
    errors = jax.vmap(errors_of)(*params, features)
    rows = jax.vmap(jax.jacrev(errors_of, (0, 1, 2)))(*params, features)
    rows = [jax.tree.map(lambda whole, k=k: whole[:, k], rows) for k in range(2)]
    return (errors**2).sum() + ((1 - params[2] ** 2) ** 2).sum(), (errors, rows)


def hand(theta, bones, weights, vertices, points):
    def turned(angles):
        (a, b, c), (sin_a, sin_b, sin_c) = jnp.cos(angles), jnp.sin(angles)
        about_x = jnp.array([[1, 0, 0], [0, a, -sin_a], [0, sin_a, a]])
        about_y = jnp.array([[b, 0, sin_b], [0, 1, 0], [-sin_b, 0, b]])
        about_z = jnp.array([[c, -sin_c, 0], [sin_c, c, 0], [0, 0, 1]])
        return jnp.eye(4).at[:3, :3].set(about_z @ about_y @ about_x)

    angles = theta[6:].reshape(FINGERS, 4)
    zero = jnp.zeros(FINGERS)
    first = jnp.stack([angles[:, 0], angles[:, 1], zero], 1)
    others = jnp.stack([angles[:, 2:], *2 * [jnp.zeros((FINGERS, JOINTS - 1))]], 2)
    turns = jax.vmap(jax.vmap(turned))(jnp.concatenate([first[:, None], others], 1))
    moves = bones[1:].reshape(FINGERS, JOINTS, 4, 4) @ turns
    fingers, parent = [], bones[0]
    for joint in range(JOINTS):
        parent = parent @ moves[:, joint]
        fingers.append(parent)
    whole = jnp.concatenate([bones[:1], jnp.stack(fingers, 1).reshape(-1, 4, 4)])
    posed = jnp.einsum("vb,bij,vj->vi", weights, whole, vertices)[:, :3]
    placed = posed @ turned(theta[:3])[:3, :3].T + theta[3:6]
    off = points - placed[: len(points)]
    return (off * off).sum(), off


def saddle(start, repeat):
    def height(x, y):
        return (x[0] ** 2 + y[0] ** 2) - (x[1] ** 2 + y[1] ** 2)

    def best(function, point):
        return repeat(lambda point: point - 0.1 * jax.grad(function)(point), point, 4)

    x = best(lambda x: height(x, best(lambda y: -height(x, y), start)), start)
    return (x * x).sum()


def particle(w, repeat):
    charges, dt = jnp.array([[10.0, 10.0 - w], [10.0, 0.0]]), 0.1

    def potential(place):
        return (1 / jnp.sqrt(((place - charges) ** 2).sum(1))).sum()

    def step(state):
        x, v = state
        v = v - dt * jax.grad(potential)(x)
        return x + dt * v, v

    x, v = repeat(step, (jnp.array([0.0, 8.0]), jnp.array([0.75, 0.0])), 70)
    return (x - x[1] / v[1] * v)[0] ** 2


WAYS: dict[str, tuple[Callable[..., Any], ...]] = {
    "hello": (square,),
    "lse": (log_sum_exp, logsumexp),
    "llsq": (least_squares, horner),
    "det": (determinant,),
    "gmm": (mixture,),
    "kmeans": (nearest_centroids,),
    "ode": (partial(runge_kutta, repeat=scanned), partial(runge_kutta, repeat=unrolled)),
    "lstm": (characters,),
    "ba": (bundle,),
    "ht": (hand,),
    "saddle": (partial(saddle, repeat=unrolled), partial(saddle, repeat=scanned)),
    "particle": (partial(particle, repeat=scanned), partial(particle, repeat=unrolled)),
}
"""The losses of each problem."""

LONGEST_UNROLLED = 20
"""Iterations; XLA takes minutes for some hundreds of them."""


def ways(name: str, params: Any, data: Any, has_aux: bool) -> list[Callable[[], Any]]:
    """Functions of nothing that return ((loss, aux) or loss, gradient), one for each way."""
    params = jax.tree.map(jnp.asarray, params)
    fixed = tuple(at for at, value in enumerate(data) if isinstance(value, (int, float)))
    data = tuple(value if at in fixed else jnp.asarray(value) for at, value in enumerate(data))
    found = WAYS[name][:1] if name == "ode" and data[0] > LONGEST_UNROLLED else WAYS[name]

    def way(loss: Callable[..., Any]) -> Callable[[], Any]:
        call = jax.jit(jax.value_and_grad(loss, has_aux=has_aux), static_argnums=[1 + at for at in fixed])
        return lambda: jax.block_until_ready(call(params, *data))

    return [way(loss) for loss in found]
