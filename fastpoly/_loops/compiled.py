"""Blocks of steps through torch.compile: the best that torch itself can do for a step, on whatever runs torch.

Requirements: any function that torch can differentiate, without switches of torch's compiler that are global or off by
default; one compilation a loop; the same bits however a run is cut into portions; as many loops in a process as one
likes.

So the step is traced once to ATen operations (`recorded`: autograd itself runs while it records, where dynamo takes
torch.autograd.grad only under `config.trace_autograd_ops`), and BLOCK copies of that graph go through torch.compile as
one function. A block returns every step's tensors, not the last ones alone: what follows a number of steps is a row of
a block that begins at a multiple of BLOCK, wherever a portion ends or a loss stops being finite. That takes up to 10 %
longer than the last ones alone, but saves compiling a single step for the remainders, 1.5 to 3.5 s; and the bits of one
compilation need not be those of another (blocks of 1, 8, 16 and 32 steps did agree in all models tried).

On a GPU calling a compiled block takes longer than its kernels do. There blocks are captured in CUDA graphs, by
`replayed` and not by inductor's own option `triton.cudagraphs`: that one copies what a block begins with and hands out
memory that its next call overwrites, and a graph holds one call; ours hold up to MOST steps, compiled once.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from fastpoly_kernels.aside import imported

from .._errors import BackendUnavailableError, UnsupportedOperationError
from .._torch_private import COMPILER, refuse_without_compiler, refused_by_compiler
from .recorded import recorded
from .replayed import ReplayedLoop

if TYPE_CHECKING:
    from . import Step

    Block = Callable[[list[torch.Tensor]], tuple[list[torch.Tensor], torch.Tensor | None]]
    from . import replayed

BLOCK = 8
"""Steps in a call.

Measured with n = 100 in double, 2 shared cores, torch 2.13: seconds to compile with nothing in inductor's cache (after
the 8 s that the first compilation of all takes), and nanoseconds a step in the block; `advance` adds 12 us a block.

    steps in a block                1       4       8      16      32      64
    the post's polynomial, s      2.1     4.1     3.5     5.6    10.5    22.2
                           ns  26,100   8,160   5,130   3,620   2,950   2,350
    network 1-16-1, s             2.6     3.9     7.1     9.3    20.5    56.9
                           ns  35,600  17,100  13,200  11,400  10,600  10,000

A call costs some 20 us, so the time falls by little after 8, where 2 s more of compiling are won back by more than a
million steps; and 200,000 are a long run.
"""

_ON_CPU = {
    "cpp_wrapper": True,  # kernels are called from C++: half the time of calling them from Python
    "cpp.min_chunk_size": 32768,  # fewer elements to a thread cost more than they save; ATen's own grain size
}


class CompiledLoop:
    """See `fastpoly._loops.Loop`."""

    source = None

    def __init__(self, block: Block, inputs: Sequence[torch.Tensor]) -> None:
        self.block = block
        self.count = len(inputs)
        # Like the last block's, of which the last rows count: (BLOCK, *shape) for each tensor.
        self.before = [tensor.detach().expand(BLOCK, *tensor.shape).clone() for tensor in inputs]
        self.position = 0  # how many steps of this block are taken
        self._compute()  # compiles
        started = time.perf_counter()
        self._compute()
        self.step_seconds = (time.perf_counter() - started) / BLOCK

    def _compute(self) -> None:
        """The block after `before`: each step's successors, each step's results, and how many of the steps count."""
        with torch.no_grad():
            columns, finite = self.block(self.before)
        self.states, self.results = columns[: self.count], columns[self.count :]
        self.good = BLOCK
        if finite is not None and not bool(finite.all()):
            self.good = int(finite.long().cumprod(0).sum())

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        kept: list[list[torch.Tensor]] = []
        taken = 0
        while taken < steps:
            if self.position == BLOCK:
                self.before, self.position = self.states, 0
                self._compute()
            first, some = self.position, min(steps - taken, self.good - self.position)
            if some == 0:
                break
            if wait < some:
                rows = slice(first + wait, first + some, every)
                # Sparse rows are copied: they would keep the memory of all the block.
                kept.append([result[rows] if every == 1 else result[rows].clone() for result in self.results])
            wait = wait - some if wait >= some else (wait - some) % every
            self.position += some
            taken += some
        if not kept:
            return taken, [result[:0].clone() for result in self.results]
        return taken, [torch.cat(column) for column in zip(*kept, strict=True)]

    def carried(self) -> list[torch.Tensor]:
        source = self.states if self.position else self.before
        return [rows[self.position - 1].clone() for rows in source]


def begin(
    function: Step,
    inputs: Sequence[torch.Tensor],
    names: dict[int, str],  # noqa: ARG001  (of Begin)
    stop_at: int | None,
) -> CompiledLoop | ReplayedLoop:
    """See `fastpoly._loops.Begin`. Traces and compiles, seconds; steps beyond those asked for may be computed.

    Raises:
        BackendUnavailableError: torch.compile cannot run here.
        UnsupportedOperationError: the step cannot be recorded (see `recorded`), or torch.compile does not take it.
    """
    on_gpu = inputs[0].device.type == "cuda"
    reason = unavailable_on_gpu() if on_gpu else unavailable()
    if reason is not None:
        raise BackendUnavailableError(f"backend 'compile' cannot run here: {reason}")
    with warnings.catch_warnings():
        # torch's compiler imports torch.utils.mkldnn, which torch itself deprecates
        warnings.filterwarnings("ignore", r"`torch\.jit\.script", DeprecationWarning)
        imported(COMPILER)  # seconds, in which Ctrl-C is to be heard

        try:
            if on_gpu:
                return _on_gpu(function, inputs, stop_at)
            step = recorded(function, inputs)
            return CompiledLoop(_compiled(step, len(inputs), stop_at, inputs[0].device.type == "cpu"), inputs)
        except refused_by_compiler() as error:
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UnsupportedOperationError(
                f"torch.compile does not take this step: {said.strip()}. Way out: backend='eager'"
            ) from error


def unavailable() -> str | None:
    """None, or why torch.compile cannot run here and what would change that. Compiles nothing."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler) is None:
        return (
            f"torch.compile needs a C++ compiler, and there is no {compiler}; install {usual}, or let the environment "
            "variable CXX name another one before torch is imported"
        )
    return _no_dynamo()


def unavailable_on_gpu() -> str | None:
    """None, or why torch.compile cannot run on CUDA tensors here and what would change that. Compiles nothing."""
    from .._backends import missing_triton

    missing = missing_triton()
    if missing is None and not any(map(shutil.which, (os.environ.get("CC", "gcc"), "clang"))):
        return (
            "Triton needs a C compiler, and there is no gcc or clang; install gcc, or set the environment variable CC"
        )
    return missing or _no_dynamo()


def _no_dynamo() -> str | None:
    # to ask torch is to import its compiler, and triton: seconds; every torch from 2.11 on takes these Pythons
    if sys.version_info < (3, 15) and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None
    try:
        refuse_without_compiler()
    except RuntimeError as error:
        return f"{error}; use another Python, or a torch that supports this one"
    return None


def _on_gpu(function: Step, inputs: Sequence[torch.Tensor], stop_at: int | None) -> ReplayedLoop:
    from .capture import CudaCapture
    from .cudagraph import capturable, need_gpu

    need_gpu("compile", inputs)
    inputs = [tensor.detach().contiguous() for tensor in inputs]
    step = capturable(function, inputs)
    blocks = replayed_blocks(_compiled(step, len(inputs), None, False), len(inputs))
    return ReplayedLoop(step, inputs, stop_at, CudaCapture(inputs[0].device), blocks, BLOCK)


def replayed_blocks(block: Block, count: int) -> Callable[[int], replayed.Block]:
    """For `ReplayedLoop`: blocks that are the compiled `block` some times, with `count` tensors carried."""

    def block_of(size: int) -> replayed.Block:
        def some_blocks(state: list[torch.Tensor]) -> list[torch.Tensor]:
            parts = []
            for _ in range(size // BLOCK):
                columns, _ = block([tensor.unsqueeze(0) for tensor in state])
                # clones, for a last row lies at no address that a kernel compiled for the first call takes
                state = [column[-1].clone() for column in columns[:count]]
                parts.append(columns)
            return [torch.cat(column) for column in zip(*parts, strict=True)]

        return some_blocks

    return block_of


def _compiled(step: Step, count: int, stop_at: int | None, on_cpu: bool) -> Block:
    """BLOCK steps in one function of a list of tensors (BLOCK, *shape), the last rows of which it begins with.

    It returns such a list for all that a step returns, and which steps' result `stop_at` is finite, if that matters.
    """

    def block(before: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        after: Sequence[torch.Tensor] = [rows[-1] for rows in before]
        trail = []
        for _ in range(BLOCK):
            after = step(list(after[:count]))
            trail.append(after)
        columns = [torch.stack(column) for column in zip(*trail)]  # noqa: B905  (dynamo: `strict` only of late)
        if stop_at is None:
            return columns, None
        return columns, columns[count + stop_at].reshape(BLOCK, -1).isfinite().all(1)

    # Dynamo counts compilations by code object, 8 at most: every loop needs one of its own.
    fresh = FunctionType(block.__code__.replace(), block.__globals__, block.__name__, None, block.__closure__)
    options: dict[str, Any] = _ON_CPU if on_cpu else {}
    compiled: Block = torch.compile(fresh, fullgraph=True, dynamic=False, options=options)
    return compiled
