"""What is launched on a GPU, captured as a CUDA graph.

As torch's notes on CUDA graphs have it: warm-ups and the capture on one stream beside the current one, so that what a
library sets up for a stream is there before the capture; all graphs of a loop share a pool of memory. That is allowed
in any order of replays as long as nothing in the pool is read after the replay that wrote it: whatever lasts is written
to tensors from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fastpoly_kernels.forking import new_lock

from .._errors import UnsupportedOperationError
from .._torch_private import forget_capture
from .replayed import WARM_UPS

_ONE_AT_A_TIME = new_lock()
"""Only one capture may be under way in a process."""


class CudaCapture:
    """Makes graphs of functions on one device; see `fastpoly._loops.replayed.Capture`. A replay does not wait."""

    def __init__(self, device: torch.device) -> None:
        self.stream: Any = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        """Capture what `function` launches, after WARM_UPS runs of it.

        Raises:
            UnsupportedOperationError: it does what cannot be captured, such as to wait for a value.
        """
        with _ONE_AT_A_TIME, torch.cuda.device(self.stream.device):
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UPS):
                    function()
            current.wait_stream(self.stream)
            graph = torch.cuda.CUDAGraph()
            try:
                # thread_local: what other threads do on the GPU meanwhile is none of our business
                with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                    function()
            except BaseException as error:
                forget_capture(self.stream.device.index, self.pool)
                if isinstance(error, torch.cuda.OutOfMemoryError) or not isinstance(error, RuntimeError):
                    raise
                raise UnsupportedOperationError(
                    f"CUDA cannot capture this step: {_first_line(error)}. Way out: backend='eager'"
                ) from error
            finally:
                torch.cuda.set_stream(current)  # a capture that fails leaves its own
        return _Graph(graph, function)


@dataclass(frozen=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    function: Callable[[], None]
    """Holds the tensors that the graph reads and writes: it has their addresses, and does not keep them itself."""

    def __call__(self) -> None:
        self.graph.replay()


def _first_line(error: BaseException) -> str:
    """What went wrong first: the end of a broken capture raises, too."""
    if error.__context__ is not None:
        return _first_line(error.__context__)
    return str(error).split("\n")[0].rstrip(".")
