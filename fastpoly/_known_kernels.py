"""Kernels by what they were made of, so that the same call finds its kernel without being traced again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import torch

from fastpoly_kernels.forking import new_lock

from ._fuse.gpu_many import GpuManyProgram
from ._fuse.many import ManyProgram
from ._guards import PLAIN, guards
from ._torch_private import version

REMEMBERED = 64
"""Kernels, those that were asked for last."""

MOST_KNOWN = 2**20
"""Bytes of data that all problems share up to which a kernel is remembered by them."""

CHECKED = 100
"""The first call of a kernel is compared with torch's own, and then those after this many, ten times as many, ..."""


@dataclass(eq=False)
class Known:
    """A kernel, and what it read.

    Attributes:
        alive: what is known by its address.
        versions: of the tensors that it reads beside its arguments.
    """

    program: ManyProgram | GpuManyProgram
    alive: Any
    versions: list[tuple[torch.Tensor, int]] = field(default_factory=list)
    calls: int = 0
    due: int = 1

    def is_up_to_date(self) -> bool:
        """Is all that it read as it was?"""
        return all(version(tensor) == before for tensor, before in self.versions)

    def is_to_be_compared(self) -> bool:
        """Should this call be compared with torch's own?"""
        self.calls += 1
        if self.calls < self.due:
            return False
        self.due = self.calls + max(CHECKED - 1, 9 * self.calls)
        return True


_known: OrderedDict[Hashable, Known] = OrderedDict()
_lock = new_lock()


def known(key: Hashable | None, alive: Any, make: Callable[[], ManyProgram | GpuManyProgram]) -> Known:
    """The kernel of that key, made if it is not there or out of date; of None always."""
    with _lock:
        found = None if key is None else _known.get(key)
    if found is None or not found.is_up_to_date():
        program = make()
        found = Known(program, alive, [(one, version(one)) for one in program.outside if not one.is_inference()])
        if key is None:
            return found
    with _lock:
        _known[key] = found
        _known.move_to_end(key)
        while len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return found


def key_of(function: Any) -> tuple[Hashable | None, list[Any]]:
    """What a function of Python does: its code and what that names; and what must stay alive for it to mean that.

    None for other functions, of which nobody knows what they look at.
    """
    if not isinstance(function, FunctionType):
        return None, []
    named = guards(function)
    values = [*(one.value for one in named), *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    own = tuple((type(value), value if isinstance(value, PLAIN) else id(value)) for value in values)
    return (function.__code__, tuple(one.name for one in named), own), [function.__code__, *values]
