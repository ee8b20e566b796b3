"""Ctrl-C before the first step: `preparing`, in which it raises, but never in the middle of an import."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from ._monitor import Monitor

AGAIN_SECONDS = 0.02
"""After which Ctrl-C that came during an import tries again: short beside what a hand notices."""


class preparing:  # noqa: N801  (a context manager, named as one)
    """While the block runs, Ctrl-C raises KeyboardInterrupt; one that comes during an import waits for its end.

    torch, sympy and llvmlite import much at their first use, and a module that is broken off half way stays so for the
    rest of the process. No block is too long for this: the frames tell whether an import is under way. Python swallows
    what is raised in a weak reference's callback or in `__del__`; Ctrl-C is then raised again.

    Of signals it minds no other than SIGINT, and that only where Python's own handler or a Monitor's hears it, in the
    main thread. A handler that the caller installed is the caller's business.
    """

    def __enter__(self) -> None:
        self._late = self._raised = False
        self._before: Any = None
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler or isinstance(getattr(before, "__self__", None), Monitor):
            self._base = sys._getframe(1)
            self._hook = sys.unraisablehook
            sys.unraisablehook = self._swallowed
            self._before = before
            signal.signal(signal.SIGINT, self._hear)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._before is None:
            return
        signal.signal(signal.SIGINT, self._before)
        sys.unraisablehook = self._hook
        missed = self._late or (self._raised and kind is None)
        self._late = False
        del self._base, self._hook
        if missed:
            raise KeyboardInterrupt

    def _hear(self, _: int, frame: FrameType | None) -> None:
        if self._importing(frame):
            self._try_again()
        else:
            self._late, self._raised = False, True
            raise KeyboardInterrupt

    def _importing(self, frame: FrameType | None) -> bool:
        while frame is not None and frame is not self._base:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return True
            frame = frame.f_back
        return False

    def _swallowed(self, what: Any) -> None:
        if self._raised and isinstance(what.exc_value, KeyboardInterrupt):
            self._try_again()
        else:
            self._hook(what)

    def _try_again(self) -> None:
        self._late = True
        _thread.start_new_thread(self._later, ())  # threading's own threads take locks that are perhaps held here

    def _later(self) -> None:
        time.sleep(AGAIN_SECONDS)
        if self._late:
            _thread.interrupt_main()
