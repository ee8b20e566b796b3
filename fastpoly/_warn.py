"""A warning that comes once for each loss and reason in a process, at the caller's line."""

from __future__ import annotations

import os.path
import sys
import warnings
from typing import Any

_PACKAGE = os.path.dirname(__file__)  # noqa: PTH120  (pathlib takes 3 ms to import)

_told: set[tuple[Any, str]] = set()


def warn_once(text: str, category: type[Warning], about: Any) -> None:
    """Warn of `about`, a function, unless it was warned of for the same reason."""
    key = getattr(about, "__code__", type(about)), text
    if key in _told:
        return
    how = f"To make this an error: warnings.simplefilter('error', {category.__name__})"
    warnings.warn(f"{text}. {how}", category, stacklevel=_to_the_caller())  # one that is an error is told again
    _told.add(key)


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the caller's line."""
    warnings.warn(text, category, stacklevel=_to_the_caller())


def forget() -> None:
    """Begin anew: every warning may come again."""
    _told.clear()


def _to_the_caller() -> int:
    """The stack level of the first frame that is not of this package, as seen by warnings.warn in `warn`."""
    frame, level = sys._getframe(2), 2
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level
