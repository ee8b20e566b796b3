"""Is a loss, or the step of a scan, being called?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_inside: ContextVar[bool] = ContextVar("inside", default=False)


def is_inside() -> bool:
    """Is it?"""
    return _inside.get()


@contextmanager
def inside() -> Iterator[None]:
    """While it lasts, it is."""
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)
