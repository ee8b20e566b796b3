"""A kernel as machine code that can be called: from memory, or linked or compiled by `machine_code`.

Requirements: Ctrl-C while it is made is heard at once and spoils nothing; kernels that nobody uses any more leave the
memory. A kernel is known by a digest of its text for LLVM, which has none of the caller's names, and of the source that
it is compiled by.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from fastpoly_kernels import machine_code, processor
from fastpoly_kernels.aside import aside
from fastpoly_kernels.forking import compiling
from fastpoly_kernels.log import ON, say, stage

from . import ir
from .stages import show
from .to_llvm import Text

Kernel = Callable[..., int]
"""kernel(carry, data, scratch, out, steps, every, wait) -> steps taken; the first four are addresses. One that several
threads call takes three arguments more: the addresses of the room where they tell each other their sums and of a count
that is 0 at first, and the thread's number."""

REMEMBERED = 256
"""Kernels kept in memory, those used last: 0.1 to 1 MB each. Beyond, a program keeps its own as long as it lives."""

_ready: WeakKeyDictionary[ir.Kernel, Kernel] = WeakKeyDictionary()
_texts: WeakKeyDictionary[ir.Kernel, tuple[Text, str]] = WeakKeyDictionary()
"""Of kernels that are not ready: the text for LLVM and its key."""

SYMBOL = "kernel"
"""What a kernel is called in the text that its key is a digest of."""

_linked_kernels: OrderedDict[str, Kernel] = OrderedDict()


def compiled(code: ir.Kernel, threads: int) -> Kernel:
    """The kernel as a function; see `Kernel`.

    Args:
        code: what it does.
        threads: how many call it at the same time; if more than one, it takes `room`, `counter` and `thread` as well.
    """
    if ON:
        say(f"kernel from {is_compiled(code) or 'LLVM'}")
    kernel = _ready.get(code)
    return aside(_made, code, threads) if kernel is None else kernel


def is_compiled(code: ir.Kernel) -> str | None:
    """Where `compiled` would find it, "memory" or "disk"; None if it would have to compile it."""
    if code in _ready:
        return "memory"
    _, key = aside(_text_and_key, code)
    if key in _linked_kernels:
        return "memory"
    return "disk" if machine_code.is_on_disk(key) else None


def _made(code: ir.Kernel, threads: int) -> Kernel:
    with compiling:
        kernel = _ready.get(code)  # another thread may have been faster
        if kernel is None:
            text, key = _text_and_key(code)
            # kernels that do the same have one key
            kernel = _linked_kernels.get(key) or _linked(key, text, threads)
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
        known = _texts[code] = text, machine_code.key(text.own, _own_stamp())
    return known


@cache
def _own_stamp() -> str:
    """A digest of the files that make machine code of a text."""
    files = ("llvm_pieces.py", "machine.py", "to_llvm.py")
    return hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in files)).hexdigest()


def register_bits() -> int:
    """Bits of the widest vector register that is compiled for."""
    return aside(processor.register_bits)


def _linked(key: str, text: Text, threads: int) -> Kernel:
    code = machine_code.linked(key, lambda symbol: optimised(text.whole().replace(f"@{SYMBOL}(", f"@{symbol}(")))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    shared = (pointer, pointer, number) if threads > 1 else ()
    function = code.function(number, *[pointer] * 4, *[number] * 3, *shared)

    def kernel(*arguments: int) -> int:
        return int(function(*arguments))

    kernel.code = code  # type: ignore[attr-defined]  # it lives as long as this does
    return kernel


FEW_PASSES = ("always_inliner", "loop_rotate", "loop_strength_reduce")
"""What LLVM does with a long kernel. Others are inlined, too, and then each function simplified as at level 1: what two
elementary functions of one number share is computed once. Its whole pipeline takes twice as long and hardly finds more:
what is the same in all turns of a loop is outside of it already, and so is what comes twice (see `to_llvm`)."""

LONG = 12_000
"""Lines of LLVM's text, about five for each statement, beyond which machine code is made without an order of
instructions that suits the processor: to find one takes time with their square."""


@stage("LLVM: passes")
def optimised(text: str) -> tuple[Any, int]:
    """LLVM's module of a text, and the level that machine code is to be made of it at."""
    import llvmlite.binding as llvm

    show("llvm", lambda: text)
    module = llvm.parse_assembly(text)
    is_long = text.count("\n") > LONG
    level = 0 if is_long else 3
    options = llvm.create_pipeline_tuning_options(1)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine_code.target(level), options)
    passes = llvm.create_new_module_pass_manager()
    for name in FEW_PASSES if is_long else FEW_PASSES[:1]:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)
    if not is_long:
        simplified = builder.getFunctionPassManager()
        for function in module.functions:
            if not function.is_declaration:
                simplified.run(function, builder)
    show("optimised", lambda: str(module))
    show("assembly", lambda: str(machine_code.target(level).emit_assembly(module)))
    return module, level
