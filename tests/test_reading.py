"""`fastpoly fit` reads the files that people have: what is clear is taken and said, what is not is asked."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reading_files import FILES, ROWS, X, Y, holds, read, refusal, said
from typer.testing import CliRunner

from fastpoly._cli.app import app
from fastpoly._cli.reading import Dates

# -- each of the files
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "wanted", "names", "parts"),
    [
        ("blank_ws.csv", {}, ["x", "y"], ["separator ','"]),
        ("case.csv", {}, ["Time", "Signal"], ["x is 'Time' (column 1), y is 'Signal' (column 2)"]),
        ("comment_end.csv", {}, ["x", "y"], ["1 comment line passed over"]),
        ("latin1.csv", {}, ["Temp (°C)", "y"], ["encoding cp1252"]),
        ("semicolon.csv", {}, ["x", "y"], ["separator ';'"]),
        ("space.dat", {}, ["x", "y"], ["separator white space"]),
        ("tab.tsv", {}, ["x", "y"], ["separator tab"]),
        ("trailcomma.csv", {}, ["x", "y"], ["separator ','"]),
        ("digilent.csv", {}, ["Time (s)", "Channel 1 (V)"], ["lines 1 to 4 passed over", "names from line 6"]),
        ("digilent.csv", {"skip": 5}, ["Time (s)", "Channel 1 (V)"], ["names from line 6"]),
        (
            "scopy.csv",
            {},
            ["Time(S)", "CH1(V)"],
            ["lines 1 to 3", "'Sample' left out, it counts the rows", "(column 2)"],
        ),
        ("scopy.csv", {"x": "2", "y": ("3",)}, ["Time(S)", "CH1(V)"], ["x is 'Time(S)' (column 2)"]),
        (
            "rigol.csv",
            {},
            ["X (ms)", "CH1 (V)"],
            ["units from line 2", "'Start' left out, nothing is in most of its cells"],
        ),
        ("rigol.csv", {"skip": 2}, ["column 1", "column 2"], ["no header, first row in line 3"]),
        ("keysight.csv", {}, ["x-axis (second)", "TX1 (Volt)"], ["names from line 1, units from line 2"]),
        ("keysight2.csv", {"y": ("1",)}, ["x-axis (second)", "1 (Volt)"], ["y is '1' (column 2)"]),
        ("german.csv", {}, ["Zeit", "Spannung"], ["separator ';', decimal comma"]),
        ("german.csv", {"decimal": ","}, ["Zeit", "Spannung"], ["separator ';'"]),
        ("german3.csv", {"y": ("Spannung",)}, ["Zeit", "Spannung"], ["x is 'Zeit' (column 1)"]),
        (
            "nohead.csv",
            {},
            ["column 1", "column 2"],
            ["no header, first row in line 1", "x is column 1, y is column 2"],
        ),
        ("index.csv", {}, ["x", "y"], ["column 1 left out, it counts the rows"]),
        ("dup.csv", {"x": "1", "y": ("2",)}, ["time", "volt"], ["x is 'time' (column 1), y is 'volt' (column 2)"]),
    ],
)
def test_the_cubic_is_read_and_what_was_taken_is_said(file, wanted, names, parts):
    samples = read(file, **wanted)
    assert holds(samples)
    assert [column.label for column in (samples.x, *samples.ys)] == names
    for part in parts:
        assert part in said(samples)


@pytest.mark.parametrize(
    ("file", "x", "unit", "origin"),
    [
        ("dates.csv", np.arange(20.0), "days", "2020-01-01"),
        ("datetimes.csv", 60 * np.arange(20.0), "seconds", "2020-01-01T00:00:00Z"),
        ("hms.csv", 60 * np.arange(20.0), "seconds", "00:00:00"),
    ],
)
def test_dates_are_counted_from_the_first(file, x, unit, origin):
    samples = read(file)
    assert holds(samples, x)
    assert samples.dates == Dates(origin, unit)
    assert f"x counts {unit} since {origin}" in said(samples)
    mapped = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    np.testing.assert_allclose(np.polyfit(mapped, samples.ys[0].values, 3)[::-1], [1, 2, 0, -1], atol=2e-4)


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("keysight2.csv", ["which column is y: '1' or '2'", "--y 1", "x is 'x-axis'"]),
        ("german3.csv", ["which column is y: 'Spannung' or 'Strom'", "--y Spannung"]),
        ("dup.csv", ["2 columns are named 'time'", "--x 1 --y 2"]),
        ("units_suffix.csv", ["line 2, column x: '-1.0000 s' carries a unit; write -1.0000"]),
        ("percent.csv", ["line 2, column y: '0.0000%' is a percentage", "hundredth"]),
        ("thousands.csv", ["line 2, column x: '1,000' has its thousands marked; write it as 1000", "--decimal ,"]),
        ("missing.csv", ["line 7, column y: is empty; --nan omit"]),
        ("na.csv", ["line 7, column y: 'NA' is no number to fit; --nan omit"]),
        ("infcell.csv", ["line 2, column y: 'inf' is no number to fit; --nan omit"]),
        ("garbage.npy", ["garbage.npy: is not a numpy file"]),
    ],
)
def test_what_is_not_clear_is_asked_or_refused_with_a_way_out(file, parts):
    told = refusal(file)
    assert str(FILES / file) in told
    for part in parts:
        assert part in told


@pytest.mark.parametrize("file", ["missing.csv", "na.csv"])
def test_a_sample_that_lacks_something_can_be_left_out(file):
    samples = read(file, nan="omit")
    ((_, x, y),) = samples.pairs()
    keep = np.arange(20) != 5
    np.testing.assert_array_equal(x, X[keep])
    np.testing.assert_array_equal(y, Y[keep])
    assert "1 of 20 samples left out" in said(samples)


def test_rows_of_two_are_taken_as_columns():
    samples = read("rows.npy")
    np.testing.assert_allclose(samples.ys[0].values, Y, atol=1e-4)
    assert "its 2 rows are taken as x and y, for the shape is (2, 20)" in said(samples)


# -- the command
# ---------------------------------------------------------------------------------------------------------------


def invoke(*words, **options):
    return CliRunner().invoke(app, [str(word) for word in words], **options)


FITTED = ("--degree", 3, "--steps", "2e5", "--learn-rate", "0.1", "--no-picture")


@pytest.mark.parametrize("file", ["latin1.csv", "german.csv", "scopy.csv", "rigol.csv", "tab.tsv", "nohead.csv"])
def test_the_command_fits_the_cubic_and_says_what_it_read(made, file):
    run = invoke("fit", FILES / file, *FITTED)
    assert run.exit_code == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout.splitlines()[0].startswith(f"fastpoly: {FILES / file}: ")
    assert run.stdout.splitlines()[0].endswith("; 20 samples")
    written = json.loads(Path("fastpoly-fit/fit.json").read_text())
    assert written["weights"] == pytest.approx([1, 2, 0, -1], abs=2e-4)
    assert written["final_mse"] == pytest.approx(7.8e-10, rel=0.02)
    assert written["file"]["said"] == list(read(file).said)


def test_a_date_is_kept_in_the_result(made):
    assert invoke("fit", FILES / "dates.csv", "--degree", 1, "--steps", 10, "--no-picture").exit_code == 0
    written = json.loads(Path("fastpoly-fit/fit.json").read_text())
    told = written["file"]
    assert told["dates"] == {"origin": "2020-01-01", "unit": "days", "form": "year-month-day"}
    assert told["x"] == {"name": "date", "column": 1, "unit": "days since 2020-01-01", "least": 0.0, "largest": 19.0}


@pytest.mark.parametrize("file", ["keysight2.csv", "missing.csv", "garbage.npy", "dup.csv"])
def test_the_command_refuses_in_a_line_and_makes_no_folder(made, file):
    run = invoke("fit", FILES / file)
    assert run.exit_code == 2
    assert run.stderr.startswith("fastpoly: ")
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""
    assert not Path("fastpoly-fit").exists()


def test_too_few_samples_are_refused(made):
    run = invoke("fit", FILES / "infcell.csv", "--nan", "omit", "--degree", 3)
    assert run.exit_code == 2
    assert "too few samples: degree 3 wants 4, got 1; --degree 0" in run.stderr


def test_each_y_is_fitted_by_itself(made):
    run = invoke("fit", FILES / "german3.csv", "--y", "Spannung", "--y", "Strom", *FITTED)
    assert run.exit_code == 0, run.stderr
    for name, weights in (("Spannung", [1, 2, 0, -1]), ("Strom", [0.5, 0, 0, 0])):
        written = json.loads(Path(f"fastpoly-fit/{name}/fit.json").read_text())
        assert written["weights"] == pytest.approx(weights, abs=2e-4)
        assert written["file"]["y"]["name"] == name


def test_names_of_columns_are_never_paths(made):
    file = made(["t,../../a,../../A,", *[f"{i},{i},{i}," for i in range(9)]])
    run = invoke("fit", file, "--y", "../../a", "--y", "../../A", "--steps", 10, "--no-picture")
    assert run.exit_code == 0, run.stderr
    assert sorted(path.name for path in Path("fastpoly-fit").iterdir()) == ["A-2", "a"]


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_read(made, packed):
    content = (FILES / "tab.tsv").read_bytes()
    run = invoke("fit", "-", *FITTED, input=gzip.compress(content) if packed else content)
    assert run.exit_code == 0, run.stderr
    assert "fastpoly: standard input: separator tab" in run.stdout
    assert json.loads(Path("fastpoly-fit/fit.json").read_text())["weights"][1] == pytest.approx(2, abs=1e-3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_but_once(made):
    os.mkfifo("pipe")
    command = [sys.executable, "-m", "fastpoly", "fit", "pipe", *map(str, FITTED)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        Path("pipe").write_bytes((FILES / "german.csv").read_bytes())
        told, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert "20 samples" in told


def test_what_is_replaced_is_told_and_what_is_old_too(made):
    file = made(["x,y", *ROWS])
    assert "wrote fastpoly-fit/fit.json, fastpoly-fit/mse.npy, fastpoly-fit/fit.png, fastpoly-fit/mse.png" in invoke(
        "fit", file, "--steps", 10
    ).stdout.replace("\\", "/")
    again = invoke("fit", file, "--steps", 10, "--no-picture").stdout.replace("\\", "/")
    assert "replaced fastpoly-fit/fit.json, fastpoly-fit/mse.npy" in again
    assert "fastpoly-fit/fit.png is of an earlier run" in again


def test_a_fit_needs_no_torch_and_no_pandas_and_without_a_picture_no_matplotlib(tmp_path):
    code = (
        "import sys; from fastpoly._cli.app import app\n"
        f"app(['fit', {str(FILES / 'case.csv')!r}, '--steps', '10', '--no-picture'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert not {"torch", "pandas", "matplotlib"} & set(run.stdout.split())


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", ["demo", "fit", "predict", "profile", "backends", "cache"])
def test_every_help_page_has_an_example(command, option):
    run = invoke(command, option)
    assert run.exit_code == 0
    assert f"fastpoly {command}" in run.stdout.partition("Example")[2]


def test_help_shows_what_stands_in_brackets():
    told = " ".join(invoke("fit", "--help").stdout.split())
    for default in ("[default: the first of two]", "[default: the other]", "[default: 4]", "[default: found]"):
        assert default in told


def test_the_version_is_told():
    import fastpoly

    assert invoke("--version").stdout == f"fastpoly {fastpoly.__version__}\n"


@pytest.mark.parametrize("steps", ["1e2", "100", "100.0", "1E+2"])
def test_a_whole_number_may_be_written_as_a_float(made, steps):
    assert invoke("fit", FILES / "case.csv", "--steps", steps, "--no-picture").exit_code == 0
    assert json.loads(Path("fastpoly-fit/fit.json").read_text())["steps"] == 100


@pytest.mark.parametrize("steps", ["1.5", "1e-2", "nan", "inf", "1e999999999", "many"])
def test_other_numbers_are_refused(made, steps):
    run = invoke("fit", FILES / "case.csv", "--steps", steps)
    assert run.exit_code == 2
    assert "is not a valid integer" in run.stderr


def test_auto_stands_for_steps_and_learn_rate(made):
    assert invoke("fit", FILES / "case.csv", "--steps", "auto", "--learn-rate", "auto", "--no-picture").exit_code == 0


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("fit", FILES / "case.csvv"), "did you mean 'case.csv'?"),
        (("fit", FILES / "case.csv", "--x", "Tme"), "did you mean 'Time'?"),
        (("fit", FILES / "digilent.csv", "--x", "time"), "did you mean 'Time (s)'?"),
        (("fit", FILES / "case.csv", "--backend", "numbra"), "did you mean 'numba'?"),
        (("fit", FILES / "case.csv", "--encoding", "utf9"), "did you mean 'utf-8'?"),
        (("fit", FILES / "case.csv", "--learn-rat", 1), "--learn-rate"),
        (("ft",), "Did you mean 'fit'?"),
        (("demo", "--only", "spectrl"), "did you mean 'spectral'?"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(words, meant):
    run = invoke(*words)
    assert run.exit_code == 2
    assert meant in run.stderr
