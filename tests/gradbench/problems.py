"""GradBench's problems, written from its descriptions: what is differentiated, and inputs of a size.

Each is a `Problem`: a loss of (params, *data) that returns one number, or that and what else is asked for (`aux`), such
as Newton's direction or the rows of a Jacobian; and the inputs of one of its sizes, smallest first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

DTYPE = torch.float64


@dataclass(frozen=True)
class Problem:
    """See above.

    Attributes:
        loss: of (params, *data).
        inputs: inputs(*size) -> (params, data).
        sizes: what GradBench asks for, the smallest first.
        has_aux: does the loss return something beside its number?
    """

    loss: Callable[..., Any]
    inputs: Callable[..., tuple[Any, tuple[Any, ...]]]
    sizes: tuple[tuple[int, ...], ...]
    has_aux: bool = False


def draws(seed: int) -> Callable[..., torch.Tensor]:
    """Numbers between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand(*shape, generator=generator, dtype=DTYPE)


# -- hello: the square of a number
# ----------------------------------------------------------------------------------------


def square(x):
    return x * x


# -- lse: the logarithm of a sum of exponentials
# ----------------------------------------------------------------------------------------


def log_sum_exp(x):
    largest = x.max()
    return largest + (x - largest).exp().sum().log()


# -- llsq: least squares of a polynomial through the sign function
# ----------------------------------------------------------------------------------------


def least_squares(x, t, s):
    return 0.5 * ((s - torch.vander(t, len(x), increasing=True) @ x) ** 2).sum()


def llsq_inputs(n, m):
    t = torch.linspace(-1, 1, n, dtype=DTYPE)
    return draws(1)(m), (t, t.sign())


# -- det: a determinant by expansion by minors
# ----------------------------------------------------------------------------------------


def determinant(matrix):
    """Along the first row; what several minors have in common is computed once."""
    size = len(matrix)
    minors = {(column,): matrix[size - 1, column] for column in range(size)}
    for row in reversed(range(size - 1)):
        larger = {}
        for columns in _subsets(size, size - row):
            total = 0.0
            for at, column in enumerate(columns):
                rest = (*columns[:at], *columns[at + 1 :])
                total = total + (-1) ** at * matrix[row, column] * minors[rest]
            larger[columns] = total
        minors = larger
    return minors[tuple(range(size))]


def _subsets(size, count):
    from itertools import combinations

    return combinations(range(size), count)


# -- gmm: the log posterior of a mixture of Gaussians with a Wishart prior
# ----------------------------------------------------------------------------------------


def mixture(params, x, gamma, m):
    alpha, mu, q, lower = (params[name] for name in ("alpha", "mu", "q", "l"))
    (n, d), k = x.shape, len(alpha)
    roots = torch.zeros(k, d, d, dtype=DTYPE)
    at = 0
    for column in range(d):
        roots[:, column, column] = q[:, column].exp()
        roots[:, column + 1 :, column] = lower[:, at : at + d - column - 1]
        at += d - column - 1
    off = x[:, None, :] - mu
    whitened = torch.einsum("kij,nkj->nki", roots, off)
    beta = alpha - 0.5 * (whitened**2).sum(2) + q.sum(1)
    likelihood = -n * (d / 2 * math.log(2 * math.pi) + torch.logsumexp(alpha, 0)) + torch.logsumexp(beta, 1).sum()
    freedom = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + sum(math.lgamma((freedom - j) / 2) for j in range(d))
    prior = k * (freedom * d * math.log(gamma / math.sqrt(2)) - log_gamma)
    return likelihood + prior - gamma**2 / 2 * (roots**2).sum() + m * q.sum()


def gmm_inputs(n, d, k):
    draw = draws(2)
    params = {"alpha": draw(k), "mu": draw(k, d), "q": draw(k, d), "l": draw(k, d * (d - 1) // 2)}
    return params, (draw(n, d), 1.0, 0)


# -- kmeans: Newton's direction for the distances to the nearest centroids
# ----------------------------------------------------------------------------------------


def nearest_centroids(centroids, points):
    def cost(centroids):
        return ((points[:, None, :] - centroids) ** 2).sum(2).amin(1).sum()

    centroids = centroids if centroids.requires_grad else centroids.requires_grad_()
    value = cost(centroids)
    (slope,) = torch.autograd.grad(value, centroids, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), centroids, retain_graph=True)  # the Hessian is diagonal
    return value, slope / curvature


def kmeans_inputs(k, n, d):
    points = draws(3)(n, d)
    return points[-k:].clone(), (points,)


# -- ode: Runge-Kutta
# ----------------------------------------------------------------------------------------


def runge_kutta(x, steps):
    factors = (x.cumsum(0) - x[0])[1:]

    def slope(y):
        return torch.cat([x[:1], factors * y[:-1]])

    y, h = torch.zeros_like(x), 1 / steps
    for _ in range(steps):
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y[-1]


# -- lstm: characters, predicted by cells whose matrices are diagonal
# ----------------------------------------------------------------------------------------


def characters(params, state, sequence):
    main, extra = params["main"], params["extra"]
    hidden, cells = [*state[::2]], [*state[1::2]]
    total = 0.0
    for t in range(len(sequence) - 1):
        x = sequence[t] * extra[0]
        for layer in range(len(hidden)):
            gates = torch.cat([x, hidden[layer], x, hidden[layer]]) * main[2 * layer] + main[2 * layer + 1]
            forget, inward, outward, change = gates.chunk(4)
            cells[layer] = cells[layer] * forget.sigmoid() + inward.sigmoid() * change.tanh()
            hidden[layer] = outward.sigmoid() * cells[layer].tanh()
            x = hidden[layer]
        guess = x * extra[1] + extra[2]
        guess = guess - torch.log(guess.exp().sum() + 2)
        total = total + (sequence[t + 1] * guess).sum()
    return -total / ((len(sequence) - 1) * sequence.shape[1])


def lstm_inputs(layers, length):
    draw, bits = draws(4), 14
    params = {"main": draw(2 * layers, 4 * bits), "extra": draw(3, bits)}
    return params, (draw(2 * layers, bits), draw(length, bits).round())


# -- ba: what a camera sees of points, and the rows of its sparse Jacobian
# ----------------------------------------------------------------------------------------


def bundle(params, features):
    """Observation i has a camera, a point and a weight of its own here: rows of the Jacobian are theirs alone."""
    cameras, points, weights = (p if p.requires_grad else p.requires_grad_() for p in params)
    turn, center, focal, principal, radial = cameras.split([3, 3, 1, 2, 2], 1)
    x = points - center
    angle = (turn * turn).sum(1, keepdim=True).sqrt()
    axis = turn / angle
    seen = x * angle.cos() + torch.linalg.cross(axis, x) * angle.sin()
    seen = seen + axis * (axis * x).sum(1, keepdim=True) * (1 - angle.cos())
    flat = seen[:, :2] / seen[:, 2:]
    square = (flat * flat).sum(1, keepdim=True)
    flat = flat * (1 + radial[:, :1] * square + radial[:, 1:] * square * square)
    errors = weights[:, None] * (flat * focal + principal - features)
    rows = [torch.autograd.grad(errors[:, k].sum(), (cameras, points, weights), create_graph=True) for k in range(2)]
    return (errors * errors).sum() + ((1 - weights**2) ** 2).sum(), (errors, rows)


def ba_inputs(count):
    draw = draws(5)
    cameras, points = draw(count, 11), draw(count, 3) + torch.tensor([0.0, 0.0, 4.0], dtype=DTYPE)
    return (cameras, points, draw(count) + 0.5), (draw(count, 2),)


# -- ht: a hand's skeleton, posed by angles, and how far its vertices are from points
# ----------------------------------------------------------------------------------------

FINGERS, JOINTS = 5, 3


def hand(theta, bones, weights, vertices, points):
    """`bones` (16, 4, 4) relative to their parents, `weights` (vertices, 16), `vertices` (vertices, 4)."""

    def turned(angles):
        a, b, c = angles
        zero, one = torch.zeros_like(a), torch.ones_like(a)
        about_x = torch.stack([one, zero, zero, zero, a.cos(), -a.sin(), zero, a.sin(), a.cos()]).reshape(3, 3)
        about_y = torch.stack([b.cos(), zero, b.sin(), zero, one, zero, -b.sin(), zero, b.cos()]).reshape(3, 3)
        about_z = torch.stack([c.cos(), -c.sin(), zero, c.sin(), c.cos(), zero, zero, zero, one]).reshape(3, 3)
        whole = torch.eye(4, dtype=DTYPE)
        whole[:3, :3] = about_z @ about_y @ about_x
        return whole

    zero = torch.zeros((), dtype=DTYPE)
    whole = [bones[0]]
    for finger in range(FINGERS):
        parent, first = whole[0], 6 + 4 * finger
        for joint in range(JOINTS):
            angles = (theta[first], theta[first + 1], zero) if joint == 0 else (theta[first + 1 + joint], zero, zero)
            parent = parent @ bones[1 + JOINTS * finger + joint] @ turned(angles)
            whole.append(parent)
    posed = torch.einsum("vb,bij,vj->vi", weights, torch.stack(whole), vertices)[:, :3]
    placed = posed @ turned(theta[:3])[:3, :3].T + theta[3:6]
    off = points - placed[: len(points)]
    return (off * off).sum(), off


def ht_inputs(points):
    draw = draws(6)
    count = 1 + FINGERS * JOINTS
    bones = torch.eye(4, dtype=DTYPE).repeat(count, 1, 1)
    bones[:, :3, 3] = draw(count, 3)
    vertices = torch.cat([draw(points, 3), torch.ones(points, 1, dtype=DTYPE)], 1)
    weights = draw(points, count)
    return draw(26), (bones, weights / weights.sum(1, keepdim=True), vertices, draw(points, 3))


# -- saddle, particle: gradient descent within a loss
# ----------------------------------------------------------------------------------------


def saddle(start):
    """The square of where descent in x of ascent in y comes to, some steps of each."""

    def height(x, y):
        return (x[0] ** 2 + y[0] ** 2) - (x[1] ** 2 + y[1] ** 2)

    def best(function, start, steps=10, rate=0.1):
        point = start.clone()  # x and y start at one tensor, and neither's slope is the other's
        for _ in range(steps):
            (slope,) = torch.autograd.grad(function(point), point, create_graph=True)
            point = point - rate * slope
        return point

    start = start if start.requires_grad else start.requires_grad_()
    x = best(lambda x: height(x, best(lambda y: -height(x, y), start, 4)), start, 4)
    return (x * x).sum()


def particle(w):
    """The square of where a charged particle crosses the axis, by Euler's method, 70 steps of it."""
    w = w if w.requires_grad else w.requires_grad_()
    zero = torch.zeros((), dtype=DTYPE)
    charges = torch.stack([torch.stack([zero + 10, 10 - w]), torch.stack([zero + 10, zero])])
    x, v, dt = torch.tensor([0.0, 8.0], dtype=DTYPE), torch.tensor([0.75, 0.0], dtype=DTYPE), 0.1
    for _ in range(70):
        place = x if x.requires_grad else x.clone().requires_grad_()
        potential = (1 / ((place - charges) ** 2).sum(1).sqrt()).sum()
        (pull,) = torch.autograd.grad(potential, place, create_graph=True)
        v = v - dt * pull
        x = x + dt * v
    crossing = x - x[1] / v[1] * v
    return crossing[0] ** 2


PROBLEMS = {
    "hello": Problem(square, lambda: (torch.tensor(1.5, dtype=DTYPE), ()), ((),)),
    "lse": Problem(log_sum_exp, lambda n: (draws(0)(n), ()), ((2_500,), (5_000,))),
    "llsq": Problem(least_squares, llsq_inputs, ((16, 128), (32, 128))),
    "det": Problem(determinant, lambda size: (draws(7)(size, size), ()), ((5,), (6,))),
    "gmm": Problem(mixture, gmm_inputs, ((1_000, 2, 5), (1_000, 2, 10))),
    "kmeans": Problem(nearest_centroids, kmeans_inputs, ((10, 1_000, 8), (10, 1_000, 16)), has_aux=True),
    "ode": Problem(runge_kutta, lambda n, steps: (draws(8)(n), (steps,)), ((1_000, 1), (1_000, 10))),
    "lstm": Problem(characters, lstm_inputs, ((2, 1_024), (4, 1_024))),
    "ba": Problem(bundle, ba_inputs, ((31_843,), (36_455,)), has_aux=True),
    "ht": Problem(hand, ht_inputs, ((100,), (192,)), has_aux=True),
    "saddle": Problem(saddle, lambda: (torch.tensor([1.0, 1.0], dtype=DTYPE), ()), ((),)),
    "particle": Problem(particle, lambda: (torch.tensor(0.3, dtype=DTYPE), ()), ((),)),
}
