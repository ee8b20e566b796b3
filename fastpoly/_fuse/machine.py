"""The text of a kernel as machine code that can be called: from memory, or linked or compiled by `machine_code`.

Requirements: Ctrl-C while it is made is heard at once and spoils nothing; kernels that nobody uses any more leave the
memory. A kernel is known by a digest of its text without the comments, and of the source that it is compiled by.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fastpoly_kernels import machine_code, processor
from fastpoly_kernels.aside import aside
from fastpoly_kernels.forking import compiling

from .read import read
from .to_llvm import BITS, to_llvm

Kernel = Callable[..., int]
"""kernel(carry, data, scratch, out, steps, every, wait) -> steps taken; the first four are addresses. One that several
threads run takes three more: the addresses of `room`, where they tell each other their sums, and of `counter`, an int64
that is 0 at first, and the thread's number."""

REMEMBERED = 256
"""Kernels kept in memory, those used last: 0.1 to 1 MB each. Beyond, a program keeps its own as long as it lives."""

LONG = 12_000
"""Lines of LLVM's text, of which a page has five times fewer, beyond which machine code is made without an order of
instructions that suits the processor: to find one takes time with their square."""

_ready: OrderedDict[tuple[str, str, int], Kernel] = OrderedDict()
_linked_kernels: OrderedDict[str, Kernel] = OrderedDict()


def compiled(text: str, dtype: str, lanes: int, threads: int) -> Kernel:
    """The kernel of a text written by `write`.

    Args:
        text: defines `kernel`; see `Kernel`.
        dtype: "float32" or "float64": what its pointers point to.
        lanes: how many of them it reads at a time.
        threads: how many call it at the same time; if more than one, it takes `room`, `counter` and `thread` as well.
    """
    kernel = _ready.get((text, dtype, lanes))
    if kernel is None:
        return aside(_made, text, dtype, lanes, threads)
    with contextlib.suppress(KeyError):  # another thread has just put it out
        _ready.move_to_end((text, dtype, lanes))
    return kernel


def is_compiled(text: str, dtype: str, lanes: int) -> str | None:
    """Where `compiled` would find it, "memory" or "disk"; None if it would have to compile it."""
    if (text, dtype, lanes) in _ready:
        return "memory"
    key = aside(_key, text, dtype, lanes)
    if key in _linked_kernels:
        return "memory"
    return "disk" if machine_code.is_on_disk(key) else None


def _made(text: str, dtype: str, lanes: int, threads: int) -> Kernel:
    key = _key(text, dtype, lanes)
    with compiling:
        kernel = _ready.get((text, dtype, lanes))  # another thread may have been faster
        if kernel is None:
            # texts that differ in their comments only have one key
            kernel = _linked_kernels.get(key) or _linked(key, text, dtype, lanes, threads)
            _remember(_linked_kernels, key, kernel)
            _remember(_ready, (text, dtype, lanes), kernel)
    return kernel


def _remember(kernels: OrderedDict[Any, Kernel], key: Any, kernel: Kernel) -> None:
    kernels[key] = kernel
    while len(kernels) > REMEMBERED:
        kernels.popitem(last=False)


def _key(text: str, dtype: str, lanes: int) -> str:
    code = re.sub(r"[ ]*#.*", "", text)
    return machine_code.key(code, dtype, str(lanes), _own_stamp())


@cache
def _own_stamp() -> str:
    """A digest of the files that make machine code of a text."""
    files = ("ir.py", "machine.py", "read.py", "to_llvm.py")
    return hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in files)).hexdigest()


def register_bits() -> int:
    """Bits of the widest vector register that is compiled for."""
    return aside(processor.register_bits)


def _linked(key: str, text: str, dtype: str, lanes: int, threads: int) -> Kernel:
    code = machine_code.linked(key, lambda symbol: optimised(text, dtype, lanes, symbol))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    shared = (pointer, pointer, number) if threads > 1 else ()
    function = code.function(number, *[pointer] * 4, *[number] * 3, *shared)

    def kernel(*arguments: int) -> int:
        return int(function(*arguments))

    kernel.code = code  # type: ignore[attr-defined]  # it lives as long as this does
    return kernel


def optimised(text: str, dtype: str, lanes: int, symbol: str) -> tuple[Any, int]:
    """A kernel's module of LLVM, by way of the loop IR, and the level that machine code is to be made of it at.

    Its function is called `symbol`.
    """
    import llvmlite.binding as llvm

    register = processor.register_bits() // BITS[dtype]
    written = to_llvm(read(text, dtype, lanes, register), symbol)
    module = llvm.parse_assembly(written)
    if written.count("\n") > LONG:
        passes = llvm.create_pass_builder(machine_code.target(0), llvm.create_pipeline_tuning_options(1))
        few = llvm.create_new_module_pass_manager()
        few.add_always_inliner_pass()
        few.add_loop_rotate_pass()
        few.add_loop_strength_reduce_pass()
        few.run(module, passes)
        return module, 0
    return machine_code.optimised(module, symbol, unroll_early=True), 3
