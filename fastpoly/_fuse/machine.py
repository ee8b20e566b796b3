"""The text of a kernel as machine code that can be called: from memory, from the disk, or from numba.

Requirements: a kernel that was compiled once on this machine is never compiled again, in no process; loading it needs
neither numba nor its import (0.3 s), only LLVM's linker; Ctrl-C while it is made is heard at once and spoils nothing;
kernels that nobody uses any more leave the memory. llvmlite, interrupted between two lines of its own, frees memory
twice: whatever it does here, it does `aside`.

On the disk (`fastpoly_kernels.store`) a kernel's name is a digest of the text without its comments, of the source that
it is compiled by, of numba's version and of the processor; what is kept is the symbol's name and the object code.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastpoly_kernels import store
from fastpoly_kernels.aside import aside
from fastpoly_kernels.forking import compiling, in_child
from fastpoly_kernels.stamp import package_stamp

from .recursion import room_for

Kernel = Callable[..., int]
"""kernel(carry, data, scratch, out, steps, every, wait) -> steps taken; the first four are addresses. One that several
threads run takes three more: the addresses of `room`, where they tell each other their sums, and of `counter`, an int64
that is 0 at first, and the thread's number."""

REMEMBERED = 256
"""Kernels kept in memory, those used last: 0.1 to 1 MB each. Beyond, a program keeps its own as long as it lives."""

_ready: OrderedDict[tuple[str, str, int], Kernel] = OrderedDict()
_linked_kernels: OrderedDict[str, Kernel] = OrderedDict()
_dead: list[Any] = []
_names = itertools.count()


class _Code:
    """Linked code, as long as a kernel holds it. It is freed when the next kernel is made."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def __del__(self) -> None:
        _dead.append(self.library)


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
    key = _key(text, dtype, lanes)
    if key in _linked_kernels:
        return "memory"
    return "disk" if store.holds(f"{key}.kernel") else None


def _made(text: str, dtype: str, lanes: int, threads: int) -> Kernel:
    key = _key(text, dtype, lanes)
    with compiling:
        _dead.clear()
        kernel = _ready.get((text, dtype, lanes))  # another thread may have been faster
        if kernel is None:
            # texts that differ in their comments only have one key
            kernel = _linked_kernels.get(key) or _from_disk(key, threads)
            kernel = kernel or _from_numba(key, text, dtype, lanes, threads)
            _remember(_linked_kernels, key, kernel)
            _remember(_ready, (text, dtype, lanes), kernel)
    return kernel


def _remember(kernels: OrderedDict[Any, Kernel], key: Any, kernel: Kernel) -> None:
    kernels[key] = kernel
    while len(kernels) > REMEMBERED:
        kernels.popitem(last=False)


def _key(text: str, dtype: str, lanes: int) -> str:
    code = re.sub(r"[ ]*#.*", "", text)
    made_by = (package_stamp(), _own_stamp(), version("numba"), version("llvmlite"), _processor())
    parts = (code, dtype, str(lanes), *made_by)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _own_stamp() -> str:
    """A digest of this file, which tells numba how to compile."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


@cache
def _processor() -> str:
    """What numba compiles for, as far as it can be known without numba."""
    return aside(_told_by_llvm)


def _told_by_llvm() -> str:
    import llvmlite.binding as llvm

    asked = (os.environ.get(f"NUMBA_{name}", "") for name in ("CPU_NAME", "CPU_FEATURES", "OPT"))
    return " ".join(
        (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), llvm.get_process_triple(), *asked)
    )


@cache
def register_bits() -> int:
    """Bits of the widest vector register that numba compiles for."""
    told = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX")
    if "numba" in sys.modules or any(name in os.environ for name in told):
        from fastpoly_kernels import simd  # it knows what numba was told

        return simd.register_bits()
    return aside(_register_bits)


def _register_bits() -> int:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx") else 128


# -- machine code
# ----------------------------------------------------------------------------------------------------------


def _from_disk(key: str, threads: int) -> Kernel | None:
    stored = store.load(f"{key}.kernel")
    if stored is None:
        return None
    symbol, _, code = stored.partition(b"\n")
    return _linked(key, symbol.decode(), code, threads)


def _from_numba(key: str, text: str, dtype: str, lanes: int, threads: int) -> Kernel:
    import numba
    from numba import types

    from fastpoly_kernels import simd

    namespace: dict[str, Any] = {}
    exec(compile(text, f"<fastpoly kernel {key[:8]}>", "exec"), namespace)
    function = namespace["kernel"]
    function.__name__ = function.__qualname__ = f"kernel_{key}"  # LLVM's linker wants every symbol once
    number = simd.Lanes(getattr(types, dtype), lanes)
    shared = (number, types.CPointer(types.int64), types.int64) if threads > 1 else ()
    signature = types.int64(number, number, number, number, types.int64, types.int64, types.int64, *shared)
    # `contract` lets a product and a sum become one fused instruction, with one rounding less; nothing else is allowed:
    # sums are reordered by the text itself, and NaN means what it says.
    with room_for(text.count("\n")):  # numba follows a variable back through the loops before
        dispatcher = numba.njit(
            signature,
            error_model="numpy",
            fastmath={"contract"},
            no_cpython_wrapper=True,
            no_cfunc_wrapper=True,
            _nrt=False,
        )(function)
    result = dispatcher.overloads[dispatcher.signatures[0]]
    library, symbol = result.library, result.fndesc.llvm_func_name
    library._ensure_finalized()
    code = library._codegen._tm.emit_object(library._final_module)
    store.save(f"{key}.kernel", symbol.encode() + b"\n" + code)
    return _linked(key, symbol, code, threads)


def _linked(key: str, symbol: str, code: bytes, threads: int) -> Kernel:
    """Object code, callable. numba's calling convention: a place for the result and one for an exception come first."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(symbol)
    # a name is taken for good, even by a link that failed
    library = builder.link(_linker(), f"{key}-{next(_names)}")
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    shared = (pointer, pointer, number) if threads > 1 else ()
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *[pointer] * 6, *[number] * 3, *shared)(library[symbol])

    def kernel(*arguments: int) -> int:
        taken, exception = number(), pointer()
        status = function(ctypes.byref(taken), ctypes.byref(exception), *arguments)
        assert status == 0, "a kernel cannot raise"
        return taken.value

    kernel.code = _Code(library)  # type: ignore[attr-defined]  # it lives as long as this does
    return kernel


@cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler()


_left: list[Any] = []


def _leave_linker() -> None:
    """In a forked child: another thread may have been inside of it. What it linked can be called, so that it stays."""
    if _linker.cache_info().currsize:
        _left.append(_linker())
        _linker.cache_clear()


in_child(_leave_linker)
