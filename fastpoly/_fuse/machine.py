"""A kernel as machine code that can be called: from memory, from the disk, or from LLVM.

Requirements: a kernel that was compiled once on this machine is never compiled again, in no process; Ctrl-C while it is
made is heard at once and spoils nothing; kernels that nobody uses any more leave the memory. llvmlite alone is needed,
and nothing of numba, whose import takes 0.3 s. llvmlite, interrupted between two lines of its own, frees memory twice:
whatever it does here, it does `aside`.

On the disk (`fastpoly_kernels.store`) a kernel's name is a digest of its text for LLVM, which has none of the caller's
names, of the source that it is compiled by, of llvmlite's version and of the processor; what is kept is the object
code.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from fastpoly_kernels import processor, store
from fastpoly_kernels.aside import aside
from fastpoly_kernels.forking import compiling, in_child
from fastpoly_kernels.stamp import package_stamp

from . import ir
from .to_llvm import Text

Kernel = Callable[..., int]
"""kernel(carry, data, scratch, out, steps, every, wait) -> steps taken; the first four are addresses. One that several
threads run takes three more: the addresses of `room`, where they tell each other their sums, and of `counter`, an int64
that is 0 at first, and the thread's number."""

REMEMBERED = 256
"""Kernels kept in memory, those used last: 0.1 to 1 MB each. Beyond, a program keeps its own as long as it lives."""

_ready: WeakKeyDictionary[ir.Kernel, Kernel] = WeakKeyDictionary()
_texts: WeakKeyDictionary[ir.Kernel, tuple[Text, str]] = WeakKeyDictionary()
"""Of kernels that are not ready: the text for LLVM and its key."""

SYMBOL = "kernel"
"""What a kernel is called in the text that its key is a digest of."""

_linked_kernels: OrderedDict[str, Kernel] = OrderedDict()
_dead: list[Any] = []
_names = itertools.count()


class _Code:
    """Linked code, as long as a kernel holds it. It is freed when the next kernel is made."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def __del__(self) -> None:
        _dead.append(self.library)


def compiled(code: ir.Kernel, threads: int) -> Kernel:
    """The kernel as a function; see `Kernel`.

    Args:
        code: what it does.
        threads: how many call it at the same time; if more than one, it takes `room`, `counter` and `thread` as well.
    """
    kernel = _ready.get(code)
    return aside(_made, code, threads) if kernel is None else kernel


def is_compiled(code: ir.Kernel) -> str | None:
    """Where `compiled` would find it, "memory" or "disk"; None if it would have to compile it."""
    if code in _ready:
        return "memory"
    _, key = aside(_text_and_key, code)
    if key in _linked_kernels:
        return "memory"
    return "disk" if store.holds(f"{key}.kernel") else None


def _made(code: ir.Kernel, threads: int) -> Kernel:
    with compiling:
        _dead.clear()
        kernel = _ready.get(code)  # another thread may have been faster
        if kernel is None:
            text, key = _text_and_key(code)
            # kernels that do the same have one key
            kernel = _linked_kernels.get(key) or _from_disk(key, threads) or _from_llvm(key, text.whole(), threads)
            _linked_kernels[key] = _ready[code] = kernel
            _linked_kernels.move_to_end(key)
            while len(_linked_kernels) > REMEMBERED:
                _linked_kernels.popitem(last=False)
            _texts.pop(code, None)
    return kernel


def _text_and_key(code: ir.Kernel) -> tuple[Text, str]:
    known = _texts.get(code)
    if known is None:
        text = Text(code, SYMBOL)
        made_by = (package_stamp(), _own_stamp(), version("llvmlite"), _processor())
        known = _texts[code] = text, hashlib.sha256("\0".join((text.own, *made_by)).encode()).hexdigest()
    return known


@cache
def _own_stamp() -> str:
    """A digest of the files that make machine code of a text."""
    files = ("llvm_pieces.py", "machine.py", "to_llvm.py")
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


def _from_llvm(key: str, text: str, threads: int) -> Kernel:
    module, level = optimised(text.replace(f"@{SYMBOL}(", f"@{_symbol(key)}("))
    code: bytes = target(level).emit_object(module)
    store.save(f"{key}.kernel", code)
    return _linked(key, code, threads)


PASSES = (
    "always_inliner",
    "reassociate",
    "instruction_combine",
    "simplify_cfg",
    "loop_rotate",
    "loop_unroll",
    "simplify_cfg",
)
"""What LLVM does with a kernel. Its own pipelines take two to four times as long and hardly find more: what is the same
in all turns of a loop is outside of it already, and so is what comes twice (see `to_llvm`)."""

FEW_PASSES = ("always_inliner", "loop_rotate", "loop_strength_reduce")
"""What it does with a long one."""

LONG = 12_000
"""Lines of LLVM's text, about five for each statement, beyond which machine code is made without an order of
instructions that suits the processor: to find one takes time with their square."""


def optimised(text: str) -> tuple[Any, int]:
    """LLVM's module of a text, and the level that machine code is to be made of it at."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    names, level = (FEW_PASSES, 0) if text.count("\n") > LONG else (PASSES, 3)
    passes = llvm.create_new_module_pass_manager()
    for name in names:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, llvm.create_pass_builder(target(level), llvm.create_pipeline_tuning_options(max(level, 1))))
    return module, level


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
