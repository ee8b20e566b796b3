"""One stage's process: started, watched, its rows taken over; ended with all that it started when its time is up.

A process that dies in a unit, or takes too long for one, costs that unit: the stage begins again behind it. One that
dies without having done anything costs the stage. What begins again is told what is done: units by a file of their
names, operations by their rows, which stand in the file that takes them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .book import Book
from .rows import Reader, Row, Writer


@dataclass(frozen=True)
class Stage:
    """A part of `make gpu`.

    Attributes:
        name: of the stage.
        command: what follows the interpreter; "{out}" is the file that takes its rows, "{done}" one that names, a line
            each, the units that need not be done.
        seconds: that it may take in one run.
        unit_seconds: that a unit may take.
        sources: patterns of the files that its rows depend on.
        fine: exit statuses that mean it has done all it had to.
        needs: a file without which it cannot run.
        one_thread: it runs beside others, or has processes of its own for the other cores.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    sources: tuple[str, ...] = ()
    unit_seconds: float = 40.0
    fine: tuple[int, ...] = (0,)
    needs: str = ""
    one_thread: bool = False


class Process:
    """A stage on its way. `poll` until it is over.

    Args:
        stage: which.
        book: that takes its rows.
        folder: for its files.
        environment: of the process.
        until: the time, of `time.monotonic`, at which all ends.
    """

    def __init__(self, stage: Stage, book: Book, folder: Path, environment: Mapping[str, str], until: float) -> None:
        self.stage, self.log = stage, folder / f"{stage.name}.txt"
        self._book, self._folder, self._environment = book, folder, environment
        self._until = min(until, time.monotonic() + stage.seconds)
        self._begin()

    def _begin(self) -> None:
        out, done = (self._folder / f"{self.stage.name}.{kind}" for kind in ("jsonl", "done"))
        out.unlink(missing_ok=True)
        write = Writer(out, anew=True)
        for row in self._book.of(self.stage.name):
            if "op" in row:
                write(row)
        done.write_text("".join(f"{unit}\n" for unit in self._book.ended(self.stage.name)))
        self._new, self._unit, self._progress = Reader(out, out.stat().st_size), "", False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *(word.replace("{out}", str(out)).replace("{done}", str(done)) for word in self.stage.command),
                ],
                env={**self._environment, **({"OMP_NUM_THREADS": "1"} if self.stage.one_thread else {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> bool:
        """Take over what is new; is the stage over, or its time?"""
        status = self._process.poll()  # before the rows: there are no more after it
        self._take_new()
        if status is not None:
            self.end()  # what it left running
            return self._over(status)
        if time.monotonic() > self._until:
            self.end()
            return True
        if self._unit and time.monotonic() - self._begun > self.stage.unit_seconds:
            unit = self._unit
            self.end()
            if self._unit == unit:  # it did not end at the last moment
                self._ended("hung", f"no end within {self.stage.unit_seconds:g} s")
            self._begin()
        return False

    def _take_new(self) -> None:
        for row in self._new:
            self._take(row)

    def _take(self, row: Row) -> None:
        if "begun" in row:
            self._unit, self._begun = row["begun"], time.monotonic()
            return
        if "ended" in row:
            self._unit = ""
        self._progress |= bool({"ended", "op"} & row.keys())
        self._book.add(self.stage.name, row)

    def _over(self, status: int) -> bool:
        if status in self.stage.fine:
            self._book.add(self.stage.name, {"whole": True})
            return True
        how = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        if self._unit:
            self._ended("crashed", how)
        elif not self._progress:
            self._unit = self.stage.name
            self._ended("crashed", f"{how}: {self._last_words()}")
            self._book.add(self.stage.name, {"whole": True})
            return True
        self._begin()
        return False

    def _ended(self, how: str, why: str) -> None:
        self._book.add(self.stage.name, {"unit": self._unit, "ended": how, "error": why})
        self._unit = ""

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")[:200]

    def end(self) -> None:
        """Kill the process and all that it started, if any is left, and take over what it wrote until then."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._take_new()
