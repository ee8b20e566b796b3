"""`fastpoly cache`: where compiled kernels are kept, how many there are, and away with them."""

from __future__ import annotations

from rich.console import Console

from fastpoly_kernels import store


def show_cache(clear: bool, console: Console) -> None:
    """Tell of the kernels on the disk, or remove them.

    Raises:
        ValueError: their folder may not be used.
        OSError: they cannot be removed.
    """
    place = store.folder()
    if place is None:
        raise ValueError("the cache folder is not used; the warning says why")
    if clear:
        console.print(f"{store.clear():,} kernels removed from {place}", soft_wrap=True)
        return
    files = store.stored()
    megabytes, most = sum(file.bytes for file in files) / 1e6, store.MOST_BYTES / 1e6
    console.print(f"{len(files):,} kernels, {megabytes:,.1f} of at most {most:,.0f} MB, in {place}", soft_wrap=True)
