"""Names for a page: each once, as Python reads it, and none that the page has a meaning for already."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

from fastpoly_kernels.pages import NAMES

PYTHON = frozenset(
    {"carry", "data", "scratch", "out", "room", "counter", "kernel", "float", "float32", "float64", "int", "math"}
    | {"min", "range", *NAMES}
)
"""What a page of Python calls its arrays, and what it calls."""


class Names:
    """The names of one page.

    Args:
        reserved: those that are taken beforehand.
    """

    def __init__(self, reserved: Iterable[str] = PYTHON) -> None:
        self._taken = set(reserved)
        self._next: dict[str, int] = {}

    def new(self, hint: str) -> str:
        """A name that nothing else has: the hint, as far as Python allows, or that with a number."""
        stem = re.sub(r"\W", "_", unicodedata.normalize("NFKC", hint))  # Python reads identifiers as NFKC
        stem = stem if stem.isidentifier() else f"value_{stem}"
        name = stem
        while name in self._taken or keyword.iskeyword(name):
            self._next[stem] = self._next.get(stem, 0) + 1
            name = f"{stem}_{self._next[stem]}"
        self._taken.add(name)
        return name
