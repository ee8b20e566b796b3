"""A fresh process of this tree with caches of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def measured(code: str) -> Any:
    """What the code prints last, as JSON, in a fresh process with empty caches and one thread."""
    with tempfile.TemporaryDirectory() as cache:
        path = os.pathsep.join(map(str, (ROOT, ROOT / "kernels", ROOT / "tests", ROOT / "bench")))
        environment = {**os.environ, "PYTHONPATH": path, "FASTPOLY_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-W", "ignore", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])
