"""The process of a stage that is made of units: `python -m gpu.child MODULE ... --out FILE --done FILE`.

A module's `units()` is a dict from a unit's name to a function of nothing that gives rows, or nothing; what it raises
is its end, and the next unit runs. A dead CUDA context fails every call that follows, so then the process ends: the
next one begins behind the unit that did it. Of several modules the units have the module's name before their own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from . import card
from .book import RIGHT, NotMeasured
from .rows import Row, Writer

Unit = Callable[[], Iterable[Row] | None]

DEAD = 3
"""The exit status of a process whose CUDA context is dead."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--done", type=Path, required=True)
    words = parser.parse_args()
    card.prepare()
    write = Writer(words.out)
    done = set(words.done.read_text().splitlines())
    units = {f"{of}{name}": unit for of, module in _named(words.modules) for name, unit in module.units().items()}
    write({"units": list(units)})
    for name, unit in units.items():
        if name not in done:
            _run(name, unit, write)


def _named(modules: list[str]) -> Iterator[tuple[str, Any]]:
    """What stands before the names of a module's units, and the module."""
    for module in modules:
        yield f"{module.rpartition('.')[2]}: " if len(modules) > 1 else "", importlib.import_module(module)


def _run(name: str, unit: Unit, write: Writer) -> None:
    write({"begun": name})
    started = time.perf_counter()
    end: Row = {"ended": RIGHT}
    try:
        for row in unit() or ():
            write({"unit": name, **row})
    except NotMeasured as why:
        end = {"ended": "not measured", "reason": str(why)}
    except Exception as error:
        traceback.print_exc()
        end = {"ended": "failed", "error": f"{type(error).__name__}: {error}"[:400]}
    write({"unit": name, **end, "took": round(time.perf_counter() - started, 3)})
    if _dead(end.get("error", "")):
        os._exit(DEAD)


def _dead(error: str) -> bool:
    """An illegal address or the like, and no capture that failed, which ends with itself."""
    return "CUDA error" in error and "captur" not in error


if __name__ == "__main__":
    main()
