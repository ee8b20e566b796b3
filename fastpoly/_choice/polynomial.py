"""`fit` in single precision with samples on a card: the loop in one program, or torch's operations on all of it."""

from __future__ import annotations

from .._fuse.launches import Launch
from . import costs
from .costs import State
from .decision import NEAR
from .machines import Machine
from .work import Kernel, Work

OPERATIONS = 5
"""Of the kernel for each sample and power, as the schedule counts them."""


def fastest(n: int, degree: int, steps: int, card: Machine) -> str:
    """What `fit` calls them, "triton" or "compile-gpu"; the second where the model is sure of it."""
    powers = degree + 1
    kernel = Kernel(((1, n, OPERATIONS * powers),), 1024, 1, 70, 0)
    products = Launch("product", n * powers, 4 * n * (powers + 1), 2 * n * powers)
    others = Launch("other", n, 12 * n, 0)
    asked = Work(((products, 2), (others, 8)), 15, "float32")
    one = costs.fused(kernel, asked, card, State()).of(steps)
    many = costs.compiled(asked, card, State()).of(steps)
    return "compile-gpu" if NEAR * many < one else "triton"
