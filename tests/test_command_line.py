"""The command `fastpoly`, as a person meets it: real processes, 80 columns."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fastpoly._cli.app import app

PNG = b"\x89PNG\r\n\x1a\n"


def fastpoly(*words, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastpoly", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def told_in_a_line(run, *parts):
    """The run failed as a mistake should: status 2, one line, no traceback."""
    status = run.exit_code if isinstance(run, Result) else run.returncode
    assert status == 2, run.stderr
    assert run.stderr.startswith("fastpoly: ")
    assert run.stderr.count("\n") == 1, run.stderr
    for part in parts:
        assert part in run.stderr
    return True


# -- demo
# ---------------------------------------------------------------------------------------------------------------


def test_demo_judges_the_compiled_rows_right(tmp_path):
    run = fastpoly("demo", "--no-slow", cwd=tmp_path)
    assert run.returncode == 0, run.stderr + run.stdout
    assert run.stdout.count("right") == 3
    assert max(map(len, run.stdout.splitlines())) <= 80
    out = tmp_path / "fastpoly-demo"
    report = json.loads((out / "demo.json").read_text())
    assert [(row["backend"], row["precision"]) for row in report["rows"]] == [
        ("numba", "double"),
        ("numba", "mixed"),
        ("numba", "single"),
    ]
    for row in report["rows"]:
        assert row["right"] is True
        assert row["weights_off_by"] <= row["tolerance"]
        assert 0 < row["seconds"] < 60
    for picture in ("fit.png", "mse.png", "seconds.png"):
        assert (out / picture).read_bytes().startswith(PNG)


def test_demo_runs_every_backend_or_says_why_not(tmp_path):
    run = fastpoly("demo", "--steps", 200, "--out", tmp_path / "here", cwd=tmp_path)
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
    run = fastpoly("demo", "--only", "numpy", "--steps", 50, cwd=tmp_path)
    assert run.returncode == 0
    report = json.loads((tmp_path / "fastpoly-demo" / "demo.json").read_text())
    assert [row["backend"] for row in report["rows"]] == ["numpy"]
    assert told_in_a_line(fastpoly("demo", "--only", "fortran", cwd=tmp_path), "--only: wants one of numpy, torch,")


def test_demo_steps_are_checked(tmp_path):
    assert told_in_a_line(fastpoly("demo", "--steps", -1, cwd=tmp_path), "steps: wants an integer >= 0, got -1")


def test_demo_with_no_steps_still_ends(tmp_path):
    assert fastpoly("demo", "--steps", 0, cwd=tmp_path).returncode == 0


def test_ctrl_c_ends_the_demo_in_a_line(tmp_path):
    arguments = [sys.executable, "-m", "fastpoly", "demo", "--only", "numpy", "--steps", str(10**8)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path) as run:
        time.sleep(3)  # into the run, which would take half an hour
        run.send_signal(signal.SIGINT)
        stderr = run.stderr.read()
    assert run.returncode == 130
    assert "Traceback" not in stderr
    assert "interrupted" in stderr


# -- fit
# ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path, post):
    """The post's samples with a label column, as a spreadsheet would write them."""
    file = tmp_path / "sine.csv"
    lines = [f"{x},{y},sample" for x, y in zip(*(a.ravel() for a in post), strict=True)]
    file.write_text("\ufeffangle, sine,label\n" + "\n".join(lines) + "\n\n", encoding="utf-8")
    return file


def test_fit_csv(tmp_path, csv):
    run = fastpoly("fit", csv, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "FitResult(0.311635 +0.376421 x" in run.stdout
    out = tmp_path / "fastpoly-fit"
    written = json.loads((out / "weights.json").read_text())
    assert written["weights"] == pytest.approx([0.3116353, 0.3764209, 0.2636594, -0.2193911, 0.0283605], abs=1e-7)
    trace = np.load(out / "mse.npy", allow_pickle=False)
    assert trace.shape == (200_000,)
    assert written["last_mse"] == trace[-1]
    assert (out / "fit.png").read_bytes().startswith(PNG)


def test_fit_with_every_option(tmp_path, csv):
    run = fastpoly(
        *("fit", csv, "--x", "angle", "--y", "sine", "--degree", 2, "--steps", 100, "--learn-rate", "1e-3"),
        *("--backend", "numpy", "--precision", "single", "--out", "elsewhere"),
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / "elsewhere" / "weights.json").read_text())
    assert len(written["weights"]) == 3
    chosen = {key: written[key] for key in ("degree", "steps", "learn_rate", "backend", "precision")}
    assert chosen == dict(degree=2, steps=100, learn_rate=1e-3, backend="numpy", precision="single")


def test_fit_npy_and_npz(tmp_path, post):
    x, y = (a.ravel() for a in post)
    np.save(tmp_path / "columns.npy", np.stack([x, y], 1))
    np.save(tmp_path / "fields.npy", np.rec.fromarrays([y, x], names="sine,angle"))
    np.savez(tmp_path / "named.npz", angle=x, sine=y)
    expected = None
    for words in (
        ("columns.npy",),
        ("columns.npy", "--x", "0", "--y", "1"),
        ("fields.npy", "--x", "angle"),
        ("named.npz", "--y", "sine"),
    ):
        run = fastpoly("fit", *words, "--steps", 50, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        weights = json.loads((tmp_path / "fastpoly-fit" / "weights.json").read_text())["weights"]
        expected = expected or weights
        assert weights == expected, words


MISTAKES = [
    ("no-such.csv", None, [], ["no-such.csv"]),
    ("data.txt", "1", [], ["wants a file ending in .csv, .npy, .npz"]),
    ("empty.csv", "", [], ["empty.csv: is empty, wants a header"]),
    ("header.csv", "x,y\n", [], ["has a header and no samples"]),
    ("column.csv", "x,y\n1,2\n", ["--y", "z"], ["--y: no column 'z'; it has x, y"]),
    ("one.csv", "x\n1\n", [], ["wants two columns, got x"]),
    ("text.csv", "x,y\n1,2\n\n3,four\n", [], ["line 4, column y: 'four' is not a number"]),
    ("hole.csv", "x,y\n1,2\n,4\n", [], ["line 3, column x: is empty"]),
    ("short.csv", "x,y\n1,2\n3\n", [], ["line 3 has 1 cells where the header has 2"]),
    ("nan.csv", "x,y\n1,2\n3,nan\n", [], ["y: wants finite numbers, got y[1] = nan"]),
    ("binary.csv", b"\xff\xfe\x00x", [], ["is not UTF-8 text"]),
    ("not.npy", "hello", [], ["is not a numpy file"]),
    ("empty.npz", "", [], ["is not a numpy file"]),
    ("ok.csv", "x,y\n1,2\n", ["--degree", "-1"], ["degree: wants an integer >= 0"]),
    ("ok.csv", "x,y\n1,2\n", ["--learn-rate", "0"], ["learn_rate: wants a positive finite number"]),
    ("ok.csv", "x,y\n1,2\n", ["--backend", "fortran"], ["backend: wants auto, numpy,"]),
    ("ok.csv", "x,y\n1,2\n", ["--precision", "half"], ["precision: wants one of double, mixed, single"]),
    ("ok.csv", "x,y\n1,2\n", ["--steps", "1000000000000"], ["8,000.0 GB", "trace_every"]),
]


@pytest.mark.parametrize(
    ("name", "content", "options", "parts"), MISTAKES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_mistake_is_told_in_a_line(tmp_path, monkeypatch, name, content, options, parts):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["fit", name, *options])
    assert told_in_a_line(run, *parts)
    assert not (tmp_path / "fastpoly-fit").exists()


def test_a_pickle_is_never_opened(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    assert told_in_a_line(fastpoly("fit", "pickled.npy", cwd=tmp_path), "without unpickling")
    np.savez(tmp_path / "pickled.npz", x=np.array([{"run": "me"}], dtype=object), y=np.zeros(1))
    assert told_in_a_line(fastpoly("fit", "pickled.npz", cwd=tmp_path), "pickle")


def test_divergence_is_told_and_kept(tmp_path, csv):
    run = fastpoly("fit", csv, "--learn-rate", "0.001", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("fastpoly: diverged at step 78")
    assert json.loads((tmp_path / "fastpoly-fit" / "weights.json").read_text())["diverged_at"] == 78


# -- the rest
# -----------------------------------------------------------------------------------------------------------


def test_backends_lists_all_with_reasons(tmp_path):
    run = fastpoly("backends", cwd=tmp_path)
    assert run.returncode == 0
    for name in ("numpy", "torch", "torch-gpu", "torch-autograd", "torch-autograd-gpu", "numba"):
        assert f" {name} " in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_help_names_the_commands(tmp_path):
    run = fastpoly("--help", cwd=tmp_path)
    assert run.returncode == 0
    for command in ("demo", "fit", "backends"):
        assert command in run.stdout


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_libraries_it_says_what_brings_them(tmp_path, missing):
    code = f"import sys; sys.modules['{missing}'] = None; from fastpoly.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert told_in_a_line(run, f"the command line needs {missing}; pip install 'fastpoly[cli]'")


def test_without_matplotlib_the_numbers_still_come(tmp_path, csv):
    code = "import sys; sys.modules['matplotlib.figure'] = None; from fastpoly.__main__ import main; main()"
    arguments = [sys.executable, "-c", code, "fit", str(csv), "--steps", "10"]
    run = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "no picture: pictures need matplotlib; pip install 'fastpoly[plot]'" in " ".join(run.stdout.split())
    assert (tmp_path / "fastpoly-fit" / "weights.json").exists()
