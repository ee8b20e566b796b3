"""The text of a kernel as machine code that can be called: from memory, from the disk, or from numba.

Requirements: a kernel that was compiled once on this machine is never compiled again, in no process; loading it needs
neither numba nor its import (0.3 s), only LLVM's linker; a damaged, foreign or unwritable cache costs a compilation and
no more.

The cache is a folder of files, one a kernel: `$FASTPOLY_CACHE_DIR`, or else the user's cache folder. A file's name is a
digest of the text without its comments, of the package that the text is compiled with, of numba's version and of the
processor; in it stand a digest of the rest, the symbol's name, and the object code.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastpoly_kernels.stamp import package_stamp

from .recursion import room_for

Kernel = Callable[..., int]
"""kernel(carry, data, scratch, out, steps, every, wait) -> steps taken; the first four are addresses. One that several
threads run takes three more: the addresses of `room`, where they tell each other their sums, and of `counter`, an int64
that is 0 at first, and the thread's number."""

MAGIC = b"fastpoly kernel 2\n"

_lock = threading.Lock()  # LLVM's set-up and numba's compiler want one thread at a time
_ready: dict[tuple[str, str, int], Kernel] = {}
_linked_kernels: dict[str, Kernel] = {}
_libraries: list[Any] = []  # the code lives as long as these do


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
        key = _key(text, dtype, lanes)
        with _lock:
            kernel = _ready.get((text, dtype, lanes))  # another thread may have been faster
            if kernel is None:
                # texts that differ in their comments only have one key
                kernel = _linked_kernels.get(key) or _from_disk(key, threads)
                kernel = kernel or _from_numba(key, text, dtype, lanes, threads)
                _ready[text, dtype, lanes] = _linked_kernels[key] = kernel
    return kernel


def is_compiled(text: str, dtype: str, lanes: int) -> str | None:
    """Where `compiled` would find it, "memory" or "disk"; None if it would have to compile it."""
    if (text, dtype, lanes) in _ready:
        return "memory"
    key, folder = _key(text, dtype, lanes), cache_folder()
    if key in _linked_kernels:
        return "memory"
    return "disk" if folder is not None and (folder / f"{key}.kernel").exists() else None


def _key(text: str, dtype: str, lanes: int) -> str:
    code = re.sub(r"[ ]*#.*", "", text)
    parts = (code, dtype, str(lanes), package_stamp(), version("numba"), version("llvmlite"), _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _processor() -> str:
    """What numba compiles for, as far as it can be known without numba."""
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
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx") else 128


# -- the disk
# --------------------------------------------------------------------------------------------------------------


def cache_folder() -> Path | None:
    """Where kernels are kept, or None if there is no such place."""
    asked = os.environ.get("FASTPOLY_CACHE_DIR")
    if asked:
        return Path(asked)
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError:
        return None
    return user_cache_path("fastpoly") / "kernels"


def _from_disk(key: str, threads: int) -> Kernel | None:
    folder = cache_folder()
    if folder is None:
        return None
    try:
        content = (folder / f"{key}.kernel").read_bytes()
    except OSError:
        return None
    magic, digest, rest = content[: len(MAGIC)], content[len(MAGIC) : len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if magic != MAGIC or hashlib.sha256(rest).digest() != digest:
        return None
    symbol, _, code = rest.partition(b"\n")
    return _linked(key, symbol.decode(), code, threads)


def _to_disk(key: str, symbol: str, code: bytes) -> None:
    folder = cache_folder()
    if folder is None:
        return
    rest = symbol.encode() + b"\n" + code
    put_file(folder / f"{key}.kernel", MAGIC + hashlib.sha256(rest).digest() + rest)


def put_file(path: Path, content: bytes) -> None:
    """Write a file of the cache at one stroke, or not at all."""
    with contextlib.suppress(OSError):  # a full or read-only disk
        path.parent.mkdir(parents=True, exist_ok=True)
        # written under another name first: another process may read at any moment
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


# -- machine code
# ----------------------------------------------------------------------------------------------------------


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
    _to_disk(key, symbol, code)
    return _linked(key, symbol, code, threads)


def _linked(key: str, symbol: str, code: bytes, threads: int) -> Kernel:
    """Object code, callable. numba's calling convention: a place for the result and one for an exception come first."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(symbol)
    library = builder.link(_linker(), key)
    _libraries.append(library)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    shared = (pointer, pointer, number) if threads > 1 else ()
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *[pointer] * 6, *[number] * 3, *shared)(library[symbol])

    def kernel(*arguments: int) -> int:
        taken, exception = number(), pointer()
        status = function(ctypes.byref(taken), ctypes.byref(exception), *arguments)
        assert status == 0, "a kernel cannot raise"
        return taken.value

    return kernel


@cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler()
