"""What an operation is written down as, known for all arguments of the same kinds once it is known for some.

A loop in Python asks for the same operations thousands of times. What shape and dtype the result has, and which others
an operation is taken apart into, depends on the kinds of its arguments alone: on the shapes, strides, dtypes and devices
of tensors, and on whatever is no tensor, but for numbers of which only the sign matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch

from .arguments import leaves, mapped
from .graph import Node
from .launches import Launch


@dataclass(frozen=True, eq=False)
class Kind:
    """What torch knows of a tensor, beside its values. The same object for the same, in a trace."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Slot:
    """A place for a node or a number that is known when a plan is carried out: an operand, or what a step made."""

    at: int


@dataclass(frozen=True, eq=False)
class Step:
    """A node to be.

    Attributes:
        number: the same for nodes that differ in nothing but what is in their slots.
        slots: picks these.
        args: the node's, with slots.
    """

    number: int
    op: str
    args: Any
    shape: tuple[int, ...]
    dtype: torch.dtype
    slots: Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, eq=False)
class Result:
    """A tensor to be.

    Attributes:
        node: the slot of the node that computes it, or that node.
        shares: which argument it shares memory with, if it does.
    """

    node: Any
    kind: Kind
    shares: int | None


@dataclass(eq=False)
class Plan:
    """What is done for an operation on arguments of some kinds.

    Attributes:
        way: "compute" by torch, "write" anew each time, or "again": carry out the steps.
        constants: which operands are tensors that have values.
        results: what comes out, and in what: None for a single tensor.
        launch: what torch launches for it.
        count: how many times the step asked for it.
    """

    way: str
    steps: Sequence[Step] = ()
    constants: Sequence[int] = ()
    results: Sequence[Result] = ()
    several: type[Any] | None = None
    launch: Launch | None = None
    count: int = 0


def filled(template: Any, slots: Sequence[Any]) -> Any:
    """A template with what is in the slots; lists are new ones."""
    if type(template) is Slot:
        return slots[template.at]
    if type(template) is list:
        return [filled(part, slots) for part in template]
    return template


def described(value: Any) -> Any:
    """A key that is the same for equal arguments of a node; a slot is as good as any."""
    if isinstance(value, (list, tuple)):
        return tuple(map(described, value))
    return Slot if isinstance(value, Slot) else value if isinstance(value, Node) else repr(value)


def step_of(node: Node, slots: Mapping[Any, Slot], loose: Mapping[int, Slot], numbers: dict[Any, int]) -> Step:
    """The step that makes a node like this one.

    Args:
        slots: of the nodes that are none of its own.
        loose: of arguments that are numbers, by position.
        numbers: of the steps until now.
    """

    def templated(value: Any) -> Any:
        return slots.get(value, value) if isinstance(value, Node) else value

    args = [loose.get(i) or mapped(templated, value) for i, value in enumerate(node.args)]
    kinds = tuple(type(node.args[i]) for i in loose)
    key = (node.op, node.shape, node.dtype, described(args), kinds)
    used = [leaf.at for leaf in leaves(args) if isinstance(leaf, Slot)]
    number = numbers.setdefault(key, len(numbers))
    return Step(number, node.op, args, node.shape, node.dtype, itemgetter(*used) if used else lambda _: ())
