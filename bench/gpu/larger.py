"""Losses too large for one warp: what a backend must share out among many multiprocessors, or leave to torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from . import card
from .bars import LARGER

RATE = {"polynomial": 0.1, "network": 0.01}


@dataclass(frozen=True)
class Loss:
    """loss(params, x, y), with its start and its data on the CPU, in float32."""

    name: str
    loss: Callable[..., torch.Tensor]
    params: Any
    data: tuple[torch.Tensor, ...]

    @property
    def rate(self) -> float:
        return RATE[self.name.partition(",")[0].split()[0]]


def named(name: str) -> Loss:
    """One of `LARGER` or of SMALL: "polynomial, n = 10,000" or "network 8-32-32-1, n = 1,024"."""
    kind, n = name.split(", n = ")
    n = card.full(int(n.replace(",", "")), 16)
    return polynomial(name, n) if kind == "polynomial" else network(name, int(kind.split("-")[1]), n)


SMALL = ("polynomial, n = 100", "network 8-32-32-1, n = 64")
NAMES = card.full((*LARGER, *SMALL), ("network 8-4-4-1, n = 64",))


def polynomial(name: str, n: int) -> Loss:
    def loss(w, x, y):
        return ((w[0] + w[1] * x + w[2] * x**2 + w[3] * x**3 + w[4] * x**4 - y) ** 2).mean()

    x = torch.linspace(-1, 1.2, n)
    return Loss(name, loss, torch.zeros(5), (x, torch.cos(3 * x)))


def network(name: str, width: int, n: int) -> Loss:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    def loss(p, x, y):
        h = torch.tanh(torch.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"])
        return ((h @ p["w3"] + p["b3"] - y) ** 2).mean()

    x = normal(n, 8)
    params = {"w1": normal(8, width) / 3, "b1": torch.zeros(width), "w2": normal(width, width) / width**0.5}
    params |= {"b2": torch.zeros(width), "w3": normal(width, 1) / width**0.5, "b3": torch.zeros(1)}
    return Loss(name, loss, params, (x, torch.sin(x.sum(1, keepdim=True))))


def expected(of: Loss, params: Any, data: Any, steps: int) -> torch.Tensor:
    """The losses of a few steps of the plain autograd loop, where the tensors lie."""
    from torch.utils import _pytree as tree

    leaves, structure = tree.tree_flatten(params)
    leaves, losses = [leaf.clone().requires_grad_() for leaf in leaves], []
    for _ in range(steps):
        value = of.loss(tree.tree_unflatten(leaves, structure), *data)
        gradients = torch.autograd.grad(value, leaves)
        pairs = zip(leaves, gradients, strict=True)
        leaves = [(leaf - of.rate * gradient).detach().requires_grad_() for leaf, gradient in pairs]
        losses.append(value.detach())
    return torch.stack(losses)
