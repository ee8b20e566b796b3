"""What does not depend on a step's inputs: computed by torch while the step is traced, and a constant of its graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .._torch_private import storage
from .arguments import array_of, leaves
from .graph import Node


class Constants:
    """The nodes of tensors that have values.

    Args:
        names: what to call them, by the id of the tensor.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.labels = {key: re.sub(r"\W+", "_", name).strip("_") or "data" for key, name in names.items()}
        self._nodes: dict[int, Node] = {}
        self._views: dict[Any, Node] = {}
        self._own: dict[int, torch.Tensor] = {}  # storages made while tracing, which may be written to: all of each
        self._made_here: set[int] = set()  # those of them that hold nothing from outside
        self.kept: list[torch.Tensor] = []  # so that no address is used twice
        self.outside: dict[int, torch.Tensor] = {}  # what was there before, by its id

    def found(self, value: torch.Tensor) -> Node | None:
        """The node of a tensor, if it has one."""
        return self._nodes.get(id(value))

    def node(self, value: torch.Tensor) -> Node:
        """The node of a tensor."""
        node = self._nodes.get(id(value))
        if node is None:
            self.kept.append(value)
            self.read(value)
            node = self._nodes[id(value)] = self._made(value)
        return node

    def read(self, value: torch.Tensor) -> None:
        """Note that it is read."""
        if id(value) not in self.outside and not self.owns(value):
            self.outside[id(value)] = value

    def owns(self, value: torch.Tensor) -> bool:
        """Was its memory made while tracing?"""
        return storage(value) in self._own

    def owned(self) -> frozenset[int]:
        """The storages of which that is so."""
        return frozenset(self._own)

    def owner(self, value: torch.Tensor) -> torch.Tensor:
        """The tensor that has all of a memory made while tracing."""
        return self._own[storage(value)]

    def computed(self, name: str, sources: set[int], result: Any, is_written: bool) -> None:
        """Note what an operation of this name made of memory from these storages, to which it may have written."""
        for tensor in leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.kept.append(tensor)
                self.labels.setdefault(id(tensor), name)
                memory = storage(tensor)
                if memory not in sources:
                    self._own.setdefault(memory, tensor)
                if sources <= self._made_here and memory in self._own:
                    self._made_here.add(memory)
                elif is_written:
                    self._made_here.discard(memory)

    def forget(self) -> None:
        """Let go of all tensors: what autograd knows of them would keep traced ones."""
        self.kept.clear()
        self._own.clear()

    def before_writing(self, value: torch.Tensor) -> None:
        """It is written to: what was read of its memory until now stays as it was."""
        for key, node in list(self._nodes.items()):
            if node.tensor is not None and storage(node.tensor) == storage(value):
                node.tensor, node.view_of = node.tensor.clone(), None
                del self._nodes[key]
                self._views.clear()

    def _made(self, value: torch.Tensor) -> Node:
        memory = storage(value)
        kept, shape = value.detach(), tuple(value.shape)
        node = Node("constant", (), shape, value.dtype, tensor=kept, label=self.labels.get(id(value)) or "data")
        node.baked = _baked(value) if memory in self._made_here else None
        node.is_own = memory in self._own
        moving = [d for d, (n, k) in enumerate(zip(shape, value.stride(), strict=True)) if n > 1 and k]
        dimensions = {(shape[d], value.stride(d)): d for d in moving}
        place = (value.data_ptr(), value.dtype, frozenset(dimensions))
        if len(dimensions) < len(moving):  # two that nothing tells apart, as unfold makes them
            node.ones = _ones(kept)
        elif place in self._views:
            other = self._views[place]
            assert other.tensor is not None
            axes = zip(other.shape, other.tensor.stride(), strict=True)
            node.view_of = (other, tuple(dimensions.get(axis) for axis in axes))
        else:
            self._views[place] = node
            node.ones = _ones(kept)
        return node


BAKED = 1024
"""Constants of the function's own up to this size are part of the program."""


def _baked(tensor: torch.Tensor) -> np.ndarray[Any, Any] | None:
    values = array_of(tensor)
    if np.iscomplexobj(values):
        return None
    if values.size and (values == values.flat[0]).all() and len(np.unique(np.signbit(values))) == 1:
        return values.reshape(-1)[:1].copy()
    return values.copy() if values.size <= BAKED else None


COLUMNS = 16
"""Dimensions up to this size are looked at for columns of ones: longer ones are loops, in which all are alike."""


def _ones(tensor: torch.Tensor) -> frozenset[tuple[int, int]]:
    """The columns of a matrix that are ones from top to bottom, as a polynomial's x**0 is: they are no factors."""
    if tensor.dim() < 2 or not tensor.dtype.is_floating_point:
        return frozenset()
    places = ((d, k) for d, size in enumerate(tensor.shape) if 1 < size <= COLUMNS for k in range(size))
    columns = ((place, tensor.select(*place)) for place in places)
    # most columns are told by their first element
    return frozenset(p for p, c in columns if c.numel() > COLUMNS and c[(0,) * c.dim()] == 1 and bool((c == 1).all()))
