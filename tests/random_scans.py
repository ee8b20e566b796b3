"""Random loops that are written openly, by seed: steps of random operations on carries of several shapes."""

from __future__ import annotations

import random
from typing import Any

import torch

SHAPES = [(), (), (3,), (2, 3), (3, 3)]


def random_scan(seed: int) -> tuple[Any, torch.Tensor, tuple[torch.Tensor, ...]]:
    """loss(scan, params, *data), params and data."""
    choose = random.Random(seed)
    noise = torch.Generator().manual_seed(seed)
    shapes = [choose.choice(SHAPES) for _ in range(choose.randint(1, 3))]
    kinds = [(choose.randrange(12), choose.random(), choose.random()) for _ in range(choose.randint(3, 10))]
    ends = [choose.random() for _ in shapes]
    read = [choose.random() for _ in range(3)]
    length, reverse, depth = choose.randint(8, 15), choose.random() < 0.3, choose.randint(0, 1)
    options = {"checkpoint_bytes": 0} if choose.random() < 0.2 else {}
    length = length * 8 if options else length
    has_xs_gradient, aside = choose.random() < 0.3, choose.random() < 0.3

    def loss(scan, p, x):
        def step(carry, row, kinds=kinds, depth=depth):
            values: list[Any] = [*carry, row, row.sum(), p[0], p[1:4]]
            for kind, one, other in kinds:
                a, b = values[int(one * len(values))], values[int(other * len(values))]
                if kind == 0:
                    new = torch.tanh(a + b.mean())
                elif kind == 1:
                    new = a * torch.cos(b.sum())
                elif kind == 2:
                    new = (torch.sin(a) * p[4]).sum()
                elif kind == 3:
                    new = torch.where(a > b.mean(), a * 0.5, torch.sin(a))
                elif kind == 4 and a.ndim == 2 and a.shape[1] == 3:
                    new = torch.tanh(a @ p[5:14].view(3, 3))
                elif kind == 5 and a.ndim:
                    new = torch.softmax(a, -1)
                elif kind == 6 and a.ndim:
                    new = torch.logsumexp(a, 0)
                elif kind == 7 and a.ndim == 1:
                    new = torch.outer(torch.sin(a), torch.cos(a)) * 0.3
                elif kind == 8 and a.ndim:
                    new = torch.cat([a[1:] * 0.9, a[:1] + p[2]])
                elif kind == 9 and depth and a.ndim < 2:
                    new, outer = scan(
                        lambda h, y, b=b: (torch.tanh(h * 0.8 + y * p[3] + b.mean()), h * y), a, xs=x[:9, 0]
                    )
                    values.append(outer.mean(0))
                elif kind == 10 and a.numel() and bool_of(a, choose_sides):
                    new = -a
                else:
                    new = torch.sin(a) + 0.1
                values.append(new)
            after = []
            for start, end in zip(carry, ends, strict=True):
                fits = [value for value in values if value.shape == start.shape]
                after.append(fits[int(end * len(fits))])
            return tuple(after), tuple(values[int(one * len(values))] for one in read)

        choose_sides = seed % 3 == 0
        rows = x * p[:3] if has_xs_gradient else x
        begin = tuple(p[: torch.Size(shape).numel()].reshape(shape) * 0.5 for shape in shapes)
        last, outputs = scan(step, begin, xs=rows, reverse=reverse, **options)
        value = (p**2).mean() + sum((one**2).mean() for one in outputs[: 1 if aside else 3])
        return value if aside else value + sum((one.sin() * p[1]).sum() for one in last)

    params = torch.randn(16, dtype=torch.float64, generator=noise) * 0.5
    return loss, params, (torch.randn(length, 3, dtype=torch.float64, generator=noise),)


def bool_of(a: torch.Tensor, asks: bool) -> bool:
    """Is it positive, if that is asked?"""
    return bool(a.mean() > 0) if asks else False
