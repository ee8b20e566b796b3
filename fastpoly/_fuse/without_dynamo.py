"""torch's decompositions without torch's compiler, which they import at their first call: 1.3 s for a decorator.

`torch._compile._disable_dynamo` marks functions that torch.compile must not look into. It imports `torch._dynamo` when
such a function is first called, to wrap it. While a step is traced nothing is compiled, so that a stand-in can do the
wrapping: the functions run as they are, and are wrapped by the real one as soon as that has been imported.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_NAME = "torch._dynamo"

_inside = 0
"""How many blocks of `without_dynamo` are running."""


def _disable(fn: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
    """As torch._dynamo.disable, once there is one."""
    wrapped: list[Callable[..., Any]] = []

    def later(*args: Any, **kwargs: Any) -> Any:
        real = sys.modules.get(_NAME)
        if not wrapped and real is not None and real is not _stand_in:
            wrapped.append(real.disable(fn, recursive, **options))
        return (wrapped[0] if wrapped else fn)(*args, **kwargs)

    return later


def _from_the_real_one(name: str) -> Any:
    """Whoever wants more of it, in this block or in another thread, wants torch's compiler: it is imported."""
    _leave()
    return getattr(importlib.import_module(_NAME), name)


_stand_in = types.ModuleType(_NAME)
_stand_in.disable = _disable  # type: ignore[attr-defined]
_stand_in.__getattr__ = _from_the_real_one  # type: ignore[method-assign]


def _leave() -> None:
    if sys.modules.get(_NAME) is _stand_in:
        del sys.modules[_NAME]


@contextmanager
def without_dynamo() -> Iterator[None]:
    """While the block runs, what would import torch's compiler for a decorator gets a stand-in."""
    global _inside
    _inside += 1
    if _NAME not in sys.modules:
        sys.modules[_NAME] = _stand_in
    try:
        yield
    finally:
        _inside -= 1
        if not _inside:
            _leave()
