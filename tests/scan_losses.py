"""Losses with loops over time that are written openly, and the plain loop that each should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as tree

Scan = Callable[..., tuple[Any, Any]]


def plain(step, carry, data=(), length=None, *, xs=None, reverse=False, checkpoint_bytes=None):
    """The loop in Python."""
    data = data if isinstance(data, tuple) else (data,)
    rows = None if xs is None else tree.tree_leaves(xs)
    count = length if rows is None else len(rows[0])
    outputs = []
    for t in reversed(range(count)) if reverse else range(count):
        last = () if rows is None else (tree.tree_map(lambda x, t=t: x[t], xs),)
        carry, output = step(carry, *data, *last)
        outputs.append(output)
    if outputs[0] is None:
        return carry, None
    return carry, tree.tree_map(lambda *parts: torch.stack(parts), *(outputs[::-1] if reverse else outputs))


def garch(scan: Scan, p, r):
    def step(h, x):
        h = p[0] + p[1] * x**2 + p[2] * h
        return h, h

    _, hs = scan(step, r.var(), xs=r[:-1])
    return (torch.log(hs) + r[1:] ** 2 / hs).mean()


def added_up(scan: Scan, p, r):
    def step(carry, x):
        h, total, before = carry
        h = p[0] + p[1] * before**2 + p[2] * h
        return (h, total + torch.log(h) + x**2 / h, x), None

    (_, total, _), _ = scan(step, (r.var(), r.new_zeros(()), r[0]), xs=r[1:])
    return total / len(r)


def rnn(scan: Scan, p, x):
    def step(h, x):
        h = torch.tanh(p[:, :3] @ h + p[:, 3:5] @ x + p[:, 5])
        return h, h

    h, hs = scan(step, x.new_zeros(3), xs=x)
    return (hs**2).mean() + h.sum()


def reverse_rnn(scan: Scan, p, x):
    def step(h, x):
        h = torch.tanh(p[:, :3] @ h + p[:, 3:5] @ x + p[:, 5])
        return h, h * 2

    h, hs = scan(step, x.new_zeros(3), xs=x, reverse=True)
    return (hs**2 * torch.arange(len(x)).to(x)[:, None]).mean() + h.sum()


CELL = torch.nn.LSTMCell(2, 3, dtype=torch.float64)


def lstm(scan: Scan, p, x):
    names = dict(CELL.named_parameters())
    sizes = [one.numel() for one in names.values()]
    parts = p.reshape(-1)[: sum(sizes)].split(sizes)
    values = {name: part.view(one.shape) for (name, one), part in zip(names.items(), parts, strict=True)}

    def step(carry, x):
        h, c = torch.func.functional_call(CELL, values, (x, carry))
        return (h, c), {"h": h}

    _, out = scan(step, (x.new_zeros(3), x.new_zeros(3)), xs=x)
    return (out["h"] ** 2).sum()


def kalman(scan: Scan, p, y):
    """Two states, of which the first is seen."""
    move = torch.stack([torch.stack([p[0], p[1]]), torch.stack([-p[1], p[0]])])
    noise = torch.eye(2).to(p) * p[2] ** 2
    see = torch.tensor([[1.0, 0.0]]).to(p)

    def step(carry, y):
        m, cov = carry
        m, cov = move @ m, move @ cov @ move.T + noise
        s = (see @ cov @ see.T)[0, 0] + p[3] ** 2
        gain = (cov @ see.T)[:, 0] / s
        off = y - m[0]
        return (m + gain * off, cov - torch.outer(gain, gain) * s), torch.log(s) + off**2 / s

    _, terms = scan(step, (p.new_zeros(2), torch.eye(2).to(p)), xs=y)
    return terms.mean()


def hidden_markov(scan: Scan, p, rows):
    move = torch.log_softmax(p[:, :3], 1)

    def step(alpha, row):
        return torch.logsumexp(alpha[:, None] + move, 0) + row * p[:, 3], ()

    alpha, _ = scan(step, torch.log_softmax(p[:, 4], 0), xs=rows)
    return torch.logsumexp(alpha, 0)


def predators(scan: Scan, p):
    a, b, c, d = p

    def step(state):
        u, v = state["prey"], state["predators"]
        u, v = u + 0.01 * (a * u - b * u * v), v + 0.01 * (c * u * v - d * v)
        return {"prey": u, "predators": v}, torch.stack([u, v])

    start = {"prey": p.new_tensor(1.0), "predators": p.new_tensor(0.5)}
    _, ys = scan(step, start, length=100)
    return ((ys - 1) ** 2).mean()


def nested(scan: Scan, p, x):
    def outer(h, x):
        def inner(z):
            z = torch.sin(z * p[0]) + p[1] * x
            return z, z * z

        z, zs = scan(inner, h, length=12)
        return z, zs.sum()

    h, ys = scan(outer, p[2], xs=x)
    return ys.mean() + h


def thrice(scan: Scan, p, x):
    def first(h, a):
        def second(h, b):
            def third(h, c):
                h = torch.tanh(p[0] * h + c * p[1] + b)
                return h, h * c

            h, cs = scan(third, h, xs=x[:9])
            return h, cs.mean()

        h, bs = scan(second, h * a, xs=x[9:])
        return h * p[2], bs.sum()

    h, ys = scan(first, p[2], xs=x[5:14])
    return ys.mean() + h


def inner_loop_of_its_own(scan: Scan, p, x):
    """A loop within that does not depend on the one around it, and one that is the same in all its steps."""

    def step(h, row):
        _, ys = scan(lambda z, y: (z * p[0] + y * row[0], z), row[1], xs=row)
        _, same = scan(lambda z: (torch.sin(z) * p[1], z), p[2], length=10)
        return torch.tanh(h + ys.sum() + same[3]), same.sum()

    h, out = scan(step, p[0], xs=x)
    return h + out.mean()


def counted(scan: Scan, p, x):
    """Carries of several shapes and dtypes."""

    def step(carry, x):
        k, even, h, m = carry
        h = torch.where(even, p[0] * h + x["a"], p[1] * h - x["b"][0])
        m = m * 0.9 + torch.outer(h * x["b"], x["b"])
        return (k + 1, k % 2 == 0, h, m), (h, m.diagonal(), k)

    carry = (torch.tensor(3), torch.tensor(True), p[2], p.new_zeros((2, 2)))
    (k, _, h, m), (hs, ms, ks) = scan(step, carry, xs={"a": x, "b": x[:, None] * x.new_tensor([1.0, 2.0])})
    return h + m.sum() + (hs * ks).mean() + ms.std() + k * p[0]


def unchanged(scan: Scan, p, x):
    """What is handed on as it is, swapped, or from a slice; and what nobody reads."""

    def step(carry, x):
        same, one, other, before, unread = carry
        one = torch.sin(one * same) + before
        return (same, other, one, x * p[1], unread * x), (one + other, same, before)

    carry = (p[0], p[1], p[2], p[0] * 2, p[1])
    (same, one, other, before, _), (ys, sames, befores) = scan(step, carry, xs=x)
    return ys.mean() + same * one + other * before + sames.sum() + (befores**2).sum()


def ignored(scan: Scan, p, x):
    """A step that ignores what it is handed, and a carry whose end alone is read."""
    last, ys = scan(lambda _, x: (torch.sin(x * p[0]), x * p[1]), p[2], xs=x)
    end, _ = scan(lambda h, x: (x * p[2] + 0 * h.detach(), h), p[1], xs=x)
    return last + ys.sum() + end


def rows_with_a_gradient(scan: Scan, p):
    h, ys = scan(lambda h, x: (torch.sin(h * 0.9) + x, h * x), p[0], xs=p)
    _, back = scan(lambda h, x: (h * x[0], (h + x[1],)), h, xs=[p, p**2], reverse=True)
    return (ys**2).mean() + back[0].sum()


def branches(scan: Scan, p, x):
    def step(h, x):
        if h > p[1]:
            h = h - torch.sqrt(h - p[1]) * p[0]
        elif x > 0:
            h = h + x * p[2]
        return h * 0.9, h

    _, ys = scan(step, p[0], xs=x)
    return (ys**2).mean()


def at_the_end(scan: Scan, p):
    """The last step makes a root of zero, whose slope is infinite, and nobody looks at it."""
    start = p[1] - p[1].detach() + 9.0
    _, ys = scan(lambda c: ((c[0] - 1, torch.sqrt(c[0] - 1)), c[1] * p[0]), (start, p[1]), length=9)
    return ys.sum()


def with_memory(scan: Scan, p, x):
    """A step that fills a tensor of its own."""

    def step(h, x):
        parts = h.new_zeros(2)
        parts[0] = p[0] * h[1] + x
        parts[1] = torch.tanh(h[0]) * p[1]
        return parts, parts.sum()

    h, ys = scan(step, x.new_ones(2) * p[2], xs=x)
    return (ys**2).mean() + h[0]


def with_data(scan: Scan, p, x):
    def step(h, weights, bias, x):
        return torch.tanh(weights * h + bias * x), h

    _, ys = scan(step, p[2], (p[0], p[1]), xs=x)
    return (ys**2).mean()


def picked(scan: Scan, p, symbols):
    """Rows picked by whole numbers."""

    def step(h, k):
        return torch.tanh(h * 0.9 + p.gather(0, k.expand(1))[0]), h

    _, ys = scan(step, p[0], xs=symbols)
    return (ys**2).mean()


def indexed(scan: Scan, p, symbols):
    """What is seen of a hidden Markov model picks a column; and a tensor picks from what is handed on."""
    seen, wide = torch.log_softmax(p[:, :3], 0), torch.stack([p, p**2])

    def step(alpha, k):
        alpha = torch.logsumexp(alpha[:, None] + p[:, :3], 0) + seen[:, k] + alpha[k]
        both = torch.stack([k, (k + 1) % 3])
        return alpha, (wide[:, both, 1:].sum(1), wide[1, ..., k].sum(), p[both], wide[..., both].sum())

    alpha, outputs = scan(step, p[:, 3], xs=symbols)
    return torch.logsumexp(alpha, 0) + sum((one**2).mean() for one in outputs)


def from_around(scan: Scan, p, x):
    """A step that returns what it finds, or gets, as it is."""
    given, three = p[0] * p[1], torch.tensor(3)

    def step(carry, x):
        h, _, before, k = carry
        return (torch.sin(h * x) + before, given, x, three), (p, given, x, h, k)

    (h, one, other, k), (ps, givens, xs, hs, ks) = scan(step, (p[2], p[0], p[1], torch.tensor(1)), xs=x * p[1])
    return h + one * other * k + (ps**2).sum() + (givens * xs).mean() + (hs * ks).sum()


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a * a * a

    @staticmethod
    def backward(ctx, grad):
        (a,) = ctx.saved_tensors
        return 3 * a * a * grad


def with_a_function_of_its_own(scan: Scan, p, x):
    """autograd's, of which nobody but autograd is told."""

    def step(h, row):
        h = Cube.apply(torch.sin(h * p[0])) + row
        _, zs = scan(lambda z, y: (torch.tanh(Cube.apply(z) + h + Cube.apply(p[1] * y)), z), h * p[2], xs=x)
        return h, zs.sum()

    _, ys = scan(step, p[0], xs=x)
    return (ys**2).mean()


def python_within(scan: Scan, p, x):
    """Loops of Python within a step, of which one waits for the step before."""

    def step(h, x):
        aside = x
        for _ in range(12):
            h = torch.sin(h) * p[0] + 0.1 * h + x * p[1]
            aside = torch.sin(aside) * p[2] + x
        return h, h * aside

    h, ys = scan(step, p[2], xs=x)
    return ys.mean() + h


def python_around(scan: Scan, p):
    """The same loop in each turn of one of Python."""
    h = p[2]
    for _ in range(9):
        h, _ = scan(lambda h: (torch.sin(h) * p[0] + 0.1, None), h, length=9)
        h = torch.tanh(h * 0.9 + torch.cos(h) * p[1] + h**2)
    return h


def python_around_others(scan: Scan, p, x):
    """Loops in each turn that differ by a number."""
    total = p[0]
    for k in range(8):
        z, _ = scan(lambda z, x, k=k: (torch.cos(z) * p[1] + k * x, None), p[2], xs=x)
        total = total + z
    return total


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def _numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


LOSSES: dict[str, tuple[Callable[..., Any], torch.Tensor, tuple[torch.Tensor, ...]]] = {
    "GARCH": (garch, _numbers(0.05, 0.1, 0.8), (_noise(61),)),
    "GARCH, added up": (added_up, _numbers(0.05, 0.1, 0.8), (_noise(61),)),
    "RNN": (rnn, _noise(3, 6) * 0.5, (_noise(20, 2),)),
    "RNN from the end": (reverse_rnn, _noise(3, 6) * 0.5, (_noise(20, 2),)),
    "LSTM": (lstm, _noise(12, 7) * 0.3, (_noise(15, 2),)),
    "Kalman filter": (kalman, _numbers(0.9, 0.2, 0.5, 0.7), (_noise(25),)),
    "hidden Markov model": (hidden_markov, _noise(3, 5), (_noise(30, 3),)),
    "Lotka-Volterra": (predators, _numbers(1.1, 0.4, 0.1, 0.4), ()),
    "loops within loops": (nested, _numbers(0.5, 0.3, 0.2), (_noise(15),)),
    "three loops": (thrice, _numbers(0.5, 0.3, 0.2), (_noise(18),)),
    "a loop of its own": (inner_loop_of_its_own, _numbers(0.5, 0.3, 0.2), (_noise(9, 9),)),
    "carries of many kinds": (counted, _numbers(0.5, 0.3, 0.2), (_noise(15),)),
    "carries that stay": (unchanged, _numbers(0.5, 0.3, 0.2), (_noise(11),)),
    "carries ignored": (ignored, _numbers(0.5, 0.3, 0.2), (_noise(11),)),
    "rows with a gradient": (rows_with_a_gradient, _noise(12), ()),
    "branches": (branches, _numbers(0.5, 0.3, 0.7), (_noise(24),)),
    "an infinite slope at the end": (at_the_end, _numbers(0.5, 0.3), ()),
    "a memory of its own": (with_memory, _numbers(0.5, 0.3, 0.7), (_noise(10),)),
    "data": (with_data, _numbers(0.5, 0.3, 0.7), (_noise(10),)),
    "indexed": (indexed, _noise(3, 4) * 0.5, ((_noise(12).abs() * 10).long() % 3,)),
    "what is around": (from_around, _numbers(0.5, 0.3, 0.7), (_noise(10),)),
    "what is around, few": (from_around, _numbers(0.5, 0.3, 0.7), (_noise(3),)),
    "a function of autograd's": (with_a_function_of_its_own, _numbers(0.5, 0.3, 0.7), (_noise(9),)),
    "Python within": (python_within, _numbers(0.5, 0.3, 0.7), (_noise(11),)),
    "Python around": (python_around, _numbers(0.5, 0.3, 0.7), ()),
    "Python around others": (python_around_others, _numbers(0.5, 0.3, 0.7), (_noise(9),)),
    "picked": (picked, _numbers(0.5, 0.3, 0.7), ((_noise(12).abs() * 10).long() % 3,)),
}
"""name: (loss(scan, params, *data), params, data)."""
