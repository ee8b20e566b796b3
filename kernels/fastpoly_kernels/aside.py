"""`aside` and `imported`: what must not be broken off in the middle, and must not keep Ctrl-C waiting either.

A compiler is both: LLVM does not come back to Python for seconds, so that Ctrl-C waits for it; and llvmlite, broken off
in the middle, frees memory twice. So is the import of llvmlite or torch: a module that is left half way stays so. They
run in a thread of their own, where no signal arrives, and the main thread waits and hears. After Ctrl-C they go on
beside, and what they made is there for the next call; a process that ends waits for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from .forking import compiling

Made = TypeVar("Made")

STACK_BYTES = 2**26
"""Of the thread, taken only as far as it is used: compilers follow deep code by recursion, and macOS gives 512 KiB."""

LOOK_SECONDS = 0.05
"""Between two looks at signals: Ctrl-C is answered within 0.2 s."""

_waiting = 0


def waiting() -> bool:
    """Is the main thread waiting here, where Ctrl-C may raise at once and nothing is lost?"""
    return _waiting > 0


def aside(function: Callable[..., Made], *arguments: Any) -> Made:
    """function(*arguments), its result or its exception; Ctrl-C ends the wait and not the function."""
    global _waiting
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)  # no signal arrives here
    results: list[Made] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(function(*arguments))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    _waiting += 1
    try:
        _start(work)
        while not done.wait(LOOK_SECONDS):  # a signal wakes it only if this thread is the one that it was sent to
            pass
    finally:
        _waiting -= 1
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # no circle through the traceback
    return results[0]


@cache
def imported(name: str) -> ModuleType:
    """The module of that whole name, imported aside; a fork waits for it."""
    return aside(_import, name)


def _import(name: str) -> ModuleType:
    with compiling:
        return import_module(name)


def _start(work: Callable[[], None]) -> None:
    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=work, name="fastpoly compiler")
        thread.start()
    except RuntimeError:  # no further thread to be had
        work()
    finally:
        threading.stack_size(before)
