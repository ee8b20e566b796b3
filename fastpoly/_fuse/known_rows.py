"""A circle of a loop that is the same in every step, as a counter is: computed while tracing, by torch.

That is for whole numbers. A kernel carries them in floats, and of what goes around in a circle nobody could tell the
bounds within which floats are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from .._torch_private import schema
from .graph import Node
from .iterations import Before, Own
from .lift import Rows

Operands = Mapping[int, Sequence[Any]]
"""Of each class of a circle: Own, Before, Rows, and what is the same for all, as it stands in the arguments."""


def known_rows(classes: Mapping[int, Node], operands: Operands, times: Sequence[int]) -> dict[int, torch.Tensor] | None:
    """The rows of a circle's classes, in the order of iterations; None if they change from step to step.

    Args:
        classes: those of the circle, in order.
        operands: theirs.
        times: which row each iteration takes.
    """
    given = [one for own in operands.values() for one in own]
    starts = [start for one in given if isinstance(one, Before) for start in one.starts]
    nodes = [one.node if isinstance(one, Rows) else one for one in given]
    if not all(one.is_constant for one in (*nodes, *starts) if isinstance(one, Node)):
        return None
    with ThreadPoolExecutor(1) as apart:  # where nobody writes down what torch does
        return apart.submit(_computed, classes, operands, times).result()


def _computed(classes: Mapping[int, Node], operands: Operands, times: Sequence[int]) -> dict[int, torch.Tensor] | None:
    now: dict[int, torch.Tensor] = {}
    before: dict[int, torch.Tensor] = {}
    getters: list[tuple[int, Sequence[Callable[[int], Any]]]] = []
    kept: dict[int, list[torch.Tensor]] = {j: [] for j in classes}
    for own in operands.values():
        before.update({one.of: _tensor(one.starts[0]) for one in own if isinstance(one, Before)})
    for j, own in operands.items():
        getters.append((j, [_getter(one, now, before) for one in own]))
    calls: dict[int, Callable[..., torch.Tensor]] = {}
    for time in times:
        for j, own in getters:
            args = [get(time) for get in own]
            if j not in calls:
                found = _overload(classes[j].op, args)
                if found is None:
                    return None
                calls[j] = found
            now[j] = calls[j](*args)
            kept[j].append(now[j])
        before.update(now)
    return {j: torch.stack(rows) for j, rows in kept.items()}


def _tensor(node: Node) -> torch.Tensor:
    assert node.tensor is not None
    return node.tensor.cpu()


def _getter(operand: Any, now: dict[int, torch.Tensor], before: dict[int, torch.Tensor]) -> Callable[[int], Any]:
    if isinstance(operand, Own):
        return lambda _: now[operand.of]
    if isinstance(operand, Before):
        return lambda _: before[operand.of]
    if isinstance(operand, Rows):
        rows = _tensor(operand.node).unbind()
        return lambda time: rows[time]
    value = _tensor(operand) if isinstance(operand, Node) else operand
    return lambda _: value


def _overload(op: str, args: Sequence[Any]) -> Callable[..., torch.Tensor] | None:
    """That of an ATen operation which takes such arguments, in the order of its schema; None if there is none."""
    packet = getattr(torch.ops.aten, op, None)
    for name in packet.overloads() if packet is not None else ():
        found = getattr(packet, name)
        wanted = schema(found).arguments
        are_tensors = ["Tensor" in str(one.type) for one in wanted]
        if "out" in name or are_tensors != [isinstance(value, torch.Tensor) for value in args]:
            continue
        split = sum(not one.kwarg_only for one in wanted)
        names = [one.name for one in wanted[split:]]

        def call(*args: Any, found: Any = found, split: int = split, names: Sequence[str] = names) -> torch.Tensor:
            result: torch.Tensor = found(*args[:split], **dict(zip(names, args[split:], strict=True)))
            return result

        return call
    return None
