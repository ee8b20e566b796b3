"""Which tensors have a row for each problem: `in_dims`, as `torch.vmap` has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ._problem import shown
from ._torch_private import tree


class Problems:
    """The arguments of a function of one problem, for many.

    Args:
        arguments: of the function; pytrees.
        in_dims: for each argument, or for parts of it: the axis of the problems, or None where all share it.
        names: what the arguments are called.

    Attributes:
        leaves: all tensors, the problems first in those that have them.
        is_own: which have them.
        count: how many problems there are.
        has_others: are there parts of the arguments that are no tensors?

    Raises:
        ValueError: these do not go together, or no tensor has an axis of problems.
    """

    def __init__(self, arguments: Sequence[Any], in_dims: Any, names: Sequence[str]) -> None:
        self.leaves: list[torch.Tensor] = []
        self.is_own: list[bool] = []
        self._others: list[Any] = []  # what is no tensor, and the places of those that are
        self._structures: list[Any] = []
        sizes: dict[int, str] = {}
        for argument, dims, name in zip(arguments, axes(arguments, in_dims, names), names, strict=True):
            parts, structure = tree.tree_flatten(argument)
            self._structures.append(structure)
            for part, dim in zip(parts, dims, strict=True):
                self._add(part, dim, name, sizes)
        if not sizes:
            raise ValueError("in_dims: no argument has an axis of problems; 0 where it has a row for each")
        if len(sizes) > 1:
            found = ", ".join(f"{size:,} in {name}" for size, name in sizes.items())
            raise ValueError(f"in_dims: the arguments have different numbers of problems: {found}")
        (self.count,) = sizes
        self.has_others = any(not isinstance(one, _Place) for one in self._others)
        if self.count == 0:
            raise ValueError("in_dims: there are no problems: the axis has no rows; pass one at least")

    def _add(self, part: Any, dim: int | None, name: str, sizes: dict[int, str]) -> None:
        if not isinstance(part, torch.Tensor):
            if dim is not None:
                raise ValueError(f"in_dims: {name} has {shown(part)}, which has no axis of problems; None for that")
            self._others.append(part)
            return
        if dim is not None:
            if not -part.ndim <= dim < part.ndim:
                raise ValueError(f"in_dims: {name} has a tensor of shape {tuple(part.shape)}, without an axis {dim}")
            part = part.movedim(dim, 0)
            sizes.setdefault(len(part), name)
        self._others.append(_Place(len(self.leaves)))
        self.leaves.append(part)
        self.is_own.append(dim is not None)

    def one(self, problem: int) -> list[torch.Tensor]:
        """The tensors of a problem."""
        return [leaf[problem] if own else leaf for leaf, own in zip(self.leaves, self.is_own, strict=True)]

    def filled(self, leaves: Sequence[torch.Tensor]) -> list[Any]:
        """The arguments with these in place of the tensors."""
        rest = iter([leaves[one.at] if isinstance(one, _Place) else one for one in self._others])
        return [tree.tree_unflatten(_first(rest, each.num_leaves), each) for each in self._structures]


class _Place:
    """Where a tensor belongs."""

    def __init__(self, at: int) -> None:
        self.at = at


def _first(rest: Iterator[Any], count: int) -> list[Any]:
    return [next(rest) for _ in range(count)]


def axes(arguments: Sequence[Any], in_dims: Any, names: Sequence[str]) -> list[list[int | None]]:
    """For each argument, for each leaf of it: the axis of the problems, or None."""
    if isinstance(in_dims, int):
        in_dims = (in_dims,) * len(arguments)
    if not isinstance(in_dims, tuple | list) or len(in_dims) != len(arguments):
        wants = f"one for each of {', '.join(names)}: 0 where it has a row for each problem, None where all share it"
        raise ValueError(f"in_dims: wants {wants}; got {shown(in_dims)}")
    return [
        _spread(argument, dims, f"in_dims of {name}")
        for argument, dims, name in zip(arguments, in_dims, names, strict=True)
    ]


def _spread(value: Any, dims: Any, name: str) -> list[int | None]:
    """A dim for each leaf."""
    if dims is None or (isinstance(dims, int) and not isinstance(dims, bool)):
        return [dims] * tree.tree_structure(value).num_leaves
    children = _children(value)
    wanted = _children(dims)
    if children is None or wanted is None or children.keys() != wanted.keys():
        raise ValueError(f"{name}: wants 0, None, or a structure like the argument's; got {shown(dims)}")
    return [dim for key, child in children.items() for dim in _spread(child, wanted[key], name)]


def _children(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return None
