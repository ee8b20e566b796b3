"""Every operation of the fuser's tables, by the names that torch has for them: value and gradient are torch's.

A case is a function of one tensor (or of a list of them). What it returns is summed with uneven weights, so that no
element can stand in for another, and that sum and its gradient are taken twice: by torch, and by `scan`, fused. Cases
of a kind share a kernel, because compiling is what takes time here; what is off is told by name.
"""

import math

import torch
from torch.utils import _pytree as tree

from fastpoly import scan

NAN, INF = math.nan, math.inf

ROUNDINGS = {torch.float64: 1e-12, torch.float32: 2e-5}
"""Of the largest entry of a value or gradient, or of 1. Sums of up to 4,000 numbers of either sign in another order and
elementary functions to 2 ulp make 1e-14 and 2e-6; the rest is for what the cases do with them."""


def weighted(value):
    """A number that depends on every element of a tensor, or of several, in its own way."""
    if isinstance(value, (tuple, list)):
        return sum(weighted(part) for part in value)
    weights = torch.cos(torch.arange(value.numel(), dtype=torch.float64)).reshape(value.shape)
    return (value * weights.to(value.dtype)).sum()


def values_and_gradients(cases):
    """A step of `scan` that leaves its carry as it is and gives {name: (value, gradients)}."""

    def step(carry):
        return carry, {name: value_and_gradients(case, carry) for name, case in cases.items()}

    return step


def value_and_gradients(case, params):
    leaves, structure = tree.tree_flatten(params)
    own = [leaf.detach().requires_grad_() for leaf in leaves]
    with torch.enable_grad():
        value = weighted(case(tree.tree_unflatten(own, structure)))
        gradients = torch.autograd.grad(value, own, materialize_grads=True)
    return [value.detach(), *gradients]


def values(cases):
    """A step of `scan` that leaves its carry as it is and gives {name: value}, whole."""
    return lambda carry: (carry, {name: [case(carry)] for name, case in cases.items()})


def off(step, carry):
    """What differs between the step fused and the step as torch takes it: {name: (by how much, ...)}."""
    want = step(carry)[1]
    got = scan(step, carry, (), 1, backend="fused")[1]
    found = {}
    for name in want:
        deviations = tuple(deviation(g[0], w) for g, w in zip(got[name], want[name], strict=True))
        if not all(d <= ROUNDINGS[want[name][0].dtype] for d in deviations):
            found[name] = deviations
    return found


def deviation(got, want):
    """Relative to the largest entry, or to 1; infinite where NaN, infinities or kinds do not agree."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return math.inf
    finite = want.isfinite()
    if not torch.equal(torch.where(finite, 0.0, got), torch.where(finite, 0.0, want)):
        special = torch.where(finite, 0.0, got).nan_to_num(123.0), torch.where(finite, 0.0, want).nan_to_num(123.0)
        if not torch.equal(*special):
            return math.inf
    got, want = got[finite].double(), want[finite].double()
    return float((got - want).abs().max() / want.abs().max().clamp_min(1.0)) if want.numel() else 0.0


def numbers(*shape, seed=0.0, dtype=torch.float64):
    """Anything between -2 and 2; no two alike."""
    return (2 * torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 1.7 + seed)).reshape(shape).to(dtype)
