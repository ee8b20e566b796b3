"""Losses with a loop over time, as one writes them in torch: a Python loop. 17 digits in, no tricks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

D = torch.float64


@dataclass(frozen=True)
class Recurrent:
    """loss(params, *data), where it starts, and a learn rate at which it falls."""

    loss: Callable[..., torch.Tensor]
    params: Any
    data: tuple[torch.Tensor, ...]
    learn_rate: float


def garch(p, r):
    """The likelihood of returns whose variance is handed on: three parameters."""
    h, total = torch.ones((), dtype=r.dtype), 0.0
    for t in range(1, len(r)):
        h = p[0] + p[1] * r[t - 1] ** 2 + p[2] * h
        total = total + torch.log(h) + r[t] ** 2 / h
    return total / len(r)


def kalman(p, y):
    """The likelihood of a filter of two states: position and velocity, the position seen."""
    move = torch.stack([torch.stack([torch.ones_like(p[0]), p[0]]), torch.stack([torch.zeros_like(p[0]), p[1]])])
    noise = torch.diag(p[2:4] ** 2)
    seen, error = torch.tensor([[1.0, 0.0]], dtype=y.dtype), p[4] ** 2
    mean, spread, total = torch.zeros(2, dtype=y.dtype), torch.eye(2, dtype=y.dtype), 0.0
    for t in range(len(y)):
        mean, spread = move @ mean, move @ spread @ move.T + noise
        off, scale = y[t] - (seen @ mean)[0], (seen @ spread @ seen.T)[0, 0] + error
        gain = (spread @ seen.T)[:, 0] / scale
        mean, spread = mean + gain * off, spread - torch.outer(gain, gain) * scale
        total = total + torch.log(scale) + off**2 / scale
    return total / len(y)


def hmm(p, y):
    """The likelihood of a chain of four hidden states, in logarithms."""
    move = torch.log_softmax(p["move"], 1)
    alpha = torch.log_softmax(p["start"], 0) - (y[0] - p["means"]) ** 2
    for t in range(1, len(y)):
        alpha = torch.logsumexp(alpha[:, None] + move, 0) - (y[t] - p["means"]) ** 2
    return -torch.logsumexp(alpha, 0) / len(y)


def rnn(p, x):
    """A network of eight hidden units with a hand-written cell; the next value is to be told."""
    h, hidden = torch.zeros(8, dtype=x.dtype), []
    for t in range(len(x)):
        h = torch.tanh(p["W"] @ x[t] + p["U"] @ h + p["b"])
        hidden.append(h)
    return ((torch.stack(hidden) @ p["out"] - x[:, 0]) ** 2).mean()


def lotka_volterra(p, y):
    """Hunters and prey, by Euler's method."""
    a, b, total = y[0, 0], y[0, 1], 0.0
    for t in range(1, len(y)):
        a, b = a + 0.01 * (p[0] * a - p[1] * a * b), b + 0.01 * (p[2] * a * b - p[3] * b)
        total = total + (a - y[t, 0]) ** 2 + (b - y[t, 1]) ** 2
    return total / len(y)


def residual_mlp(p, x, y):
    """Layers with parameters of their own, 16 wide, on 64 samples."""
    for k in range(len(p["W"])):
        x = x + torch.tanh(x @ p["W"][k] + p["b"][k]) / len(p["W"])
    return ((x.sum(1) - y) ** 2).mean()


LOSSES = {f.__name__: f for f in (garch, kalman, hmm, rnn, lotka_volterra, residual_mlp)}


def model(name: str, steps: int) -> Recurrent:
    """A loss with so many time steps (layers, of the residual network), and its data."""
    torch.manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, dtype=D) * scale

    if name == "garch":
        return Recurrent(garch, torch.tensor([0.05, 0.1, 0.8], dtype=D), (draw(steps + 1),), 1e-4)
    if name == "kalman":
        return Recurrent(kalman, torch.tensor([0.1, 0.9, 0.2, 0.3, 0.5], dtype=D), (draw(steps),), 1e-4)
    if name == "hmm":
        params = {"move": draw(4, 4), "means": draw(4), "start": draw(4)}
        return Recurrent(hmm, params, (draw(steps + 1),), 1e-3)
    if name == "rnn":
        params = {"W": draw(8, 3, scale=0.3), "U": draw(8, 8, scale=0.3), "b": draw(8, scale=0.1), "out": draw(8)}
        return Recurrent(rnn, params, (draw(steps, 3),), 1e-3)
    if name == "lotka_volterra":
        t = 0.01 * torch.arange(steps + 1, dtype=D)
        y = torch.stack([2 + torch.sin(t), 1 + 0.5 * torch.cos(t)], 1)
        return Recurrent(lotka_volterra, torch.tensor([1.1, 0.4, 0.1, 0.4], dtype=D), (y,), 1e-5)
    params = {"W": draw(steps, 16, 16, scale=0.2), "b": draw(steps, 16, scale=0.1)}
    return Recurrent(residual_mlp, params, (draw(64, 16), draw(64)), 1e-4)
