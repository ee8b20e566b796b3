"""`fastpoly demo`, as a person meets it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from command import PNG, in_a_process, interrupted_in_a_line, invoke, told_in_a_line

import fastpoly
from fastpoly._cli import demo


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and we are in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- demo
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # torch.compile takes most of it
def test_demo_judges_the_compiled_rows_right(tmp_path):
    run = in_a_process("demo", "--no-slow", cwd=tmp_path)
    assert run.returncode == 0, run.stderr + run.stdout
    assert run.stdout.count("right") == 9  # six, two of fused-autograd, one of compile
    assert max(map(len, run.stdout.splitlines())) <= 80
    out = tmp_path / "fastpoly-demo"
    report = json.loads((out / "demo.json").read_text())
    assert [(row["backend"], row["precision"]) for row in report["rows"]] == [
        ("numba", "double"),
        ("numba", "mixed"),
        ("numba", "single"),
        ("fused-autograd", "double"),
        ("fused-autograd", "single"),
        ("compile", "single"),
        ("gram", "double"),
        ("gram", "mixed"),
        ("spectral", "double"),
    ]
    for row in report["rows"]:
        assert row["right"] is True
        assert row["weights_off_by"] <= row["tolerance"]
        assert 0 < row["seconds"] < 60
    for picture in ("fit.png", "mse.png", "seconds.png"):
        assert (out / picture).read_bytes().startswith(PNG)


def test_demo_runs_every_backend_or_says_why_not(tmp_path):
    # but compile, which compiles for ten seconds; the test above has it
    only = [word for backend in fastpoly.backends() if backend.name != "compile" for word in ("--only", backend.name)]
    run = in_a_process("demo", "--steps", 200, "--out", tmp_path / "here", *only, cwd=tmp_path)
    assert run.returncode == 0, run.stderr + run.stdout
    report = json.loads((tmp_path / "here" / "demo.json").read_text())
    shown = {row["backend"] for row in report["rows"]}
    assert {"numpy", "torch", "torch-autograd", "numba"} <= shown
    assert shown | set(report["unavailable"]) >= {"torch-gpu", "torch-autograd-gpu"}
    for name, reason in report["unavailable"].items():
        assert f"{name} did not run" in run.stdout
        assert reason
    assert all(row["right"] is None for row in report["rows"])  # the references are for 200,000 steps
    weights = {(row["backend"], row["precision"]): row["weights"] for row in report["rows"]}
    assert weights["numba", "mixed"] == pytest.approx(weights["numpy", "mixed"], abs=1e-7)
    assert weights["numba", "single"] == pytest.approx(weights["torch-autograd", "single"], abs=1e-7)


def test_demo_only(tmp_path):
    run = in_a_process("demo", "--only", "numpy", "--steps", 50, cwd=tmp_path)
    assert run.returncode == 0
    report = json.loads((tmp_path / "fastpoly-demo" / "demo.json").read_text())
    assert [row["backend"] for row in report["rows"]] == ["numpy"]
    assert told_in_a_line(in_a_process("demo", "--only", "fortran", cwd=tmp_path), "--only: wants one of numpy, torch,")


def test_demo_steps_are_checked(tmp_path):
    assert told_in_a_line(in_a_process("demo", "--steps", -1, cwd=tmp_path), "steps: wants an integer >= 0, got -1")


def test_demo_makes_no_folder_for_a_mistake(here):
    assert told_in_a_line(invoke("demo", "--steps", -1), "steps: wants an integer >= 0, got -1")
    assert not (here / "fastpoly-demo").exists()


def test_demo_with_nothing_to_run_says_so(here):
    run = invoke("demo", "--only", "numpy", "--no-slow")
    assert told_in_a_line(run, "nothing to run: --no-slow leaves out")
    assert not (here / "fastpoly-demo").exists()


def test_demo_of_what_cannot_run_here_says_why(here, monkeypatch):
    missing = fastpoly.Backend("torch-gpu", "", ("single",), "no such card")
    monkeypatch.setattr(demo, "backends", lambda: (missing,))
    assert told_in_a_line(invoke("demo"), "nothing to run: torch-gpu: no such card")


def test_demo_looks_at_its_folder_before_it_runs(here, monkeypatch):
    (here / "taken").write_text("")
    monkeypatch.setattr(demo, "solve", None)  # a run would fail otherwise
    assert told_in_a_line(invoke("demo", "--out", "taken"), "taken")


def test_demo_with_no_steps_still_ends(tmp_path):
    only = [word for name in ("numpy", "torch", "numba", "gram", "spectral") for word in ("--only", name)]
    assert in_a_process("demo", "--steps", 0, *only, cwd=tmp_path).returncode == 0


def test_ctrl_c_ends_the_demo_in_a_line(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "fastpoly", "demo", "--only", "numpy", "--steps", str(10**8)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "80", "PYTHONUNBUFFERED": "1"},
    )
    with run:
        assert run.stdout.readline().startswith("degree 4 to sin(x)")
        time.sleep(0.5)  # into the run, which would take half an hour
        run.send_signal(signal.SIGINT)
        _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130
    assert stderr == "fastpoly: interrupted after 0 of 1 rows; what is done is in fastpoly-demo\n"


def test_ctrl_c_keeps_the_rows_that_the_demo_has_done(here, monkeypatch):
    solve = demo.solve

    def solve_until_numba(problem, backend, progress):
        if backend == "numba":
            raise KeyboardInterrupt
        return solve(problem, backend, progress)

    monkeypatch.setattr(demo, "solve", solve_until_numba)
    run = invoke("demo", "--only", "numpy", "--only", "numba", "--steps", 20)
    assert interrupted_in_a_line(run, "interrupted after 1 of 4 rows; what is done is in fastpoly-demo")
    assert "numpy    mixed" in run.stdout
    report = json.loads((here / "fastpoly-demo" / "demo.json").read_text())
    assert [row["backend"] for row in report["rows"]] == ["numpy"]
    for picture in ("fit.png", "mse.png", "seconds.png"):
        assert (here / "fastpoly-demo" / picture).read_bytes().startswith(PNG)
