"""`kernel`: numba's compiler with a disk cache that follows the whole package and never gets in the way.

numba's own `cache=True` has habits that a library cannot live with:

- it stamps a cached kernel with the one file that the function stands in, so that a change in a file that the kernel
  inlines (`simd.py`, say) leaves stale machine code behind (numba issue 8926). Here the stamp covers every source file
  of this package;
- it prefers to write into the package's own folder, where package managers do not expect files (numba issue 9350);
- it believes whatever it finds there: a flipped bit runs, and so does what another user has written;
- it raises when it can write nowhere, and when it reads a damaged file. Here the kernel is compiled instead;
- it prepares to compile before it loads what needs no compiling, at the price of numba's import once more.

So the files are those of `store`, and numba is asked for no more than to turn a kernel into bytes and back.
"""

import hashlib
import os
import pickle
import platform
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import llvmlite
import numba
from numba.core import caching
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from . import store
from .aside import aside
from .stamp import package_stamp

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` at its first call for each set of argument types, aside; keep the machine code on disk.

    The kernel releases the GIL. Division follows IEEE 754 (no ZeroDivisionError). Fast-math is off: where a kernel may
    reorder a sum it says so itself (`simd.total`). Without numba's runtime (`_nrt`) a kernel cannot allocate, and its
    loops do not count references to their arrays: two calls a step, which also spill every vector register.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy", _nrt=False)(function)
    dispatcher._cache = KernelCache(function)
    dispatcher.compile = partial(aside, dispatcher.compile)
    return dispatcher


def device(function: Function) -> Function:
    """Compile `function` for use inside kernels, where it is always inlined; it is not cached by itself."""
    return numba.njit(error_model="numpy", inline="always", _nrt=False)(function)


class KernelCache(caching.NullCache):
    """What numba asks for machine code before it compiles, and tells of it afterwards."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    @property
    def cache_path(self) -> str | None:
        """The folder."""
        place = store.folder()
        return None if place is None else str(place)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code for these argument types, or None."""
        # numba would first set its compiler up for everything that it can compile: 0.1 s, and with scipy installed
        # 0.3 s, of a fresh process that needs none of it to load machine code. Only the runtime's symbols are needed.
        rtsys.initialize(target_context)
        stored = store.load(self._key(sig, target_context.codegen()))
        if stored is None:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(stored))
        except Exception:  # whatever another build of numba or LLVM raises; compiling anew is right
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the machine code for these argument types."""
        if not data.library.has_dynamic_globals:  # addresses of this process
            store.save(self._key(sig, data.codegen), dumps(data._reduce()))

    def _key(self, sig: Any, codegen: Any) -> str:
        """A name that no other kernel has, and none made by other source, of other compilers or for another machine."""
        asked = [os.environ.get(f"NUMBA_{name}", "") for name in ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE")]
        made_by = (package_stamp(), numba.__version__, llvmlite.__version__, platform.python_version())
        parts = (self._name, str(sig), *map(str, codegen.magic_tuple()), *made_by, *asked)
        return f"{self._name}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.kernel"
