"""Without JAX and a C compiler the suite runs as ever, and says what it could not measure and why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent
CHOSEN = (
    "test_peers.py::test_least_squares",
    "test_peers.py::test_c",
    "test_peers.py::test_jax",
    "test_peers.py::test_loops_of_torch[scan]",
    "test_loop.py",
    "test_autograd.py::test_jax_against_fused_autograd",
    "test_cold_start.py::test_train_against_jax",
)


@pytest.mark.slow
def test_what_is_missing_is_listed_and_nothing_fails(tmp_path):
    (tmp_path / "without_jax.py").write_text("import sys\nsys.modules['jax'] = None\n")
    out, nothing = tmp_path / "results.json", tmp_path / "empty"
    nothing.mkdir()
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = ["-m", "pytest", *(str(BENCH / chosen) for chosen in CHOSEN), "-p", "without_jax", "-q"]
    run = subprocess.run(
        [sys.executable, *command, f"--benchmark-json={out}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=BENCH.parent,
        env={**os.environ, "PATH": str(nothing), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths},
    )
    assert run.returncode == 0, run.stdout
    results = json.loads(out.read_text())
    assert [row["extra_info"]["backend"] for row in results["benchmarks"]] == ["numpy.polynomial"]
    missing = {row["name"]: row["reason"] for row in results["fastpoly"]["not_measured"]}
    for name, reason in {
        "C, gradient by hand, double": "no C compiler",
        "numba single / C single": "no C compiler",
        "JAX, best unroll / fused-autograd, double: at least 8": "JAX is not installed",
        "process: train() / process: JAX, the post's problem": "JAX is not installed",
        "torch scan, compiled, single": "torch.compile does not take it",
    }.items():
        assert reason in missing[name]
        assert f"{name}: {missing[name]}" in run.stdout
