"""`kernel`: a function of arrays and numbers as machine code, made at its first call for each kind of arguments.

The function is written in Python, and read by `stage` when there is no machine code of it on the disk yet. A process
that finds it there imports `llvmlite.binding` to link it, and nothing that compiles.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from . import machine_code
from .aside import aside
from .forking import compiling

Kind = tuple[Any, ...]
"""Of an argument: ("d",) a float64, ("f",) a float32, ("q",) an integer, ("tuple", "d", 5) so many floats,
("array", "d", (6,)) an array of rows of that shape. Kernels are compiled for kinds: of an array all but the first
length is known to them."""

_CTYPES = {"d": ctypes.c_double, "f": ctypes.c_float, "q": ctypes.c_int64}


def kernel(*results: str | type) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a function a kernel, which releases the GIL.

    Its arguments are contiguous arrays of float64 or float32, floats, integers, and tuples of floats of one type.
    Floats of float32 are np.float32. Arrays are written to in place.

    Args:
        results: what the function returns: each the name of an argument whose kind the result has, or `bool`.
    """
    return lambda function: Kernel(function, results)


class device:  # noqa: N801  (a decorator)
    """A function with loops or branches for use inside of kernels, where it is written out."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __call__(self, *arguments: Any) -> Any:
        """What it returns, for arguments that are values of the kernel that is being written."""
        from .stage import inlined

        return inlined(self.function, arguments)


class Kernel:
    """See `kernel`."""

    def __init__(self, function: Callable[..., Any], results: tuple[str | type, ...]) -> None:
        self.__name__, self.__doc__, self.__module__ = function.__name__, function.__doc__, function.__module__
        self.function = function
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        self._results = [None if result is bool else names.index(result) for result in results]
        self._ready: dict[tuple[Kind, ...], Callable[..., Any]] = {}

    @property
    def kinds(self) -> tuple[tuple[Kind, ...], ...]:
        """Of arguments, for which it is at hand."""
        return tuple(self._ready)

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""
        kinds, flat = _flattened(arguments)
        call = self._ready.get(kinds) or aside(self._made, kinds)
        return call(flat)

    def module(self, kinds: tuple[Kind, ...], symbol: str) -> Any:
        """LLVM's module for these kinds, optimised, whose function is called `symbol`."""
        from .stage import staged

        return machine_code.optimised(staged(self.function, kinds, symbol), symbol)

    def assembly(self, *arguments: Any) -> str:
        """What the processor is told to do for such arguments, as text."""
        kinds, _ = _flattened(arguments)
        return str(machine_code.target(3).emit_assembly(self.module(kinds, self.__name__)))

    def _made(self, kinds: tuple[Kind, ...]) -> Callable[..., Any]:
        with compiling:
            if kinds not in self._ready:  # another thread may have been faster
                key = machine_code.key(self.__module__, self.__name__, repr(kinds))
                code = machine_code.linked(key, lambda symbol: (self.module(kinds, symbol), 3))
                self._ready[kinds] = self._callable(code, kinds)
        return self._ready[kinds]

    def _callable(self, code: machine_code.Linked, kinds: tuple[Kind, ...]) -> Callable[..., Any]:
        """call(the arguments, flattened): the results, put together again from 8 bytes each."""
        returned = [("?",) if at is None else kinds[at] for at in self._results]
        results = struct.Struct("=" + "".join(_RESULTS.get(kind[0]) or f"{kind[2]}d" for kind in returned))
        ends = [*itertools.accumulate(kind[2] if kind[0] == "tuple" else 1 for kind in returned)]
        parts = [
            slice(end - kind[2], end) if kind[0] == "tuple" else end - 1
            for end, kind in zip(ends, returned, strict=True)
        ]
        buffer = ctypes.c_char * results.size
        function = code.function(None, *(one for kind in kinds for one in _ctypes(kind)), buffer)

        def call(flat: list[Any]) -> Any:
            out = buffer()
            function(*flat, out)
            values = results.unpack(out)
            found = tuple(values[part] for part in parts)
            return found if len(found) > 1 else found[0] if found else None

        call.code = code  # type: ignore[attr-defined]  # it lives as long as this does
        return call


_RESULTS = {"d": "d", "f": "d", "q": "q", "?": "?7x"}


def _flattened(arguments: tuple[Any, ...]) -> tuple[tuple[Kind, ...], list[Any]]:
    """Their kinds, and what a kernel is called with: an array is its address and its first length."""
    kinds: list[Kind] = []
    flat: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            kinds.append(("array", argument.dtype.char, argument.shape[1:]))
            flat += argument.ctypes.data, len(argument)
        elif isinstance(argument, tuple):
            kinds.append(("tuple", _code(argument[0]), len(argument)))
            flat += argument
        else:
            kinds.append((_code(argument),))
            flat.append(argument)
    return tuple(kinds), flat


def _code(number: Any) -> str:
    return "f" if isinstance(number, np.float32) else "d" if isinstance(number, float) else "q"


def _ctypes(kind: Kind) -> list[Any]:
    if kind[0] == "array":
        return [ctypes.c_void_p, ctypes.c_int64]
    return [_CTYPES[kind[1]]] * kind[2] if kind[0] == "tuple" else [_CTYPES[kind[0]]]
