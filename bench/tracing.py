"""What tracing a loss with a loop in Python takes: `python bench/tracing.py [steps]` prints microseconds a node."""

import sys
import time

import torch

from fastpoly._fuse.trace import trace


def garch(p, r):
    h, total = r.var(), 0.0
    for t in range(1, len(r)):
        h = p[0] + p[1] * r[t - 1] ** 2 + p[2] * h
        total = total + torch.log(h) + r[t] ** 2 / h
    return total / len(r)


def lotka_volterra(p, y):
    a, b, total = y[0], y[1], 0.0
    for t in range(1, len(y)):
        a, b = a + 0.02 * (p[0] * a - p[1] * a * b), b + 0.02 * (p[2] * a * b - p[0] * b)
        total = total + (a - y[t]) ** 2
    return total


def kalman(p, y):
    turn = torch.stack([torch.stack([torch.ones_like(p[0]), p[0]]), torch.stack([torch.zeros_like(p[0]), p[1]])])
    mean, spread, total = torch.zeros(2, dtype=y.dtype), torch.eye(2, dtype=y.dtype), 0.0
    for t in range(len(y)):
        mean, spread = turn @ mean, turn @ spread @ turn.T + p[2] ** 2
        off, variance = y[t] - mean[0], spread[0, 0] + 1
        gain = spread[:, 0] / variance
        mean, spread = mean + gain * off, spread - torch.outer(gain, gain) * variance
        total = total + torch.log(variance) + off**2 / variance
    return total


def hidden_markov(p, y):
    move = torch.log_softmax(p * p[:, None], 1)
    alpha = -((y[0] - p) ** 2)
    for t in range(1, len(y)):
        alpha = torch.logsumexp(alpha[:, None] + move, 0) - (y[t] - p) ** 2
    return -torch.logsumexp(alpha, 0)


def recurrent(p, y):
    h = torch.zeros_like(y[:3])
    for t in range(len(y)):
        h = torch.tanh(torch.outer(p, p) @ h + p * y[t])
    return (h.sum() - 1) ** 2


def step_of(loss, data):
    """As `descend` makes it."""

    def step(tensors):
        (own,) = (tensor.detach().requires_grad_() for tensor in tensors)
        with torch.enable_grad():
            value = loss(own, data)
            (gradient,) = torch.autograd.grad(value, own)
        return [own.detach() - 0.01 * gradient, value.detach()]

    return step


if __name__ == "__main__":
    torch.manual_seed(0)
    data = torch.rand(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, dtype=torch.float64) + 0.1
    for loss in (garch, lotka_volterra, kalman, hidden_markov, recurrent):
        step, start = step_of(loss, data), torch.rand(3, dtype=torch.float64)
        seconds = []
        for _ in range(3):
            began = time.process_time()
            graph = trace(step, [start], {})
            seconds.append(time.process_time() - began)
        nodes, least = len(graph.nodes), min(seconds)
        print(f"{loss.__name__:15} {nodes:7,} nodes {least:6.2f} s {least / nodes * 1e6:5.1f} us a node", flush=True)
