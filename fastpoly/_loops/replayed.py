"""Blocks of steps on buffers that stay where they are, run again by a replay: what a CUDA graph asks for.

Requirements: the same bits however a run is cut into portions; what is carried are the tensors after exactly the steps
that were asked for; the GPU is waited for once in a portion, not in every step.

A block reads the state, takes its steps, and leaves the tensors after each of them in `rows`, the last ones as the
state, and the results in the trace, in the rows that a counter on the device says. Blocks follow on one another without
a look at them. If more steps are wanted than are ready, whole blocks are run, and a run that is cut in the middle of
one goes on there: where portions end has no influence on what is computed. If a result is found not to be finite, the
blocks up to that step are run once more, from the state that the portion began with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from .unrolling import Unrolling

if TYPE_CHECKING:
    from . import Step

    Block = Callable[[list[torch.Tensor]], list[torch.Tensor]]
    """From the state to a tensor (steps of the block, *shape) for each tensor of the state, and for each result."""

    Capture = Callable[[Callable[[], None]], Callable[[], None]]
    """Makes of a function one that does the same again, on the same memory. It may run the function WARM_UPS times."""

FIRST, MOST = 8, 128
"""Steps in the first block and in the longest: see `unrolling`. Not measured on a GPU yet."""

WARM_UPS = 2
"""Runs before a capture: the first may compile or load what it needs, the second shows that it is there."""

BLOCK_BYTES = 2**26
"""Of states and results in a block, at most: a graph needs the same again for what is between them."""

TRACE_ROWS, TRACE_BYTES = 4096, 2**26
"""Of results kept on the device between two looks at them: 4096 steps hide the wait of some 20 us for each look."""


class ReplayedLoop:
    """See `fastpoly._loops.Loop`."""

    source = None
    step_seconds = 2e-5
    """10 launches of 2 us, by what is said of GPUs; for the first portion only. Not measured."""

    def __init__(
        self,
        step: Step,
        inputs: Sequence[torch.Tensor],
        stop_at: int | None,
        capture: Capture,
        block_of: Callable[[int], Block],
        smallest: int = 1,
    ) -> None:
        """Capture the first block.

        Args:
            step: is called once, to know what its results are like; it does not write to its tensors.
            capture: for the blocks.
            block_of: makes the block of so many steps, `smallest` of them or some times as many.
        """
        self.stop_at, self.capture, self.block_of = stop_at, capture, block_of
        self.state = [tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in inputs]
        with torch.no_grad():
            results = step(list(self.state))[len(self.state) :]
        result_bytes = sum(result.nbytes for result in results)
        first, most = sizes(smallest, sum(tensor.nbytes for tensor in self.state) + result_bytes)
        self.capacity = capacity(most, result_bytes)
        device = self.state[0].device
        self.trace = [
            torch.empty((self.capacity, *result.shape), dtype=result.dtype, device=device) for result in results
        ]
        self.counter = torch.zeros((), dtype=torch.long, device=device)
        self.unrolling = Unrolling(first, most)
        self.read = self.ready = 0  # rows of the trace that were handed out, and those that may be
        self.ended = False  # the step after those that are ready gives what is not finite
        self._use_blocks_of(first)

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        kept: list[list[torch.Tensor]] = []
        taken = 0
        while taken < steps:
            if self.read == self.ready:
                if self.ended:
                    break
                self._run(steps - taken)
            first, some = self.read, min(steps - taken, self.ready - self.read)
            if wait < some:  # copied: the next blocks write there
                kept.append([trace[first + wait : first + some : every].clone() for trace in self.trace])
            wait = wait - some if wait >= some else (wait - some) % every
            self.read += some
            taken += some
        if not kept:
            return taken, [trace[:0].clone() for trace in self.trace]
        return taken, [torch.cat(column) for column in zip(*kept, strict=True)]

    def carried(self) -> list[torch.Tensor]:
        return [rows[(self.read - 1) % self.unrolling.size].clone() for rows in self.rows]

    def restart(self, inputs: Sequence[torch.Tensor]) -> None:
        """Begin anew with what was captured, from tensors like those before."""
        self.read = self.ready = 0
        self.ended = False
        self._set_state(inputs)

    def _run(self, steps: int) -> None:
        """Make rows of the trace ready, `steps` of them if there is room: all that were are handed out."""
        larger = self.unrolling.larger()
        if larger is not None:
            self._use_blocks_of(larger)
        size = self.unrolling.size
        blocks = min(self.capacity, steps + size - 1) // size
        before = None if self.stop_at is None else [state.clone() for state in self.state]
        started = time.perf_counter()
        self._replay(blocks)
        self.read, self.ready = 0, self._finite(blocks * size)
        self.unrolling.ran(blocks * size, time.perf_counter() - started)
        if before is not None and self.ready < blocks * size:
            self.ended = True
            self._set_state(before)
            self._replay(-(-self.ready // size))

    def _replay(self, blocks: int) -> None:
        self.counter.zero_()
        for _ in range(blocks):
            self.replay()

    def _finite(self, rows: int) -> int:
        """How many of the steps come before the first whose result `stop_at` is not finite; waits for the device."""
        if self.stop_at is None:
            return int(self.counter)
        finite = self.trace[self.stop_at][:rows].reshape(rows, -1).isfinite().all(1)
        return int(finite.long().cumprod(0).sum())

    def _use_blocks_of(self, size: int) -> None:
        """Capture them; all steps that are ready are taken."""
        block, count = self.block_of(size), len(self.state)
        seconds = 0.0  # of the last call of body
        rows = [state.expand(size, *state.shape).clone() for state in self.state]
        places = torch.arange(size, device=self.counter.device)

        def body() -> None:
            nonlocal seconds
            started = time.perf_counter()
            with torch.no_grad():
                columns = block(self.state)
                for row, state, column in zip(rows, self.state, columns, strict=False):
                    row.copy_(column)
                    state.copy_(column[-1])
                at = places + self.counter
                for trace, column in zip(self.trace, columns[count:], strict=True):
                    trace.index_copy_(0, at, column)
                self.counter.add_(size)
            seconds = time.perf_counter() - started

        before = [state.clone() for state in self.state]
        self.counter.zero_()
        self.rows, self.replay = rows, self.capture(body)
        self._set_state(before)
        # without what the first warm-up may have compiled, which no other block will again
        self.unrolling.captured(size, (WARM_UPS + 1) * seconds)

    def _set_state(self, values: Sequence[torch.Tensor]) -> None:
        for state, rows, value in zip(self.state, self.rows, values, strict=True):
            state.copy_(value)
            rows[-1].copy_(value)


def sizes(smallest: int, step_bytes: int) -> tuple[int, int]:
    """Steps in the first block and in the longest: FIRST and MOST, or what BLOCK_BYTES hold, `smallest` at least."""
    room = BLOCK_BYTES // max(step_bytes, 1)
    return max(smallest, min(FIRST, room)), max(smallest, min(MOST, room))


def capacity(most: int, result_bytes: int) -> int:
    """Rows of the trace: room for the warm-ups of a block of `most` steps."""
    return max(WARM_UPS * most, min(TRACE_ROWS, TRACE_BYTES // max(result_bytes, 1)))


def unrolled(step: Step, count: int) -> Callable[[int], Block]:
    """For `ReplayedLoop`: blocks that are `step` many times, with `count` tensors carried."""

    def block_of(size: int) -> Block:
        def block(state: list[torch.Tensor]) -> list[torch.Tensor]:
            after: Sequence[torch.Tensor] = state
            trail = []
            for _ in range(size):
                after = step(list(after[:count]))
                trail.append(after)
            return [torch.stack(list(column)) for column in zip(*trail, strict=True)]

        return block

    return block_of
