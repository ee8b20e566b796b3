"""`kernel`: numba's compiler with a disk cache that follows the whole package and never gets in the way.

numba's own `cache=True` has four habits that a library cannot live with:

- it stamps a cached kernel with the one file that the function stands in, so that a change in a file that the kernel
  inlines (`simd.py`, say) leaves stale machine code behind (numba issue 8926). Here the stamp covers every source file
  of this package;
- it prefers to write into the package's own folder, where package managers do not expect files (numba issue 9350).
  Here the cache lies in `$NUMBA_CACHE_DIR` or else in the user's cache folder;
- it raises when it can write nowhere, and when it reads a damaged file. Here the kernel is compiled instead;
- it prepares to compile before it loads what needs no compiling, at the price of numba's import once more.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core import caching
from numba.core.runtime.nrt import rtsys

from .stamp import package_stamp

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile `function` at its first call for each set of argument types; keep the machine code on disk.

    The kernel releases the GIL. Division follows IEEE 754 (no ZeroDivisionError). Fast-math is off: where a kernel may
    reorder a sum it says so itself (`simd.total`). Without numba's runtime (`_nrt`) a kernel cannot allocate, and its
    loops do not count references to their arrays: two calls a step, which also spill every vector register.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy", _nrt=False)(function)
    with contextlib.suppress(RuntimeError):  # no folder can be written to: the kernel lives as long as the process
        dispatcher._cache = KernelCache(function)
    return dispatcher


def device(function: Function) -> Function:
    """Compile `function` for use inside kernels, where it is always inlined; it is not cached by itself."""
    return numba.njit(error_model="numpy", inline="always", _nrt=False)(function)


class _StampedWithPackage:
    def get_source_stamp(self) -> str:
        return package_stamp()


class _ChosenFolder(_StampedWithPackage, caching.UserProvidedCacheLocator):
    """`$NUMBA_CACHE_DIR`."""


class _UserFolder(_StampedWithPackage, caching.UserWideCacheLocator):
    """The user's cache folder (`~/.cache/numba` on Linux)."""


class _KernelCacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = [_ChosenFolder, _UserFolder]  # noqa: RUF012


class KernelCache(caching.FunctionCache):
    """numba's function cache, with a damaged or vanished file read as "not there"."""

    _impl_class = _KernelCacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code for these argument types, or None."""
        # numba would first set its compiler up for everything that it can compile: 0.1 s, and with scipy installed
        # 0.3 s, of a fresh process that needs none of it to load machine code. Only the runtime's symbols are needed.
        rtsys.initialize(target_context)
        try:
            return self._load_overload(sig, target_context)
        except Exception:  # whatever a damaged pickle raises; compiling anew is right
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the machine code for these argument types."""
        # A full or read-only disk, or a damaged index on it, costs the next process a compilation and no more.
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)
