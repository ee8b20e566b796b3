"""What cannot be traced, said by its name and the caller's line, with a way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._errors import UnsupportedOperationError
from .callers import place
from .factorizations import NotTakenApart


class Refusing:
    """A tracer's words.

    Attributes:
        callers: finds the caller's line.
        asked: the operation that torch was asked for.
        refused: the first refusal.
    """

    callers: Any
    asked: str
    refused: UnsupportedOperationError | None
    _where: Any
    _asked_in: tuple[str, Any]

    def refused_branch(self, name: str = "") -> UnsupportedOperationError:
        """The refusal of a question whose answer changes from step to step; of the last one if no name is given."""
        if not name:
            name, self._where = self._asked_in
            self.asked = name
        return self.refusal(
            name,
            "the value of a tensor decides what the loss does, and it changes from step to step",
            "use torch.where, or compute it from the data alone",
        )

    def refusal(
        self, name: str, why: str, way_out: str, kind: type[UnsupportedOperationError] = UnsupportedOperationError
    ) -> UnsupportedOperationError:
        name = name if name == self.asked else f"{self.asked} ({name})"
        error = kind(f"{name}{place(self._where)} cannot be fused: {why}. Way out: {way_out}, or backend='eager'")
        self.refused = self.refused or error
        return error

    @contextmanager
    def words(self, name: str) -> Iterator[None]:
        """While it lasts, what cannot be taken apart is refused by this name."""
        try:
            yield
        except NotTakenApart as reason:
            raise self.refusal(name, reason.why, reason.way_out) from None
