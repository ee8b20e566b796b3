"""Stages in their order, each a process; the groups of those that may run at a time one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .book import Book
from .process import Process, Stage

LEAST = 8.0
"""Seconds without which no stage is begun: importing torch and starting CUDA take most of that."""

END = 2.0
"""Seconds that are left for writing the result."""


@dataclass(frozen=True)
class Group:
    """Stages of which `width` run at a time: one, where something is timed."""

    stages: Sequence[Stage]
    width: int = 1


@dataclass
class Driver:
    """Runs groups of stages into a book.

    Attributes:
        book: what is in it is not done again.
        folder: for the processes' own files.
        environment: of the processes.
        limit: seconds for everything, from now on.
        root: where the files lie that stages need.
        after: called after each group, with what was found safe on disk.
    """

    book: Book
    folder: Path
    environment: Mapping[str, str]
    limit: float
    root: Path
    after: Callable[[], None] = lambda: None
    least: float = LEAST
    started: float = field(default_factory=time.monotonic)

    def run(self, groups: Sequence[Group]) -> None:
        """All groups, as far as the time goes. Whatever ends this, no process is left."""
        for group in groups:
            if self._group(group):
                self.after()

    def _left(self) -> float:
        return self.limit - END - (time.monotonic() - self.started)

    def _group(self, group: Group) -> bool:
        """Was any of it to be done?"""
        waiting = [stage for stage in group.stages if not self.book.whole(stage.name) and self._can(stage)]
        running: list[Process] = []
        begun = False
        try:
            while running or (waiting and self._left() > self.least):
                while waiting and len(running) < group.width and self._left() > self.least:
                    running.append(self._begin(waiting.pop(0)))
                    begun = True
                time.sleep(0.02)
                running = [process for process in running if not self._over(process)]
        finally:
            for process in running:
                process.end()
        return begun

    def _can(self, stage: Stage) -> bool:
        if not stage.needs or (self.root / stage.needs).exists():
            return True
        self.book.add(stage.name, {"unit": stage.name, "ended": "not measured", "reason": f"{stage.needs} is missing"})
        self.book.add(stage.name, {"whole": True})
        return False

    def _begin(self, stage: Stage) -> Process:
        self._say(stage.name, "begins")
        until = time.monotonic() + self._left()
        return Process(stage, self.book, self.folder, self.environment, until)

    def _over(self, process: Process) -> bool:
        over = process.poll()
        if over:
            name = process.stage.name
            ends = list(self.book.ended(name).values())
            told = ", ".join(f"{ends.count(end)} {end}" for end in dict.fromkeys(ends))
            self._say(name, f"{'done' if self.book.whole(name) else 'out of time'}: {told or 'no units'}")
        return over

    def _say(self, stage: str, what: str) -> None:
        print(f"{time.monotonic() - self.started:6.1f} s  {stage} {what}", flush=True)
