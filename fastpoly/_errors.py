"""What fastpoly raises and warns beyond ValueError, TypeError and MemoryError."""

from __future__ import annotations

from typing import Any


class BackendUnavailableError(RuntimeError):
    """The backend exists but cannot run here; the message says why and what would bring it."""


class UnsupportedOperationError(RuntimeError):
    """The loss does something that cannot be fused; the message names it, the line it stands in, and the way out."""


class OutsideWriteError(UnsupportedOperationError):
    """It writes to a tensor that it was not given: whoever repeats it may carry that tensor from step to step."""


class RandomDrawError(UnsupportedOperationError):
    """It draws random numbers: whoever repeats it may give it some that change from step to step."""


class GroupError(RuntimeError):
    """A process of a group has lost another, or another cannot begin.

    Attributes:
        params: those after the last step that all took, in the structure in which they were given; None before the
            first.
        steps: how many these are.
    """

    params: Any = None
    steps: int = 0


class DivergenceWarning(RuntimeWarning):
    """The mean squared error grew out of the range of its type; the message names the step and the stability limit."""


class ConvergenceWarning(UserWarning):
    """The run ended far from the minimum it goes towards; the message names what gets there."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run.

    Attributes:
        partial: the FitResult or DescentResult so far. `fit(..., initial_weights=partial.weights,
            steps=steps - partial.steps, learn_rate=partial.learn_rate, domain=partial.domain)` goes on from it; so does
            `descend` with its `params` and `state`.
            The loops (`numpy`, `torch`, ..., `numba`, and `gram` in `mixed`) then end with the same bits as a
            run that was never interrupted; the closed forms agree to rounding. The new trace counts its steps from 0.
            After `fit_many` it holds the first problems, those that were finished.
        done: how far the run came, in words: "31,649 of 200,000 steps".
    """

    def __init__(self, partial: Any, done: str) -> None:
        super().__init__(f"interrupted after {done}; .partial holds them")
        self.partial = partial
        self.done = done

    def __reduce__(self) -> tuple[type[Interrupted], tuple[Any, str]]:
        """Pickle by what it is made of: a pool of processes sends exceptions home that way."""
        return Interrupted, (self.partial, self.done)
