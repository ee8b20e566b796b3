"""Machine code that can be called: linked from the disk, or made by LLVM and then kept there.

Requirements: what was compiled once on this machine is never compiled again, in no process; an object that another
version of LLVM, other source or another processor made is never linked; whoever links it needs no more than
`llvmlite.binding`; code that nobody holds any more leaves the memory.

An object's name on the disk (`store`) is its key: a digest of what is computed, and of everything that makes machine
code of it. llvmlite, interrupted between two lines of its own, frees memory twice: what is done here is done `aside`,
and by one thread at a time, which holds `compiling`.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from . import processor, store
from .forking import compiling, in_child
from .log import stage
from .stamp import package_stamp

_dead: list[Any] = []
_names = itertools.count()


def key(*parts: str) -> str:
    """What stands for these parts, as compiled by this source, this version of LLVM and for this processor."""
    return hashlib.sha256("\0".join((*parts, *_maker())).encode()).hexdigest()


@cache
def _maker() -> tuple[str, ...]:
    import llvmlite
    import llvmlite.binding as llvm

    versions = (llvmlite.__version__, str(llvm.llvm_version_info))  # a distribution's llvmlite may be of another LLVM
    return package_stamp(), *versions, processor.name(), processor.features(), processor.triple()


def is_on_disk(key: str) -> bool:
    """Need it not be compiled?"""
    return store.holds(f"{key}.kernel")


def linked(key: str, written: Callable[[str], tuple[Any, int]]) -> Linked:
    """The code of this key, from the disk if it is there.

    Args:
        key: of `key`.
        written: makes the module, optimised, that defines a function of the name that it is given; and says at which
            level (0 to 3) machine code is to be made of it.
    """
    with compiling:
        _dead.clear()
        symbol = f"kernel_{key}"  # LLVM's linker wants every symbol once in a process
        code = store.load(f"{key}.kernel")
        if code is None:
            module, level = written(symbol)
            code = stage("LLVM: machine code")(target(level).emit_object)(module)
            store.save(f"{key}.kernel", code)
        return Linked(symbol, code)


class Linked:
    """Object code in this process, as long as this is held. It is freed when the next is linked.

    Attributes:
        address: of the function.
    """

    def __init__(self, symbol: str, code: bytes) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(symbol)
        # a name is taken for good, even by a link that failed
        self._library = stage("link")(builder.link)(_linker(), f"{symbol}-{next(_names)}")
        self.address = self._library[symbol]

    def function(self, result: Any, *arguments: Any) -> Callable[..., Any]:
        """The function, of these ctypes. It runs without the GIL, and only while this is held."""
        return ctypes.CFUNCTYPE(result, *arguments)(self.address)

    def call(self, *arguments: Any, keeps_gil: bool) -> Callable[[], int]:
        """A call of the function with these objects of ctypes, ready to be made again and again, while this is held.

        It returns what the function does, a number.

        Args:
            keeps_gil: run it without giving the GIL to other threads: right for what takes some microseconds.
        """
        make = ctypes.PYFUNCTYPE if keeps_gil else ctypes.CFUNCTYPE
        return partial(make(ctypes.c_int64)(self.address), *arguments)

    def __del__(self) -> None:
        if hasattr(self, "_library"):
            _dead.append(self._library)


def optimised(module: Any, symbol: str, unroll_early: bool = False) -> Any:
    """A module of LLVM whose function `symbol` is as fast as LLVM makes it.

    Args:
        unroll_early: unroll short loops while their elementary functions still are calls, which are not long.
    """
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization, options.slp_vectorization = True, False
    passes = llvm.create_pass_builder(target(3), options)
    if unroll_early:
        passes.getFunctionPassManager().run(module.get_function(symbol), passes)
    passes.getModulePassManager().run(module, passes)
    return module


@cache
def target(level: int) -> Any:
    """What is compiled for, and how well: 0 to 3."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(processor.triple()).create_target_machine(
        cpu=processor.name(), features=processor.features(), opt=level, reloc="pic", codemodel="small", jit=True
    )


@cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    # the other linker puts code and constants wherever there is room, and aborts the process where that is 2 GB apart,
    # as it comes to be beside JAX
    return llvm.create_lljit_compiler(use_jit_link=True)


_left: list[Any] = []


def _leave_linker() -> None:
    """In a forked child: another thread may have been inside of it. What it linked can be called, so that it stays."""
    if _linker.cache_info().currsize:
        _left.append(_linker())
        _linker.cache_clear()


in_child(_leave_linker)
