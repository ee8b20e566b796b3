"""What a mistyped name may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def near(name: str, among: Iterable[str]) -> str:
    """What ends a message about "tme", "; did you mean 'time'?", or nothing if no name is near."""
    import difflib

    by_small: dict[str, str] = {}
    for other in among:
        by_small.setdefault(other.lower(), other)
    found = difflib.get_close_matches(name.lower(), by_small, n=1, cutoff=0.6)
    if not found:  # "time" of "Time (s)"
        found = [small for small in by_small if len(name) > 1 and small.startswith(name.lower())]
    return f"; did you mean {by_small[found[0]]!r}?" if found else ""
