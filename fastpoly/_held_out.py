"""The mse of samples that a run does not see, along the run, in closed form."""

from __future__ import annotations

import numpy as np

from ._arrays import Array
from ._minimum import Minimum, log_factor

AT_A_TIME = 2**14
"""Recorded steps whose weights lie in memory together."""


def held_out_mse(minimum: Minimum, rate: float, count: int, every: int, rows: Array, n: int) -> Array:
    """(count,) means of the squared residuals of other samples before steps 0, every, 2 every, ...

    Args:
        minimum: of the run.
        rate: its learn rate.
        count, every: which steps.
        rows: [V | y - V w_0] of the other samples, or a triangle of its QR decomposition.
        n: how many there are.
    """
    log, odd = log_factor(rate * 2 / minimum.n * minimum.s**2)
    seen = np.divide(minimum.z, minimum.s, out=np.zeros_like(minimum.z), where=minimum.s > 0)
    effects = rows[:, :-1] @ (minimum.v.T * seen)  # of each component, once it has gone all its way
    trace = np.empty(count)
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, count, AT_A_TIME):
            at = every * np.arange(first, min(first + AT_A_TIME, count), dtype=np.float64)
            exponents = np.multiply.outer(log, at)
            gained = -np.expm1(exponents)
            if odd.any():
                flipped = np.where(at % 2 == 1, 1 + np.exp(exponents), gained)
                gained = np.where(odd[:, None], flipped, gained)
            residual = rows[:, -1:] - effects @ gained
            trace[first : first + at.size] = np.einsum("it,it->t", residual, residual) / n
    return trace
