"""Is a loss, or the step of a scan, being called?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_inside: ContextVar[bool] = ContextVar("inside", default=False)


def is_inside() -> bool:
    """Is it?"""
    return _inside.get()


@contextmanager
def inside() -> Iterator[None]:
    """While it lasts, it is; and torch's control flow is called as it stands."""
    from ._torch_private import control_flow

    token = _inside.set(True)
    try:
        with control_flow(_called):
            yield
    finally:
        _inside.reset(token)


def _called(name: str, args: Sequence[Any]) -> Any:
    from ._fuse.control_flow import CALLED

    return CALLED[name](*args) if name in CALLED else None
