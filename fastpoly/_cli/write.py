"""Results into a folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
    path.write_text(json.dumps(_with_nulls(content), indent=2, allow_nan=False) + "\n")
    return path


def _with_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
