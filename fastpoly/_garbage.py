"""`uncollected`: a block in which Python does not look for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For what makes many objects in a short time and lets few of them go: tracing, writing, importing.

    They would set off a search through every object there is, of which torch brings a great many: it can take as long
    as all of them together. What is garbage by then is found later.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
