"""What a forked child must not inherit: locks that other threads hold, pools whose threads are not there.

`os.fork` copies the thread that calls it and no other. A lock that another one held stays locked in the child for ever,
and a compiler that another one was inside of is left half way. So a fork waits until nothing is being compiled, and
whatever else there is of locks and pools begins anew in the child. It is all here: a lock is made by `new_lock`, a pool
is dropped by a function given to `in_child`, and whoever compiles holds `compiling`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

compiling = threading.RLock()
"""Held while machine code is made or linked, for LLVM's set-up and its linker want one thread at a time; and while
something large is imported."""

PATIENCE = 20.0
"""Seconds that a fork waits for a compilation in another thread: most take 2. After that it does not wait for good: the
child gets locks that are free and a compiler that may have been left half way."""

_locks: list[Any] = [compiling]
_held: list[Any] = []


def new_lock() -> threading.Lock:
    """A lock that is free in a child, whoever holds it at the fork."""
    lock = threading.Lock()
    _locks.append(lock)
    return lock


def in_child(function: Callable[[], object]) -> None:
    """Call this in every child, right after the fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def _compilers_lock() -> list[Any]:
    """llvmlite's own; none if it is not imported."""
    ffi = sys.modules.get("llvmlite.binding.ffi")
    lock = getattr(getattr(getattr(ffi, "lib", None), "_lock", None), "_lock", None)
    return [] if lock is None else [lock]


def _before() -> None:
    _held.extend(lock for lock in (compiling, *_compilers_lock()) if lock.acquire(timeout=PATIENCE))


def _in_parent() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    _held.clear()
    for lock in (*_locks, *_compilers_lock()):
        lock._at_fork_reinit()  # as the standard library does with its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
