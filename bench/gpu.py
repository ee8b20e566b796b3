"""`make gpu`: the tests and the benchmarks marked `gpu`, on whatever Python runs this.

Needs numpy, numba, torch, triton, pytest and pytest-benchmark, and nothing installed of fastpoly. Writes
bench/results/<gpu>.json, and the same as tables of text beside it. Without a GPU it says so, and that is all.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = {
    "numpy": "numpy",
    "numba": "numba",
    "torch": "torch",
    "triton": "triton",
    "pytest": "pytest",
    "pytest_benchmark": "pytest-benchmark",
}


def main() -> int:
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"make gpu: {', '.join(missing)} missing from {sys.executable}; pip install {' '.join(missing)}")
        return 1
    import results_file

    gpu = results_file.gpu()
    if gpu is None:
        print("make gpu: torch finds no CUDA GPU here; nothing was run, and nothing is measured")
        return 0
    print(f"make gpu: {gpu}")
    failed = run("tests") | run("bench", "--results")
    file = results_file.path(gpu)
    if file.exists():
        text = "\n".join(tables_of(file))
        file.with_suffix(".txt").write_text(text)
        print(text)
        print(f"{file.relative_to(ROOT)} and .txt")
    return int(failed)


def run(folder: str, *options: str) -> bool:
    """Did a test fail? Warnings are none here: other versions of torch have others."""
    files = [str(file) for file in sorted((ROOT / folder).glob("test_*.py")) if "pytest.mark.gpu" in file.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", *options, *files]
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode != 0


def tables_of(file: Path) -> list[str]:
    """The result file as text."""
    import results_file
    import tables

    read = results_file.read(file)
    told = read["fastpoly"]
    rows = [{"group": row["group"], **row["extra_info"]} for row in read["benchmarks"]]
    lines = [f"{told['device']}, {told['date']}", ", ".join(f"{k} {v}" for k, v in told["versions"].items())]
    for title, table in tables.all_of(rows, told["not_measured"]):
        lines += ["", title, "", *table]
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
