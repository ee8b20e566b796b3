"""What fastpoly raises and warns beyond ValueError, TypeError and MemoryError."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._result import FitResult


class BackendUnavailableError(RuntimeError):
    """The backend exists but cannot run here; the message says why and what would bring it."""


class DivergenceWarning(RuntimeWarning):
    """The mean squared error grew out of the range of its type; the message names the step and the stability limit."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run.

    Attributes:
        partial: the FitResult so far. `fit(..., initial_weights=partial.weights, steps=steps - partial.steps)` goes on
            from it. The loops (`numpy`, `torch`, ..., `numba`, and `gram` in `mixed`) then end with the same bits as a
            run that was never interrupted; the closed forms agree to rounding. The new trace counts its steps from 0.
        wanted: how many steps were asked for.
    """

    def __init__(self, partial: FitResult, wanted: int) -> None:
        super().__init__(f"interrupted after {partial.steps:,} of {wanted:,} steps; .partial holds them")
        self.partial = partial
        self.wanted = wanted

    def __reduce__(self) -> tuple[type[Interrupted], tuple[FitResult, int]]:
        """Pickle by what it is made of: a pool of processes sends exceptions home that way."""
        return Interrupted, (self.partial, self.wanted)
