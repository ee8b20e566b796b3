"""The command `fastpoly`, as a person meets it: 80 columns, and real processes where quick is not enough."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import types
import warnings
import zipfile

import numpy as np
import pytest
import rich.console
from command import PNG, in_a_process, interrupted_in_a_line, invoke, told_in_a_line
from typer.testing import CliRunner

from fastpoly.__main__ import main
from fastpoly._cli import fit_file
from fastpoly._cli.app import app
from fastpoly._cli.write import write_json
from fastpoly._progress import bar


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, and we are in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- fit
# ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path, post):
    """The post's samples with a label column, as a spreadsheet would write them."""
    file = tmp_path / "sine.csv"
    lines = [f"{x},{y},sample" for x, y in zip(*(a.ravel() for a in post), strict=True)]
    file.write_text("\ufeffangle, sine,label\n" + "\n".join(lines) + "\n\n", encoding="utf-8")
    return file


POST = ("--domain", "none", "--steps", 200_000, "--learn-rate", "1e-5")


def test_fit_csv(tmp_path, csv):
    run = in_a_process("fit", csv, *POST, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "y           0.31163" in run.stdout
    out = tmp_path / "fastpoly-fit"
    written = json.loads((out / "fit.json").read_text())
    assert written["weights"] == pytest.approx([0.3116353, 0.3764209, 0.2636594, -0.2193911, 0.0283605], abs=1e-7)
    trace = np.load(out / "mse.npy", allow_pickle=False)
    assert trace.shape == (200_000,)
    assert written["final_mse"] == pytest.approx(trace[-1], rel=1e-3)
    assert (out / "fit.png").read_bytes().startswith(PNG)


def test_fit_with_every_option(tmp_path, csv):
    run = in_a_process(
        *("fit", csv, "--x", "angle", "--y", "sine", "--degree", 2, "--steps", 100, "--learn-rate", "1e-3"),
        *("--trace-every", 30, "--backend", "numpy", "--precision", "single", "--out", "elsewhere"),
        *("--domain", "-1,6", "--ridge", 0),
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / "elsewhere" / "fit.json").read_text())
    assert len(written["weights"]) == 3
    expected = dict(domain=[-1, 6], steps=100, learn_rate=1e-3, trace_every=30, backend="numpy", precision="single")
    assert {key: written[key] for key in expected} == expected
    assert np.load(tmp_path / "elsewhere" / "mse.npy").shape == (4,)


@pytest.mark.slow
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
        run = in_a_process("fit", *words, "--steps", 50, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        weights = json.loads((tmp_path / "fastpoly-fit" / "fit.json").read_text())["weights"]
        expected = expected or weights
        assert weights == expected, words


MISTAKES = [
    ("no-such.csv", None, [], ["no such file: no-such.csv"]),
    ("data.txt", "1", [], ["wants two columns of numbers, got 1"]),
    ("empty.csv", "", [], ["empty.csv: is empty, wants a header"]),
    ("header.csv", "x,y\n", [], ["has a header and no samples"]),
    ("column.csv", "x,y\n1,2\n", ["--y", "z"], ["--y: no column 'z'; it has x, y"]),
    ("one.csv", "x\n1\n", [], ["wants two columns of numbers, got x"]),
    ("text.csv", "x,y\n1,2\n\n3,four\n", [], ["line 4, column y: 'four' is not a number"]),
    ("hole.csv", "x,y\n1,2\n,4\n", [], ["line 3, column x: is empty"]),
    ("short.csv", "x,y\n1,2\n3\n", [], ["line 3 has 1 cell where line 2 has 2; --nan omit"]),
    ("nan.csv", "x,y\n1,2\n3,nan\n", [], ["line 3, column y: 'nan' is no number to fit; --nan omit"]),
    ("twice.csv", "x,y,x\n1,2,3\n", [], ["twice.csv: 2 columns are named 'x'"]),
    ("binary.csv", b"\x7f\x00x", [], ["binary.csv: is not text"]),
    ("not.npy", "hello", [], ["is not a numpy file"]),
    ("empty.npz", "", [], ["is not a numpy file"]),
    ("ok.csv", "x,y\n1,2\n", ["--degree", "-1"], ["degree: wants an integer >= 0"]),
    ("ok.csv", "x,y\n1,2\n", ["--trace-every", "0"], ["--trace-every: wants an integer >= 1"]),
    ("ok.csv", "x,y\n1,2\n", ["--learn-rate", "0"], ["--learn-rate: wants a positive finite number"]),
    ("ok.csv", "x,y\n1,2\n", ["--backend", "fortran"], ["backend: wants auto, numpy,"]),
    ("ok.csv", "x,y\n1,2\n", ["--precision", "half"], ["precision: wants one of double, mixed, single"]),
    ("ok.csv", "x,y\n1,2\n", ["--steps", "1e12", "--trace-every", "1"], ["8,000.0 GB", "--trace-every"]),
    ("huge.csv", "x,y\n1e200,2\n2e200,1\n", ["--domain", "none", "--degree", "2"], ["choose --domain auto"]),
    ("ok.csv", "x,y\n1,2\n", ["--ridge", "-1"], ["--ridge: wants numbers >= 0"]),
    ("ok.csv", "x,y\n1,2\n", ["--sigma", "z"], ["--sigma: no column 'z'; it has x, y"]),
    ("ok.csv", "x,y,s\n1,2,0\n", ["--sigma", "s"], ["--sigma: wants positive numbers, got sigma[0] = 0"]),
    ("ok.csv", "x,y,w\n1,2,-1\n", ["--weight", "w"], ["--weight: wants non-negative numbers"]),
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
    assert told_in_a_line(in_a_process("fit", "pickled.npy", cwd=tmp_path), "without unpickling")
    np.savez(tmp_path / "pickled.npz", x=np.array([{"run": "me"}], dtype=object), y=np.zeros(1))
    assert told_in_a_line(in_a_process("fit", "pickled.npz", cwd=tmp_path), "pickle")


def with_other_data(archive):
    return archive.replace(np.array(0.75).tobytes(), bytes(8))


def with_unknown_compression(archive):
    method = archive.index(b"PK\x01\x02") + 10  # of the first entry in the directory
    return archive[:method] + b"\x63" + archive[method + 1 :]


def with_no_directory(archive):
    return archive[:-30]


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        (with_other_data, "Bad CRC-32"),
        (with_unknown_compression, "compression"),
        (with_no_directory, "is not a numpy file"),
    ],
)
def test_a_damaged_archive_is_told_in_a_line(here, damaged, told):
    np.savez("bad.npz", x=[0.25, 0.75], y=[1.0, 2.0])
    (here / "bad.npz").write_bytes(damaged((here / "bad.npz").read_bytes()))
    assert told_in_a_line(invoke("fit", "bad.npz"), "bad.npz: ", told)


def test_a_damaged_compressed_archive_is_told_in_a_line(here):
    np.savez_compressed("bad.npz", x=np.random.default_rng(1).random(1000), y=np.zeros(1000))
    content = bytearray((here / "bad.npz").read_bytes())
    content[60:600] = b"\xff" * 540  # in the stream of x
    (here / "bad.npz").write_bytes(content)
    assert told_in_a_line(invoke("fit", "bad.npz"), "bad.npz: ", "decompressing")


def test_a_member_that_is_no_array_is_told_in_a_line(here):
    with zipfile.ZipFile("other.npz", "w") as archive:
        archive.writestr("x", "some text")
        archive.writestr("y", "more text")
    assert told_in_a_line(invoke("fit", "other.npz"), "x: wants")


def test_a_damaged_npy_header_is_told_in_a_line(here):
    np.save("bad.npy", np.zeros((3, 2)))
    content = (here / "bad.npy").read_bytes()
    (here / "bad.npy").write_bytes(content.replace(b"(3, 2), }", b"(3, 2,   "))
    assert told_in_a_line(invoke("fit", "bad.npy"), "bad.npy: is not a numpy file")


def test_a_header_too_long_for_numpy_is_told_in_a_line(here):
    np.save("long.npy", np.zeros(1, [(f"column{i}", float) for i in range(1000)]))
    assert told_in_a_line(invoke("fit", "long.npy"), "long.npy: is not a numpy file")  # numpy's own words take 2 lines


def test_divergence_is_told_and_kept(tmp_path, csv):
    run = in_a_process("fit", csv, *POST[:4], "--learn-rate", "0.001", cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("fastpoly: diverged at step 78")
    assert json.loads((tmp_path / "fastpoly-fit" / "fit.json").read_text())["diverged_at"] == 78


def test_json_has_words_or_null_for_what_is_not_finite(here, csv):
    run = invoke("fit", csv, *POST[:4], "--learn-rate", "1e307", "--backend", "numba")
    assert run.exit_code == 1, run.stderr
    assert run.stderr.startswith("fastpoly: diverged at step 1:")
    assert run.stderr.count("\n") == 1

    def refuse(constant):
        raise AssertionError(constant)

    written = json.loads((here / "fastpoly-fit" / "fit.json").read_text(), parse_constant=refuse)
    assert written["diverged_at"] == 1
    assert {"inf", "-inf", "nan"} & set(written["weights"])
    rows = [{"weights": [float("nan"), 1.0], "final_error": float("-inf"), "right": None}]
    path = write_json(here / "demo.json", {"rows": rows})
    assert json.loads(path.read_text()) == {"rows": [{"weights": [None, 1.0], "final_error": None, "right": None}]}


def test_other_warnings_pass_and_do_not_fail_the_fit(here, csv, monkeypatch):
    fit_run = fit_file.run

    def warning_run(*arguments):
        warnings.warn("by the way", UserWarning, stacklevel=1)
        return fit_run(*arguments)

    monkeypatch.setattr(fit_file, "run", warning_run)
    with pytest.warns(UserWarning, match="by the way"):
        run = invoke("fit", csv)
    assert run.exit_code == 0, run.stderr
    assert run.stderr == ""


def test_ctrl_c_keeps_what_the_fit_has_done(here, csv, monkeypatch):
    @contextlib.contextmanager
    def interrupting_bar():
        yield lambda *_: signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(fit_file, "bar", interrupting_bar)
    run = invoke("fit", csv, "--backend", "numba", "--steps", 10**9, "--trace-every", 1000, "--out", "half")
    written = json.loads((here / "half" / "fit.json").read_text())
    done = written["steps"]
    assert 0 < done < 10**9
    assert interrupted_in_a_line(run, f"interrupted after {done:,} of 1,000,000,000 steps; what is done is in half")
    assert run.stdout.startswith("fastpoly: ")  # what was read
    assert run.stdout.count("\n") == 1
    trace = np.load(here / "half" / "mse.npy")
    assert len(trace) == -(-done // 1000)
    assert written["final_mse"] == pytest.approx(trace[-1])
    assert (here / "half" / "fit.png").read_bytes().startswith(PNG)


def test_ctrl_c_before_there_is_anything_is_told_in_a_line(here, csv, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_file, "read_samples", interrupted)
    assert interrupted_in_a_line(invoke("fit", csv), "interrupted")


def test_fit_looks_at_its_folder_before_it_runs(here, csv, monkeypatch):
    monkeypatch.setattr(fit_file, "run", None)  # a run would fail otherwise
    (here / "taken").write_text("")
    assert told_in_a_line(invoke("fit", csv, "--out", "taken"), "taken")
    assert told_in_a_line(invoke("fit", csv, "--out", "taken/inside"), "taken")
    monkeypatch.setattr("os.access", lambda _, mode: mode == os.R_OK)
    assert told_in_a_line(invoke("fit", csv, "--out", "locked"), "locked: no permission to write there")


# -- the rest
# -----------------------------------------------------------------------------------------------------------


def test_backends_lists_all_with_reasons(tmp_path):
    run = in_a_process("backends", cwd=tmp_path)
    assert run.returncode == 0
    for name in ("numpy", "torch", "torch-gpu", "torch-autograd", "torch-autograd-gpu", "numba"):
        assert f" {name} " in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_backends_tells_a_mistake_in_a_line(monkeypatch):
    def broken():
        raise OSError("libtorch.so: cannot open shared object file")

    monkeypatch.setattr("fastpoly._cli.app.backends", broken)
    assert told_in_a_line(invoke("backends"), "libtorch.so: cannot open")


def test_ctrl_c_while_modules_load_is_told_in_a_line(monkeypatch, capsys):
    class Loading(types.ModuleType):
        @property
        def app(self):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "fastpoly._cli.app", Loading("fastpoly._cli.app"))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "fastpoly: interrupted\n"


@pytest.mark.parametrize(("kind", "drawn"), [("force_jupyter", 1), ("force_terminal", 1), ("no_color", 0)])
def test_the_bar_is_drawn_on_terminals_and_in_notebooks(monkeypatch, kind, drawn):
    bars = []

    @contextlib.contextmanager
    def new_bar(console):
        bars.append(console)
        yield types.SimpleNamespace(add_task=lambda *_, **__: 0, update=lambda *_, **__: None)

    monkeypatch.setattr(rich.console, "Console", functools.partial(rich.console.Console, **{kind: True}))
    monkeypatch.setattr("fastpoly._progress.new_bar", new_bar)
    with bar() as report:
        report(1, 2)
    assert len(bars) == drawn


def test_help_names_the_commands(tmp_path):
    run = in_a_process("--help", cwd=tmp_path)
    assert run.returncode == 0
    for command in ("demo", "fit", "predict", "backends"):
        assert command in run.stdout
    assert "report" not in run.stdout


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
    assert (tmp_path / "fastpoly-fit" / "fit.json").exists()


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_fit_never_overwrites_its_own_samples(here, link):
    file, out = here / "mse.npy", here if link is None else here / "out"
    samples = np.random.default_rng(0).normal(size=(20, 2))
    np.save(file, samples)
    out.mkdir(exist_ok=True)
    if link is not None:
        getattr(out / "mse.npy", link)(file)
    assert told_in_a_line(
        invoke("fit", file, "--steps", 10, "--out", out), "--out", "would overwrite", "choose another"
    )
    assert np.array_equal(np.load(file), samples)
    assert not (out / "fit.json").exists()


def test_links_in_the_folder_are_replaced_and_not_followed(here, csv):
    (here / "elsewhere").write_text("dear")
    (here / "out").mkdir()
    for name in ("fit.json", "mse.npy", "fit.png", "mse.png"):
        (here / "out" / name).symlink_to(here / "elsewhere")
    assert invoke("fit", csv, "--steps", 10, "--out", here / "out").exit_code == 0
    assert (here / "elsewhere").read_text() == "dear"
    assert sorted(path.name for path in (here / "out").iterdir()) == ["fit.json", "fit.png", "mse.npy", "mse.png"]
    assert not any(path.is_symlink() for path in (here / "out").iterdir())


@pytest.mark.parametrize("words", [(), ("results.json", "--out", "page.html")])
def test_the_report_is_made_elsewhere(here, words):
    assert told_in_a_line(invoke("report", *words), "made by `make report`, in a checkout")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--domain", "1"),
        ("--domain", "2,1"),
        ("--domain", "nan,1"),
        ("--ridge", "a"),
        ("--steps", "1_000"),
        ("--steps", "\u0661\u0662"),
        ("--learn-rate", "1_0e-3"),
        ("--degree", "1_0"),
    ],
)
def test_numbers_are_written_as_everybody_writes_them(here, csv, option, value):
    run = invoke("fit", csv, option, value)
    assert run.exit_code == 2
    assert "is not a valid" in run.stderr
    assert not (here / "fastpoly-fit").exists()


@pytest.mark.parametrize("cell", ["1_000", "\u0661"])
def test_cells_are_written_as_everybody_writes_them(here, cell):
    (here / "a.csv").write_text(f"x,y\n1,2\n{cell},3\n", encoding="utf-8")
    assert told_in_a_line(invoke("fit", "a.csv", "--steps", 10), "line 3, column x:", "is not a number")
