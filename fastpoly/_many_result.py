"""What came of many descents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._arrays import is_dask
from ._lazy import lazy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, repr=False)
class ManyResult:
    """What came of many descents; every tensor has the problems as its leading axis.

    Of problems in dask arrays they are lazy dask arrays, of which `dask.compute(result)[0]` makes numpy arrays. Then
    `diverged_at` is always there, and `seconds` is NaN.

    Attributes:
        params: after the last step of each problem, in the structure in which they were given.
        loss: (problems, kept steps): the losses before steps 0, trace_every, ...; NaN from where a problem had ended.
            None if none were kept.
        steps: (problems,) whole numbers: how many steps each problem took.
        seconds: how long it took, with tracing and compiling.
        backend: what ran.
        reason: why that.
        source: the text of the kernel; None unless fused.
        diverged_at: None, or (problems,): the step whose loss is not finite, -1 for problems that did not diverge.
        is_ended: (problems,) truths: did `until` hold?
        state: the optimizer's, a list of tensors.
    """

    params: Any
    loss: torch.Tensor | None
    steps: torch.Tensor
    seconds: float
    backend: str
    reason: str
    diverged_at: torch.Tensor | None
    is_ended: torch.Tensor
    state: list[torch.Tensor]
    _page: Callable[[], str] | None = None

    @lazy
    def source(self) -> str | None:
        """See above; the text is made when it is first asked for."""
        return self._page() if self._page else None

    def __len__(self) -> int:
        return len(self.steps)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "source": self.source, "_page": None}

    def __repr__(self) -> str:
        if is_dask(self.steps):
            chunks: int = self.steps.numblocks[0]  # type: ignore[attr-defined]
            return f"ManyResult({len(self):,} problems in {chunks:,} chunks, lazy; {self.backend})"
        diverged = 0 if self.diverged_at is None else int((self.diverged_at >= 0).sum())
        ends = f", {diverged:,} diverged" if diverged else ""
        ends += f", {int(self.is_ended.sum()):,} ended by until" if bool(self.is_ended.any()) else ""
        most = int(self.steps.max()) if len(self) else 0
        return f"ManyResult({len(self):,} problems, at most {most:,} steps{ends}; {self.backend}, {self.seconds:.3g} s)"
