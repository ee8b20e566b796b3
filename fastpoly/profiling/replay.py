"""What a step asks of torch, written down and done again without autograd.

Requirements: the same operations on tensors of the same shapes, called one after the other from a list, by the quickest
way that there is from Python into torch, so that little but the operations is timed.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .._torch_private import TorchDispatchMode, schema
from .eager_step import EagerStep

Operation = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function and what it is called with."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A step's operations.

    Attributes:
        outside: those of the loss, of clearing and of the update.
        backward: those of the backward pass.
        python_calls: how many functions and methods of torch the step calls from Python, but for backward.
    """

    outside: list[Operation]
    backward: list[Operation]
    python_calls: int


def recorded(step: EagerStep) -> Recorded:
    """Take a step, and note what it does."""
    step.step()  # the first one makes the gradients that the others find
    calls = _Calls()
    with _Operations() as outside, calls:
        value = step.forward()
        step.clear()
    with _Operations() as backward:
        value.backward()  # type: ignore[no-untyped-call]
    with _Operations() as after, calls:
        step.update(value)
    return Recorded(outside.calls + after.calls, backward.calls, calls.count)


def replay(calls: list[Operation]) -> None:
    """Do them again."""
    for function, arguments, keywords in calls:
        function(*arguments, **keywords)


class _Operations(TorchDispatchMode):
    """While it is active, notes every operation, below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        result = func(*args, **keywords)
        self.calls.append((_quickest(func, args, keywords), args, keywords))
        return result


class _Calls(TorchFunctionMode):
    """While it is active, counts the calls into torch; reading an attribute is none."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") not in ("__get__", "__set__")
        return func(*args, **(kwargs or {}))


def _quickest(operation: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Callable[..., Any]:
    """The method of Tensor or function of torch that is the operation, if one takes these arguments, else itself."""
    name = schema(operation).name.partition("::")[2]
    compiled = (types.BuiltinFunctionType, types.MethodDescriptorType)  # and no wrapper in Python
    for owner in (torch.Tensor, torch):
        function: Callable[..., Any] | None = getattr(owner, name, None)
        if not isinstance(function, compiled):
            continue
        try:
            function(*arguments, **keywords)
        except (TypeError, RuntimeError):
            continue
        return function
    found: Callable[..., Any] = operation
    return found
