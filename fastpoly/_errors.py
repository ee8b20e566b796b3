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
            After `fit_many` it holds the first problems, those that were finished.
        done: how far the run came, in words: "31,649 of 200,000 steps".
    """

    def __init__(self, partial: FitResult, done: str) -> None:
        super().__init__(f"interrupted after {done}; .partial holds them")
        self.partial = partial
        self.done = done

    def __reduce__(self) -> tuple[type[Interrupted], tuple[FitResult, str]]:
        """Pickle by what it is made of: a pool of processes sends exceptions home that way."""
        return Interrupted, (self.partial, self.done)
