"""What is done and how long it takes, a line each on standard error, in a process that has FASTPOLY_LOG=1.

It is also told to `logging.getLogger("fastpoly")`, if somebody has imported logging. Else it costs a microsecond.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

ON = os.environ.get("FASTPOLY_LOG", "0") not in ("", "0")


def say(words: str) -> None:
    """Tell it, in a line."""
    if ON:
        print(f"fastpoly: {words}", file=sys.stderr, flush=True)
    if "logging" in sys.modules:
        sys.modules["logging"].getLogger("fastpoly").info(words)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Tell what the block took, or the function that this decorates, if it comes to its end."""
    started = time.perf_counter()
    yield
    if ON:
        say(f"{name}: {time.perf_counter() - started:.4f} s")
