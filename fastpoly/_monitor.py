"""Progress and Ctrl-C of a long run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastpoly_kernels import aside

Progress = Callable[[int, int], object]
"""Called with (steps done, steps in all) after every portion of a run."""


class Monitor:
    """Between a run and its caller: the run reports, and asks whether it should stop.

    Ctrl-C during `listening()` sets `interrupted` instead of raising in the middle of a step, where weights and step
    count would disagree. A second Ctrl-C raises KeyboardInterrupt at once, and so does the first while a kernel is
    compiled, before any step. Signals reach the main thread only, and a handler that the caller installed is the
    caller's business: in both cases nothing is changed.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._interrupted = False
        self._progress = progress
        self._whole: Monitor | None = None
        self.raised: Exception | None = None
        """What a function of the caller's raised."""

    @property
    def interrupted(self) -> bool:
        """Should the run stop?"""
        return self._interrupted or (self._whole is not None and self._whole.interrupted)

    def child(self) -> Monitor:
        """A monitor for one of several runs at a time: it stops when this one does, and reports nothing."""
        part = Monitor()
        part._whole = self
        return part

    def report(self, done: int, of: int) -> None:
        """Tell the caller how far the run has come."""
        if self._progress is not None:
            with self.callers():
                self._progress(done, of)

    @contextmanager
    def callers(self) -> Iterator[None]:
        """While a function of the caller's is called: what it raises is the caller's."""
        try:
            yield
        except Exception as error:
            self.raised = error
            raise

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear Ctrl-C while the block runs."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _hear(self, *_: Any) -> None:
        if self._interrupted or aside.waiting():
            raise KeyboardInterrupt
        self._interrupted = True


@contextmanager
def unheard() -> Iterator[None]:
    """While the block runs, Ctrl-C raises KeyboardInterrupt as always: what waits for others there ends the wait."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not in_main_thread or getattr(before, "__func__", None) is not Monitor._hear:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
