"""Constant linear maps of vectors of which each output needs a few inputs, learnt from torch's own operation.

A short vector's map is what the operation makes of the unit vectors. Of a long one these would be a matrix as large as
its square; so unit vectors some places apart are given at once, and once more each times its place. An output that
needs one of them says which by the quotient of the two; the maps of all are tried on a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .windows import columns

Operation = Callable[[torch.Tensor], torch.Tensor]
"""Of vectors, the rows of a matrix."""

SHORT = 256
"""Elements of a vector whose unit vectors are given one by one."""

APART = 4
"""Places between those that are given at once, first of all; then twice as many, until no output needs two."""

ROUNDINGS = 64
"""Of an output of one term, by which the map may be off on the vector that it is tried on."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A sum of some inputs for each output.

    Attributes:
        inputs: how many there are.
        at: (outputs, terms): the inputs of each output, in order; -1 for none.
        weights: by what each is multiplied; 0 for none.
    """

    inputs: int
    at: torch.Tensor
    weights: torch.Tensor

    @staticmethod
    def of_matrix(matrix: torch.Tensor) -> LinearMap:
        """That of a matrix (outputs, inputs)."""
        at = columns(matrix != 0)
        return LinearMap(matrix.shape[1], at, torch.where(at >= 0, matrix.gather(1, at.clamp(min=0)), 0.0))

    def matrix(self) -> torch.Tensor:
        """(outputs, inputs)."""
        zeros = self.weights.new_zeros(len(self.at), self.inputs)
        return zeros.scatter_add(1, self.at.clamp(min=0), self.weights)

    def turned(self) -> LinearMap:
        """That of the transposed matrix: what gradients are mapped by."""
        output, term = (self.at >= 0).nonzero(as_tuple=True)
        order = torch.argsort(self.at[output, term], stable=True)
        output, term = output[order], term[order]
        into = self.at[output, term]
        counts = torch.bincount(into, minlength=self.inputs)
        rank = torch.arange(len(into), device=into.device) - (counts.cumsum(0) - counts)[into]
        shape = self.inputs, max(1, int(counts.max()))
        at, weights = self.at.new_full(shape, -1), self.weights.new_zeros(shape)
        at[into, rank], weights[into, rank] = output, self.weights[output, term]
        return LinearMap(len(self.at), at, weights)

    def is_identity(self) -> bool:
        """Is every output its own input?"""
        if self.at.shape != (self.inputs, 1) or not bool((self.weights == 1).all()):
            return False
        return bool((self.at[:, 0] == torch.arange(self.inputs, device=self.at.device)).all())


def map_of(like: torch.Tensor, size: int, operation: Operation) -> LinearMap:
    """The map that an operation is on vectors of so many elements, of the dtype and device of `like`."""
    apart = APART
    while size > max(SHORT, 2 * apart):
        found = _learnt(like, size, operation, apart)
        if found is not None:
            return found
        apart *= 2
    return LinearMap.of_matrix(operation(torch.eye(size, dtype=like.dtype, device=like.device)).t().contiguous())


def _learnt(like: torch.Tensor, size: int, operation: Operation, apart: int) -> LinearMap | None:
    """The same from unit vectors so many places apart; None if an output needs two of those."""
    number = torch.arange(size, device=like.device)
    first = torch.arange(apart, device=like.device)[:, None]
    units = (number % apart == first).to(like.dtype)
    weights, moments = operation(units), operation(units * number)
    is_there = weights != 0
    place = torch.where(is_there, moments / torch.where(is_there, weights, 1.0), 0.0)
    at = first + apart * ((place - first) / apart).round().long()
    if bool(((at < 0) | (at >= size))[is_there].any()):
        return None
    at, order = torch.where(is_there, at, size).t().sort(1)
    terms = max(1, int(is_there.sum(0).max()))
    at, weights = at[:, :terms], weights.t().gather(1, order)[:, :terms]
    at = torch.where(at < size, at, -1)
    tried = torch.cos(0.7 * number).to(like.dtype) + 1.5
    parts = weights * tried[at.clamp(min=0)]
    off = (operation(tried[None])[0] - parts.sum(1)).abs()
    bound = ROUNDINGS * torch.finfo(like.dtype).eps * parts.abs().sum(1)
    return LinearMap(size, at, weights) if bool((off <= bound).all()) else None
