"""What a trace is written down as: nodes, each with the caller's line that it comes from."""

from __future__ import annotations

import linecache
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .launches import Launches

if TYPE_CHECKING:
    from .scan import Scan

COMMENT = 60
"""Columns of a line that is quoted in a comment."""


@dataclass(frozen=True)
class Where:
    """A line of the caller's code; `gradient` if the operation came from differentiating it."""

    file: str
    line: int
    gradient: bool = False

    @property
    def text(self) -> str:
        """The line itself."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        of = "the gradient of " if self.gradient else ""
        return f"{of}{Path(self.file).name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Origin:
    """An operation and the caller's line that it comes from; as a string, a comment."""

    op: str
    where: Where | None

    def __str__(self) -> str:
        if self.where is None:
            return self.op
        return f"{'d ' if self.where.gradient else ''}{self.op}: {textwrap.shorten(self.where.text, COMMENT)}"


@dataclass(eq=False, repr=False)
class Node:
    """One operation of the graph, or an input, or a constant.

    Attributes:
        op: the ATen operation's name without its overload ("mul"), or "input" or "constant".
        args: what it was called with, in the order of its schema, defaults filled in: Nodes and plain values.
        shape, dtype: of its result.
        where: the caller's line it came from.
        tensor: of a constant, its value.
        baked: of a constant that the function itself makes, its value as an array; of size 1 if all elements are equal.
            It is part of the program, where data that comes from outside is not.
        label: of an input or a constant, what to call it.
        is_own: was the constant made while tracing?
        view_of: of a constant, another one that holds the same elements in memory, and for each of that one's
            dimensions the dimension here, or None where there is only one element.
        ones: of a constant, the (dimension, place) at which all of its elements are 1.
        position: of an input, which one.
        scan: of the op "scan", the loop that it runs.
    """

    op: str
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    where: Where | None = None
    tensor: torch.Tensor | None = None
    baked: np.ndarray[Any, Any] | None = None
    label: str = ""
    is_own: bool = False
    view_of: tuple[Node, tuple[int | None, ...]] | None = None
    ones: frozenset[tuple[int, int]] = frozenset()
    position: int = -1
    scan: Scan | None = None

    def __repr__(self) -> str:
        return f"Node({self.op}, {self.shape})"

    @property
    def origin(self) -> Origin:
        """What is to be said of what comes of it."""
        return Origin(self.op, self.where)

    @property
    def is_constant(self) -> bool:
        """Does it keep its value through all steps?"""
        return self.op == "constant"


class Page(list[Node]):
    """Nodes as they are written down, operands first.

    Attributes:
        depth: of how many loops it is the body, one within the other; infinity for what is nobody's.
    """

    __slots__ = ("depth",)

    def __init__(self, depth: float) -> None:
        super().__init__()
        self.depth = depth


@dataclass
class Graph:
    """What a function does: its inputs, the nodes that it returns, and what torch would launch for it.

    `outside` are the tensors that it read and did not make; `counts` says of inputs by how much they grow in each step,
    which is no part of the graph (see `counters`).
    """

    inputs: list[Node]
    outputs: list[Node]
    nodes: list[Node] = field(default_factory=list)
    launches: Launches = field(default_factory=Launches)
    outside: list[torch.Tensor] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
