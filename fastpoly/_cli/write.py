"""Results into a folder: whole files, in place of what has their names, and never where the samples lie.

A file is written beside its place and moved there when it is whole. So a link in the folder is replaced, not followed,
and a reader sees the old file or the new one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from .._saved import replacing as replacing


def make_folder(folder: Path) -> None:
    """Make `folder` if it is missing. Called before a run: after it, a folder that takes no files would cost the run.

    Raises:
        OSError: it cannot be made, or nothing can be written into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: no permission to write there")


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write `content`, with null for NaN and infinity: JSON has neither, and most readers refuse them."""
    with replacing(path) as new:
        new.write_text(json.dumps(_with_nulls(content), indent=2, allow_nan=False) + "\n")
    return path


def existing(paths: Iterable[Path]) -> frozenset[Path]:
    """Those of `paths` that are there, to be told of when they are replaced: see `wrote`."""
    return frozenset(path for path in paths if path.exists() or path.is_symlink())


def wrote(paths: Iterable[Path], before: Collection[Path]) -> str:
    """What was written, and which of it replaced something that was there before."""
    paths = list(paths)
    parts = []
    for verb, replaced in (("wrote", False), ("replaced", True)):
        some = [str(path) for path in paths if (path in before) is replaced]
        parts += [f"{verb} {', '.join(some)}"] if some else []
    return "; ".join(parts)


def refuse_overwriting(sources: Iterable[Path], results: Iterable[Path], option: str = "--out") -> None:
    """Raise ValueError if writing one of `results` would overwrite one of `sources`, by whatever name or link."""
    sources = list(sources)
    for result in results:
        for source in sources:
            if result.exists() and source.exists() and result.samefile(source):
                raise ValueError(f"{option}: {result} would overwrite {source}, which is read; choose another place")


def _with_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
