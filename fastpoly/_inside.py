"""Is a loss, or the step of a scan, being called?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

_inside: ContextVar[bool] = ContextVar("inside", default=False)


def is_inside() -> bool:
    """Is it?"""
    return _inside.get()


@contextmanager
def inside() -> Iterator[None]:
    """While it lasts, it is; and torch's control flow is called as it stands."""
    _control_flow()
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


@cache
def _control_flow() -> None:
    from ._fuse.control_flow import CALLED
    from ._torch_private import take_control_flow

    def called(name: str, args: Sequence[Any]) -> Any:
        return CALLED[name](*args) if is_inside() and name in CALLED else None

    take_control_flow(called)
