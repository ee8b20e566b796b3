"""What an operation is written down as, known for all arguments of the same kinds once it is known for some.

A loop in Python asks for the same operations thousands of times. What shape and dtype the result has, and which others
an operation is taken apart into, depends on the kinds of its arguments alone: on the shapes, strides, dtypes and
devices of tensors, and on whatever is no tensor, but for numbers of which only the sign matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    offset: int = 0


def in_numbers(kind: Kind) -> Kind:
    """Of a complex tensor, that of its parts as they lie in memory; of others, the same."""
    if not kind.dtype.is_complex:
        return kind
    strides = (*(2 * stride for stride in kind.strides), 1)
    return Kind((*kind.shape, 2), strides, kind.dtype.to_real(), kind.device, 2 * kind.offset)


@dataclass(frozen=True)
class Slot:
    """A place in the list of what a plan works with: its operands, its literals, and what each of its steps makes."""

    at: int


@dataclass(frozen=True, eq=False)
class Step:
    """A node to be.

    Attributes:
        number: the same for nodes that differ in nothing but what is in their slots.
        slots: picks these.
        args: the node's, with slots, if some are lists; otherwise they are what is in the slots.
    """

    number: int
    op: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    slots: Callable[[Sequence[Any]], tuple[Any, ...]]
    args: list[Any] | None


@dataclass(frozen=True, eq=False)
class Result:
    """A tensor to be.

    Attributes:
        node: the slot of the node that computes it.
        shares: which argument it shares memory with, if it does.
    """

    node: int
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
    literals: Sequence[Any] = ()
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


def plan_of(
    nodes: Sequence[Node],
    result: Any,
    given: Sequence[Any],
    operands: Sequence[Any],
    constants: Sequence[int],
    loose: Sequence[int],
    numbers: dict[Any, int],
) -> Plan | None:
    """The plan of an operation that was written down once; None if that does not tell what is done for others.

    Args:
        nodes: what was written.
        result: a traced tensor, or several of them.
        given: the arguments.
        operands: of these the nodes, None for those of constants that were not read, and the numbers that may change.
        constants: which operands are constants.
        loose: which arguments are numbers that may change.
        numbers: of the steps until now.
    """
    several = None if isinstance(result, torch.Tensor) else list if isinstance(result, list) else tuple
    results = [result] if several is None else list(result)
    places = {one: Slot(at) for at, one in enumerate(operands) if isinstance(one, Node)}
    if len(places) < sum(isinstance(one, Node) for one in operands):
        return None  # which of two that are the same a step reads, nothing tells
    if not all(isinstance(part, torch.Tensor) and hasattr(part, "node") for part in results):
        return None
    free = dict(zip(loose, (Slot(at) for at, one in enumerate(operands) if type(one) in (int, float)), strict=True))
    if free and len(nodes) != 1:
        return None
    own = {*places, *nodes}
    literals = [
        value
        for node in nodes
        if _is_flat(node)
        for i, value in enumerate(node.args)
        if i not in free and value not in own
    ]
    literals += [part.node for part in results if part.node not in own]
    places |= {node: Slot(len(operands) + len(literals) + i) for i, node in enumerate(nodes)}
    literal = (Slot(len(operands) + i) for i in range(len(literals)))
    steps = []
    used: set[int] = set()
    for node in nodes:
        args = [
            free.get(i) or mapped(lambda v: places.get(v, v) if isinstance(v, Node) else v, value)
            for i, value in enumerate(node.args)
        ]
        kinds = tuple(type(node.args[i]) for i in free)
        number = numbers.setdefault((node.op, node.shape, node.dtype, described(args), kinds), len(numbers))
        is_flat = _is_flat(node)
        read = [one if isinstance(one, Slot) else next(literal) for one in args] if is_flat else leaves(args)
        picked = [one.at for one in read if isinstance(one, Slot)]
        used.update(picked)
        steps.append(Step(number, node.op, node.shape, node.dtype, _picking(picked), None if is_flat else args))
    made = []
    for part in results:
        shares = [i for i, one in enumerate(given) if getattr(one, "memory", None) is part.memory]
        if not shares and sum(other.memory is part.memory for other in results) > 1:
            return None
        made.append(Result((places.get(part.node) or next(literal)).at, part.kind, shares[0] if shares else None))
    read_too = used.union(one.node for one in made)
    return Plan("again", steps, literals, [at for at in constants if at in read_too], made, several)


def _is_flat(node: Node) -> bool:
    return not any(isinstance(value, (list, tuple)) for value in node.args)


def _picking(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What takes a tuple of what is there from a list."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda slots: tuple([slots[at] for at in places])
