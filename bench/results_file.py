"""The result file: pytest-benchmark's own JSON with what a reader needs beside it, and nothing of whose machine it was.

Requirements: needs nothing but the standard library, so that whatever measures can write it and whatever shows it can
read it; `pytest-benchmark compare` still takes the file; no host, user or folder stands in it.

Each entry of "benchmarks" has an `extra_info` whose `kind` is "timing", "ratio", "limit" or "ladder". The key
"fastpoly" says what it was measured on, what was not measured and why; see `complete`.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("numpy", "numba", "llvmlite", "torch", "triton", "jax", "jaxlib")


@cache
def processor():
    """The processor's name without marks and clock rates, as "AMD EPYC"."""
    name = ""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else ""
    except OSError:
        if platform.system() == "Darwin":
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(asked, check=False, capture_output=True, text=True).stdout
    name = name or platform.processor() or platform.machine()
    name = re.sub(r"\((R|TM|C)\)|@.*|\bCPU\b|\bProcessor\b|\b\d+-Core\b", " ", name, flags=re.IGNORECASE)
    return " ".join(name.split())


def gpu():
    """The GPU's name, or None. Imports torch."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def slug(name):
    """The name as part of a file's name: "NVIDIA H100" is "nvidia-h100"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class Destination(str):
    """Where pytest-benchmark writes: from 5.3 on it opens this path; before, it enters a file that its option opened.

    That file would be empty from the start of a run to its end; this one is as it was until there is what to write.
    """

    def __enter__(self):
        self._file = Path(self).open("wb")
        return self._file

    def __exit__(self, *_):
        self._file.close()


def path(device, quick=False):
    """Where the results of a run on `device` go."""
    return FOLDER / f"{'quick' if quick else slug(device)}.json"


def cores():
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def versions():
    """What was measured, package by package; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    compiler = c_compiler()
    if compiler:
        told = subprocess.run([compiler, "--version"], check=False, capture_output=True, text=True).stdout
        found["c compiler"] = (told.splitlines() or [""])[0].replace(compiler, Path(compiler).name)
    return found


def c_compiler():
    """The C compiler's path, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def complete(output, device, quick, not_measured):
    """Make pytest-benchmark's JSON a result file, in place.

    Args:
        output: what pytest-benchmark is about to write (its hook `pytest_benchmark_update_json`).
        device: what was measured, the CPU's or the GPU's name.
        quick: were few rounds made and rows left out?
        not_measured: dicts of name, group and reason.
    """
    for key in ("node", "release", "python_build"):  # names of hosts, and of who built a kernel
        output["machine_info"].pop(key, None)
    output["commit_info"]["project"] = "fastpoly"
    output["commit_info"].pop("error", None)  # it quotes git, which quotes folders
    for row in output["benchmarks"]:
        row["stats"].pop("data", None)  # each round's seconds: much, and no one reads them
        row["params"] = {name: value for name, value in (row["params"] or {}).items() if _plain(value)}
    rows = [row["extra_info"] | {"group": row["group"]} for row in output["benchmarks"]]
    for row, ratio in zip(output["benchmarks"], to_fastest(rows), strict=True):
        if ratio is not None:
            row["extra_info"]["to_fastest"] = ratio
    output["fastpoly"] = {
        "device": device,
        "cores": cores(),
        "versions": versions(),
        "quick": quick,
        "not_measured": not_measured,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _plain(value):
    return value is None or isinstance(value, (str, int, float, bool))


def to_fastest(rows):
    """For each timing, its seconds over the fewest of the same work; None for other rows.

    The same work has the same group, model, precision and sizes. Another method, which takes no steps, has a ratio to
    the fastest that takes them, and is not the fastest itself.
    """
    work = ("group", "axis", "model", "precision", "n", "degree", "batch", "steps", "cache")
    keys = [tuple(row.get(key) for key in work) for row in rows]
    seconds = defaultdict(list)
    for key, row in zip(keys, rows, strict=True):
        if row.get("kind") == "timing" and not row.get("different_method"):
            seconds[key].append(row["seconds"])
    return [
        row["seconds"] / min(seconds[key]) if row.get("kind") == "timing" and seconds[key] else None
        for key, row in zip(keys, rows, strict=True)
    ]


def read(file):
    """A result file as `complete` left it."""
    return json.loads(Path(file).read_text())
