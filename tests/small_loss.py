"""A small loss that runs of every kind descend on."""

import math

import torch

from fastpoly import (
    descend,
)

NAN, INF = math.nan, math.inf
X = torch.linspace(-1, 1.3, 100, dtype=torch.float64)
W = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)


def smooth(w, x):
    """What all runs here descend on that are not about the loss."""
    return ((w[0] + w[1] * x + w[2] * x * x - torch.sin(3 * x)) ** 2).mean()


def run(loss=smooth, params=W, data=(X,), **options):
    return descend(loss, params, data, **{"learn_rate": 0.1, "steps": 3, "backend": "fused", **options})
