"""Kernels that Triton compiles with fewer passes: those that this package's kernels have a use for.

Triton's own order of passes makes ready for matrix units, asynchronous copies and pipelined loops. Kernels that take
all their steps in one program have none of these, but thousands of statements in one loop, over which some of those
passes take a time that grows with the square of their number, to change nothing.

Triton knows a hook that may replace stages of its compiler, for all kernels of a process. So it is there only while one
of these kernels is compiled, and does nothing in other threads; where somebody else has a hook, theirs stays and all
passes run. From Triton 3.7 on the passes are part of the key by which it finds compiled kernels again; before, the
kernels' texts are, which nobody else compiles. A Triton whose passes are not known to be these compiles as it always
does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import triton
from triton import knobs
from triton.runtime.jit import JITFunction

from .forking import new_lock

KNOWN = ("3.6.", "3.7.")
"""Versions of Triton for which the passes left out were seen to change nothing in the machine code."""

_lock = new_lock()


def with_few_passes(kernel: Any, through_memory: bool = False) -> Any:
    """The kernel, to be compiled with few passes when it is launched.

    Args:
        kernel: what `triton.jit` made of a function.
        through_memory: does it move blocks to memory and back in its loop? Then they go four numbers at a time, which
            a pass of its own sees to.
    """
    if type(kernel) is JITFunction and hasattr(JITFunction, "_do_compile"):  # not where Triton interprets
        kernel.__class__ = _ThroughMemory if through_memory else _InRegisters
    return kernel


@contextmanager
def few_passes(through_memory: bool = False) -> Iterator[None]:
    """While it lasts, this thread's calls of `triton.compile` run few passes."""
    with _lock:
        if not triton.__version__.startswith(KNOWN) or knobs.runtime.add_stages_inspection_hook is not None:
            yield
            return
        own = threading.get_ident()

        def hook(
            backend: Any = None, stages: Any = None, options: Any = None, language: Any = None, capability: Any = None
        ) -> tuple[str, str] | None:
            if stages is None:  # the question is what to add to a key
                key = f"few passes{' and coalescing' * through_memory}" if threading.get_ident() == own else ""
                return key, repr(key)
            if threading.get_ident() == own and type(backend).__name__ == "CUDABackend":
                full = stages["ttgir"]
                stages["ttgir"] = lambda module, metadata: (
                    _lowered(module, metadata, options, capability, through_memory) or full(module, metadata)
                )
            return None

        knobs.runtime.add_stages_inspection_hook = hook
        try:
            yield
        finally:
            knobs.runtime.add_stages_inspection_hook = None


class _InRegisters(JITFunction):  # type: ignore[misc]
    def _do_compile(self, *args: Any, **kwargs: Any) -> Any:
        with few_passes():
            return super()._do_compile(*args, **kwargs)


class _ThroughMemory(JITFunction):  # type: ignore[misc]
    def _do_compile(self, *args: Any, **kwargs: Any) -> Any:
        with few_passes(through_memory=True):
            return super()._do_compile(*args, **kwargs)


def _lowered(module: Any, metadata: dict[str, Any], options: Any, capability: int, through_memory: bool) -> Any:
    """The module with a layout for every block; None, and unchanged, where Triton has no such passes."""
    from triton._C.libtriton import ir, passes

    try:
        manager = ir.pass_manager(module.context)
        passes.ttir.add_convert_to_ttgpuir(manager, f"cuda:{capability}", options.num_warps, 32, options.num_ctas)
        if through_memory:
            passes.ttgpuir.add_coalesce(manager)
            passes.ttgpuir.add_remove_layout_conversions(manager)
        passes.ttir.add_loop_aware_cse(manager)
        passes.common.add_canonicalizer(manager)
        passes.ttir.add_triton_licm(manager)
        passes.common.add_cse(manager)
        passes.common.add_canonicalizer(manager)
        tensors = module.get_tensordesc_metadata
    except (AttributeError, TypeError):
        return None
    if options.maxnreg is not None:
        module.set_attr("ttg.maxnreg", ir.builder(module.context).get_int32_attr(options.maxnreg))
    manager.run(module, "make_ttgir")
    metadata["tensordesc_meta"] = tensors()
    return module
