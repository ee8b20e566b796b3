"""Random losses with loops in Python: over time steps, several values, lags, loops within loops, branches at a step."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch

Tensor = torch.Tensor

UNARY: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.tanh,
    torch.sin,
    torch.sigmoid,
    lambda a: a * a,
    lambda a: torch.exp(-(a * a)),
    lambda a: torch.log(1.5 + a * a),
    lambda a: a / (1.5 + a * a),
    lambda a: torch.where(a > 0.1, a, 0.3 * a),
    lambda a: a.clamp(-0.9, 0.9),
)
BINARY: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda a, b: a + b,
    lambda a, b: a - 0.5 * b,
    lambda a, b: 0.7 * a * b,
    lambda a, b: a / (2 + b * b),
    torch.maximum,
)


@dataclass(frozen=True)
class Recurrent:
    """A loss, where it starts, and its data."""

    loss: Callable[[Tensor, Tensor], Tensor]
    params: Tensor
    data: Tensor
    about: str


def recurrent(seed: int, dtype: torch.dtype = torch.float64) -> Recurrent:
    """The loss of a seed, the same every time."""
    draw = random.Random(seed)
    steps = draw.choice([12, 17, 24, 33, 50])
    size = draw.choice([(), (), (2,), (3,), (5,), (20,), (3, 3)])
    values, lags, inner = draw.choice([1, 1, 2, 3]), draw.choice([1, 1, 2, 3]), draw.choice([0, 0, 0, 3, 12])
    plan = [
        (draw.choice(BINARY), draw.choice(UNARY), draw.randrange(8)) for _ in range(draw.choice([1, 2, 3]) * values)
    ]
    within = (draw.choice(BINARY), draw.choice(UNARY))
    ends, first = draw.choice(["sum", "last", "stack", "both"]), draw.choice([0, 0, 1, 2])
    other, backwards = draw.choice([None, None, 3, steps - 2]), draw.random() < 0.2
    generator = torch.Generator().manual_seed(seed)
    params = torch.randn(6, generator=generator, dtype=torch.float64).to(dtype) * 0.4
    data = torch.randn(steps, 2, generator=generator, dtype=torch.float64).to(dtype)
    matrix = torch.randn(size[-1] if size else 1, size[-1] if size else 1, generator=generator).to(dtype) * 0.3

    def operand(which: int, t: int, p: Tensor, x: Tensor, past: list[Tensor]) -> Tensor:
        if which == 0:
            return x[t, 0]
        if which == 1:
            return x[t - 1, 1]  # the last one, for the first
        if which == 2 and len(past) >= lags:
            return past[-lags]
        if which == 3 and size:
            return past[-1] @ matrix.T
        if which == 4:
            return p[3 + t % 2] if inner == 3 else p[3]
        return p[which % 3]

    def loss(p: Tensor, x: Tensor) -> Tensor:
        states = [[torch.full(size, 0.1 * k, dtype=p.dtype) + (p[5] if k else 0.0)] for k in range(values)]
        total = torch.zeros((), dtype=p.dtype)
        kept: list[Tensor] = []
        order = range(steps - 1, first - 1, -1) if backwards else range(first, steps)
        for t in order:
            for k, past in enumerate(states):
                value = past[-1]
                for binary, unary, which in plan[k::values]:
                    value = binary(unary(value), operand(which, t, p, x, past))
                if other is not None and t == other:
                    value = value * 0.5
                for _ in range(inner):
                    value = within[0](within[1](value), p[4] * 0.1 + past[-1] * 0.1)
                if k and values > 1:
                    value = value + 0.1 * states[0][-1]
                past.append(0.8 * torch.tanh(value))
            here = states[-1][-1]
            if ends in ("sum", "both"):
                total = total + ((here - x[t, 1]) ** 2).sum()
            kept.append(here)
        if ends in ("stack", "both"):
            total = total + (torch.stack(kept) * p[0]).mean()
        if ends == "last":
            total = total + (states[0][-1] * states[-1][-1]).sum()
        return total + 0.01 * (p * p).sum()

    about = f"{steps} steps of {values} values {size}, lags {lags}, inner {inner}, {ends}, backwards {backwards}"
    return Recurrent(loss, params, data, about)
