"""What a function names beside its arguments: is it what it was?

A function that was traced stands in its kernel with the numbers that it read then. Those that it names itself can be
looked at before each call: the variables of its closure, and the module's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

PLAIN = (int, float, complex, bool, str, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Guard:
    """A variable, and what it was.

    Attributes:
        place: the closure's cell, or the module's variables.
        name: among these.
        value: what it was.
    """

    place: CellType | Mapping[str, Any]
    name: str
    value: Any

    def holds(self) -> bool:
        """Is it the same object, or as good a number?"""
        try:
            now = self.place.cell_contents if isinstance(self.place, CellType) else self.place[self.name]
        except (KeyError, ValueError):  # it is deleted: the function will say so
            return False
        return now is self.value or (type(now) is type(self.value) and isinstance(now, PLAIN) and now == self.value)


def guards(function: Callable[..., Any]) -> list[Guard]:
    """One for every variable that a function of Python names, but modules and what is built in."""
    if isinstance(function, functools.partial):
        return guards(function.func)
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        return []
    code, own = function.__code__, function.__globals__
    found = [Guard(own, name, own[name]) for name in code.co_names if name in own]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append(Guard(cell, name, cell.cell_contents))
        except ValueError:  # nothing is in it yet
            continue
    return [guard for guard in found if not isinstance(guard.value, ModuleType | BuiltinFunctionType)]
