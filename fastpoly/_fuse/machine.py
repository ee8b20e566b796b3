"""The text of a kernel as machine code that can be called: from memory, from the disk, or from LLVM.

Requirements: a kernel that was compiled once on this machine is never compiled again, in no process; Ctrl-C while it is
made is heard at once and spoils nothing; kernels that nobody uses any more leave the memory. llvmlite alone is needed,
and nothing of numba, whose import takes 0.3 s. llvmlite, interrupted between two lines of its own, frees memory twice:
whatever it does here, it does `aside`.

On the disk (`fastpoly_kernels.store`) a kernel's name is a digest of the text without its comments, of the source that
it is compiled by, of llvmlite's version and of the processor; what is kept is the object code.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastpoly_kernels import processor, store
from fastpoly_kernels.aside import aside
from fastpoly_kernels.forking import compiling, in_child
from fastpoly_kernels.log import ON, say, stage
from fastpoly_kernels.stamp import package_stamp

from .read import read
from .to_llvm import BITS, to_llvm

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
    if ON:
        say(f"kernel from {is_compiled(text, dtype, lanes) or 'LLVM'}")
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
            kernel = kernel or _from_llvm(key, text, dtype, lanes, threads)
            _remember(_linked_kernels, key, kernel)
            _remember(_ready, (text, dtype, lanes), kernel)
    return kernel


def _remember(kernels: OrderedDict[Any, Kernel], key: Any, kernel: Kernel) -> None:
    kernels[key] = kernel
    while len(kernels) > REMEMBERED:
        kernels.popitem(last=False)


def _key(text: str, dtype: str, lanes: int) -> str:
    code = re.sub(r"[ ]*#.*", "", text)
    made_by = (package_stamp(), _own_stamp(), version("llvmlite"), aside(_processor))
    parts = (code, dtype, str(lanes), *made_by)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _own_stamp() -> str:
    """A digest of the files that make machine code of a text."""
    files = ("ir.py", "machine.py", "read.py", "to_llvm.py")
    return hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in files)).hexdigest()


def _processor() -> str:
    """What is compiled for."""
    return " ".join((processor.name(), processor.features(), processor.triple()))


def register_bits() -> int:
    """Bits of the widest vector register that is compiled for."""
    return aside(processor.register_bits)


# -- machine code
# ----------------------------------------------------------------------------------------------------------


def _from_disk(key: str, threads: int) -> Kernel | None:
    code = store.load(f"{key}.kernel")
    return None if code is None else _linked(key, code, threads)


def _from_llvm(key: str, text: str, dtype: str, lanes: int, threads: int) -> Kernel:
    module, level = optimised(text, dtype, lanes, _symbol(key))
    code: bytes = stage("LLVM: machine code")(target(level).emit_object)(module)
    store.save(f"{key}.kernel", code)
    return _linked(key, code, threads)


LONG = 12_000
"""Lines of LLVM's text, of which a page has five times fewer, beyond which machine code is made without an order of
instructions that suits the processor: to find one takes time with their square."""


@stage("LLVM: passes")
def optimised(text: str, dtype: str, lanes: int, symbol: str) -> tuple[Any, int]:
    """A kernel's module of LLVM, by way of the loop IR, and the level that machine code is to be made of it at.

    Its function is called `symbol`.
    """
    import llvmlite.binding as llvm

    register = processor.register_bits() // BITS[dtype]
    written = to_llvm(read(text, dtype, lanes, register), symbol)
    module = llvm.parse_assembly(written)
    if written.count("\n") > LONG:
        passes = llvm.create_pass_builder(target(0), llvm.create_pipeline_tuning_options(1))
        few = llvm.create_new_module_pass_manager()
        few.add_always_inliner_pass()
        few.add_loop_rotate_pass()
        few.add_loop_strength_reduce_pass()
        few.run(module, passes)
        return module, 0
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization, options.slp_vectorization = True, False
    passes = llvm.create_pass_builder(target(3), options)
    # short loops are unrolled while their elementary functions still are calls, which are not long
    passes.getFunctionPassManager().run(module.get_function(symbol), passes)
    passes.getModulePassManager().run(module, passes)
    return module, 3


@cache
def target(level: int) -> Any:
    """What is compiled for, and how well."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(processor.triple()).create_target_machine(
        cpu=processor.name(), features=processor.features(), opt=level, reloc="pic", codemodel="small", jit=True
    )


def _symbol(key: str) -> str:
    """What a kernel is called: LLVM's linker wants every symbol once in a process."""
    return f"kernel_{key}"


@stage("link")
def _linked(key: str, code: bytes, threads: int) -> Kernel:
    """Object code, callable."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(_symbol(key))
    # a name is taken for good, even by a link that failed
    library = builder.link(_linker(), f"{key}-{next(_names)}")
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    shared = (pointer, pointer, number) if threads > 1 else ()
    function = ctypes.CFUNCTYPE(number, *[pointer] * 4, *[number] * 3, *shared)(library[_symbol(key)])

    def kernel(*arguments: int) -> int:
        return int(function(*arguments))

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
