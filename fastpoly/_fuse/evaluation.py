"""A function of tensors as one call of a kernel: what goes in is copied in, it runs once, what comes out is new.

Requirements: a call costs a few microseconds beside the arithmetic. So everything that one call has in common with the
next is done beforehand: the arguments, and where in the kernel's arrays each tensor lies. What goes in is copied every
time, since nobody can tell whether its memory was written to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from fastpoly_kernels.machine_code import Linked

from .._arrays import Array
from .pack import get
from .program import Program, aligned, bound, write_for_a_call
from .recycled import copies
from .traced import found, read, written_anew

Function: TypeAlias = "Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]"

_copy = ctypes.PYFUNCTYPE(None)(ctypes.cast(ctypes.memmove, ctypes.c_void_p).value)  # type: ignore[arg-type]
"""memmove, of objects of ctypes: numbers would be made such objects in every call."""

SHORT = 20_000
"""Cycles of a kernel for which other threads can wait: to let them run takes as long."""


class Evaluation:
    """A function of tensors, fused.

    Attributes:
        page: gives the text of its kernel.
        outside: the tensors that it reads and that are none of its arguments, as they were when it was traced.
    """

    def __init__(self, function: Function, like: Sequence[torch.Tensor], names: dict[int, str]) -> None:
        """Trace and compile it.

        Args:
            function: takes a list of tensors like `like`, on the CPU; returns a list of tensors, the first a number.
            names: what to call tensors that it reads, by their ids.

        Raises:
            UnsupportedOperationError: it cannot be fused.
        """
        reading = read(lambda tensors: [*tensors, *function(tensors)], like, names, 0)
        written = found(reading, 0, write_for_a_call) or written_anew(reading, 0, write_for_a_call)
        self.page, self.outside = written.page, reading.graph.outside
        self._program = bound(written, reading.constants)
        self._like = [tensor.detach() for tensor in like]
        self._free: list[Call] = []  # a call takes one of these, so that several threads can call

    def __call__(self, leaves: Sequence[torch.Tensor | Array]) -> list[Array] | None:
        """The function of these tensors or arrays, each of the shape and dtype that it was traced with, as arrays.

        None if its first result is not finite, or the function itself would raise an error.
        """
        call = self.lent()
        results = call(leaves)
        self.given_back(call)
        return results

    def lent(self) -> Call:
        """The arrays for a call, which are nobody else's until they are given back."""
        try:
            return self._free.pop()
        except IndexError:
            return Call(self._program, self._like)

    def given_back(self, call: Call) -> None:
        """What was lent is free again."""
        self._free.append(call)


class Call:
    """The arrays of one call at a time.

    Attributes:
        kernel: the kernel's call; 0 if there is no result.
        places: for each argument its place there, and where that has the bytes of a tensor, the address that these are
            to be copied from, and what copies them.
        copies: for each result what copies it.
        parts: kernel, places and copies.
        is_plain: are these of the dtypes that they are to have?
    """

    def __init__(self, program: Program, like: Sequence[torch.Tensor]) -> None:
        written, layout = program.written, program.written.layout
        self._run = run = program.start(like)
        out = aligned(layout.row, written.dtype)
        self.places = [
            _place(run.carry, get(run.carry[None], start, memory, shape)[0, ...], _of_numpy(dtype))
            for shape, dtype, (memory, start) in zip(written.inputs, written.input_dtypes, layout.carried, strict=True)
        ]
        results = zip(written.results, layout.results, strict=True)
        lie = ((run.scratch[0] if layout.is_left(at[0]) else out, shape, *at) for shape, at in results)
        views = [get(array[None], start, memory, shape)[0, ...] for array, shape, memory, start in lie]
        self.copies = [copies(view) for view in views]
        self._dtypes = [_of_numpy(dtype) for dtype in written.dtypes]
        self.is_plain = all(dtype == out.dtype for dtype in self._dtypes)
        if layout.threads > 1:
            self.kernel: Callable[[], int] = lambda: run.advance(1, 1, 0, out)
        else:
            pointers = (array.ctypes.data for array in (run.carry, program.data, run.scratch[0], out))
            arguments = (*map(ctypes.c_void_p, pointers), *map(ctypes.c_int64, (1, 1, 0)))
            code: Linked = program.kernel.code  # type: ignore[attr-defined]
            self.kernel = code.call(*arguments, keeps_gil=written.cycles < SHORT)
        self.parts = (self.kernel, *self.places, self.copies)

    def __call__(self, leaves: Sequence[torch.Tensor | Array]) -> list[Array] | None:
        for (place, source, copy), leaf in zip(self.places, leaves, strict=False):
            if isinstance(leaf, np.ndarray):
                place[...] = leaf
            elif source is not None and copy is not None and leaf.is_contiguous() and not leaf.is_neg():
                source.value = leaf.data_ptr()
                copy()
            else:
                place[...] = leaf.resolve_neg().numpy()
        if not self.kernel():
            return None
        if self.is_plain:
            return [copy() for copy in self.copies]
        return [copy().astype(dtype, copy=False) for copy, dtype in zip(self.copies, self._dtypes, strict=True)]


def _place(
    carry: Array, place: Array, dtype: np.dtype[Any]
) -> tuple[Array, ctypes.c_void_p | None, Callable[[], None] | None]:
    """The part of `carry` that is a tensor's; and if it has the bytes of that, one after the other, the address that
    they are to be copied from, and what copies them.
    """
    assert np.shares_memory(place, carry) or not place.size
    if not place.flags.c_contiguous or place.dtype != dtype:
        return place, None, None
    source = ctypes.c_void_p()
    return place, source, partial(_copy, ctypes.c_void_p(place.ctypes.data), source, ctypes.c_size_t(place.nbytes))


def _of_numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype
