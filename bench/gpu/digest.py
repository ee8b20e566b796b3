"""What a figure depends on, in 16 letters: the sources that it is made by, the card and the versions.

Rows of an equal digest need not be measured again. A stage names the sources that it runs, so that a change to a test
leaves figures as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def of(root: Path, patterns: Iterable[str], where: Mapping[str, str]) -> str:
    """The digest of the files in `root` that match, by name and content, and of what they run on."""
    found = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in root.glob(pattern) if file.is_file()}):
        found.update(f"{file.relative_to(root).as_posix()}\0".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest())
    for name, version in sorted(where.items()):
        found.update(f"{name} {version}\0".encode())
    return found.hexdigest()[:16]
