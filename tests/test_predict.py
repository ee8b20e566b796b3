"""From a file to fit.json and back: what `fastpoly fit` says and keeps, and what `fastpoly predict` makes of it."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from typer.testing import CliRunner

from fastpoly import FitResult, fit
from fastpoly._cli import fit_plots
from fastpoly._cli.app import app
from fastpoly._cli.equation import equation
from fastpoly._cli.told import in_options

FILES = Path(__file__).parent / "files"
PROBLEMS = json.loads((DATA / "useful.json").read_text())
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder, and we are in it; a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def invoke(*words, **options):
    return CliRunner().invoke(app, [str(word) for word in words], **options)


def fitted(*words, picture="--no-picture"):
    """The run, and what it has written."""
    run = invoke("fit", *words, picture)
    assert run.exit_code == 0, run.stderr
    return run, json.loads(Path("fastpoly-fit/fit.json").read_text())


def predicted(*words, **options):
    """The rows of the table that `predict` writes, without the names."""
    run = invoke("predict", *words, **options)
    assert run.exit_code == 0, run.stderr
    rows = list(csv.reader(io.StringIO(run.stdout)))
    assert rows[0] == ["x", "prediction", "lower", "upper"]
    return rows[1:]


def refused(*words, **options):
    """What it says; in a line, with status 2, and nothing on standard output."""
    run = invoke(*words, **options)
    assert run.exit_code == 2, run.stdout
    assert run.stderr.startswith("fastpoly: ")
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""
    return run.stderr


def table(x, y, name="made.csv", names="x,y"):
    Path(name).write_text(f"{names}\n" + "".join(f"{float(a)!r},{float(b)!r}\n" for a, b in zip(x, y, strict=True)))
    return name


YEARS = np.arange(1990.0, 2021.0)
LEVELS = np.round(np.sin((YEARS - 1990) / 6) + 0.05 * np.cos(9 * YEARS), 4)


# -- fit, with nothing but a degree
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS, ids=[problem["name"] for problem in PROBLEMS])
def test_public_problems_are_useful_from_the_command_line(problem):
    x, y = problem["x"], problem["y"]
    run, written = fitted(table(x, y), "--degree", problem["degree"])
    assert run.stderr == ""  # a warning that misleads is as bad as none that helps
    result = FitResult.load("fastpoly-fit/fit.json")
    mse = np.mean((np.array(y) - result.predict(np.array(x))) ** 2)
    assert mse <= 1.01 * problem["least_squares_mse"] + 1e-6 * problem["variance"]
    assert written["converged"] is True
    assert "converged   yes\n" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80
    expected = result.predict(np.array(x))
    assert by_the_equation(run.stdout, np.array(x)) == pytest.approx(expected, abs=2e-5 * np.abs(expected).max())


def by_the_equation(told, x):
    """What a person gets who types the printed equation in."""
    told = re.sub(r"\n {12}", " ", told)
    parts = dict(re.findall(r"^([yt]) +(.*)$", told, re.MULTILINE))
    code = {name: re.sub(r"(\d) ([xt])", r"\1 * \2", part).replace("^", "**") for name, part in parts.items()}
    t = eval(code["t"], {"x": x}) if "t" in code else None
    return eval(code["y"], {"x": x, "t": t}) + 0 * x


def test_it_says_what_it_did_and_how_good_that_is():
    run, written = fitted(table(YEARS, LEVELS, names="year,level (m)"), "--degree", 3)
    result = fit(YEARS, LEVELS, 3)
    told = " ".join(run.stdout.split())
    assert "x is 'year' (column 1), y is 'level (m)' (column 2); 31 samples" in told
    assert f"mse {result.final_mse:.6g}; least squares has {result.least_squares_mse:.6g}" in told
    assert f"R squared {result.r_squared:.6g} learn rate {result.learn_rate:.6g}, chosen" in told
    assert f"steps {result.steps:,}, chosen converged yes run spectral, double," in told
    assert "t (x - 2005) / 15" in told  # powers of the year lose digits
    assert "raw_weights" not in written
    assert written["weights"] == result.weights.tolist()
    assert "mse" not in written
    assert written["file"]["n"] == 31
    assert written["file"]["y"] == {"name": "level (m)", "column": 2, "unit": "m"}


def test_weights_of_x_are_kept_where_they_lose_no_digits():
    x = np.linspace(2, 4, 30)
    _, written = fitted(table(x, np.exp(x)), "--degree", 2)
    result = fit(x, np.exp(x), 2)
    assert written["raw_weights"] == result.raw_weights.tolist()
    assert written["raw_standard_errors"] == result.raw_standard_errors.tolist()


def test_a_run_that_ends_too_early_is_told_in_a_line_and_is_no_failure():
    run = invoke("fit", table(YEARS, LEVELS), "--degree", 3, "--steps", 20, "--no-picture")
    assert run.exit_code == 0
    assert run.stderr.startswith("fastpoly: ended far from the minimum: ")
    assert run.stderr.count("\n") == 1
    assert "leave out --steps, which are chosen then" in run.stderr
    assert re.search(r"converged   no; [\d,]+ more steps at this learn rate get there", run.stdout)


def test_divergence_is_told_by_the_names_of_options():
    run = invoke("fit", table(YEARS, LEVELS), "--domain", "none", "--learn-rate", "1e-5", "--no-picture")
    assert run.exit_code == 1
    assert "or leave out --domain and --learn-rate" in run.stderr
    assert "converged   no, diverged at step" in run.stdout
    assert re.search(r"steps       \d+ of 10,000, chosen", run.stdout)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("steps: wants 1", "--steps: wants 1"),
        (
            "leave out domain, steps and learn_rate: with 5 steps",
            "leave out --domain, --steps and --learn-rate: with 5",
        ),
        ("degree 3 gets there; learn_rate 1 is", "degree 3 gets there; --learn-rate 1 is"),
        ("sample_weight: wants 0", "--weight: wants 0"),
        ("no such file: steps: 1", "no such file: steps: 1"),
    ],
)
def test_arguments_have_the_names_of_options(said, told):
    assert in_options(said).startswith(told)


def test_sigma_weight_and_ridge_are_those_of_fit():
    rng = np.random.default_rng(3)
    x, sigma, weight = np.linspace(0, 2, 40), rng.uniform(0.5, 2, 40), rng.integers(0, 3, 40)
    y = x**2 + rng.normal(size=40) * sigma
    rows = zip(*(column.tolist() for column in (x, y, sigma, weight)), strict=True)
    Path("made.csv").write_text("t,v,sd,w\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows))
    run, written = fitted("made.csv", "--sigma", "sd", "--weight", "w", "--ridge", "0,0.1,0.1", "--degree", 2)
    expected = fit(x, y, 2, sigma=sigma, sample_weight=weight, ridge=[0, 0.1, 0.1])
    assert written["weights"] == pytest.approx(expected.weights, rel=1e-12)
    assert "sigma is 'sd' (column 3); weight is 'w' (column 4)" in " ".join(run.stdout.split())
    assert written["file"]["n"] == np.count_nonzero(weight)
    assert invoke("fit", "made.csv", "--sigma", "sd", "--weight", "w", "--degree", 2).exit_code == 0  # with a picture


def test_a_missing_sigma_is_left_out_with_its_sample():
    Path("made.csv").write_text("x,y,s\n1,1,1\n2,2,\n3,3,1\n4,4,1\n")
    assert "line 3, column s: is empty" in refused("fit", "made.csv", "--sigma", "s", "--degree", 1)
    run, written = fitted("made.csv", "--sigma", "s", "--degree", 1, "--nan", "omit")
    assert "1 of 4 samples left out" in run.stdout
    assert written["file"]["n"] == 3


def test_names_are_never_styles():
    run, _ = fitted(table([0, 1, 2], [0, 1, 4], names="[red]x[/],[/bold]"), "--degree", 1)
    assert "x is '[red]x[/]' (column 1), y is '[/bold]' (column 2)" in " ".join(run.stdout.split())


def test_a_fit_imports_nothing_that_it_does_not_need():
    code = (
        "import sys; from fastpoly._cli.app import app\n"
        f"app(['fit', {str(FILES / 'case.csv')!r}, '--no-picture'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not {"torch", "numba", "pandas", "matplotlib", "rich", "numpy.ma"} & loaded


# -- predict
# ---------------------------------------------------------------------------------------------------------------


KINDS = """blank_ws.csv case.csv latin1.csv semicolon.csv german.csv nohead.csv index.csv rigol.csv scopy.csv
keysight.csv space.dat tab.tsv rows.npy dates.csv datetimes.csv hms.csv"""


@pytest.mark.parametrize("file", KINDS.split())
def test_each_kind_of_file_is_predicted_as_it_was_fitted(file):
    _, written = fitted(FILES / file, "--degree", 3)
    result = FitResult.load("fastpoly-fit/fit.json")
    rows = predicted("fastpoly-fit/fit.json", FILES / file)
    if written["file"]["dates"]:
        assert rows[0][0] == written["file"]["dates"]["origin"]
        x = np.arange(20.0) * (1 if file == "dates.csv" else 60)
    else:
        x = np.array([float(row[0]) for row in rows])
    lower, upper = result.prediction_band(x, 0.95)
    numbers = np.array([[float(cell) for cell in row[1:]] for row in rows])
    np.testing.assert_array_equal(numbers, np.stack([result.predict(x), lower, upper], 1))
    t = np.linspace(-1, 1, 20)
    assert numbers[:, 0] == pytest.approx(1 + 2 * t - t**3, abs=2e-4)


def test_archives_arrays_and_packed_files_are_predicted_too():
    x = np.linspace(0, 2, 9)
    np.savez("a.npz", t=x, v=x**2)
    fitted("a.npz", "--x", "t", "--y", "v", "--degree", 2)
    expected = [float(row[1]) for row in predicted("fastpoly-fit/fit.json", "a.npz")]
    assert expected == pytest.approx(x**2, abs=1e-6)
    np.save("x.npy", x)
    assert [float(row[1]) for row in predicted("fastpoly-fit/fit.json", "x.npy", "--x", 0)] == expected
    packed = gzip.compress(b"t\n" + b"".join(b"%r\n" % value for value in x.tolist()))
    assert [float(row[1]) for row in predicted("fastpoly-fit/fit.json", "-", input=packed)] == expected


def test_dates_are_counted_from_the_origin_of_the_fit():
    fitted(FILES / "dates.csv", "--degree", 3)
    result = FitResult.load("fastpoly-fit/fit.json")
    for cells in (
        ["2020-01-11", "2020-01-04"],
        ["11.01.2020", "4.1.2020"],
        ["2020-01-11 00:00", "2020-01-04T00:00:00"],
    ):
        Path("new.csv").write_text("date\n" + "".join(f"{cell}\n" for cell in cells))
        rows = predicted("fastpoly-fit/fit.json", "new.csv")
        assert [row[0] for row in rows] == cells
        assert [float(row[1]) for row in rows] == result.predict(np.array([10.0, 3.0])).tolist()
    Path("new.csv").write_text("date\n2020-01-01 12:00\n")
    assert float(predicted("fastpoly-fit/fit.json", "new.csv")[0][1]) == result.predict(0.5)


def test_what_two_formats_may_mean_is_what_the_fit_s_meant():
    days = [f"{day:02}/02/2020" for day in range(10, 20)]
    Path("made.csv").write_text("d,v\n" + "".join(f"{day},{i}\n" for i, day in enumerate(days)))
    fitted("made.csv", "--degree", 1)
    Path("new.csv").write_text("d\n01/03/2020\n02/03/2020\n")  # may be in January and in February
    rows = predicted("fastpoly-fit/fit.json", "new.csv")
    assert [float(row[1]) for row in rows] == pytest.approx([20, 21])


@pytest.mark.parametrize(
    ("fitted_to", "content", "words", "parts"),
    [
        (
            "case.csv",
            "time,v\n1,2\n2,3\n",
            [],
            ["which column is x: the fit's is 'Time'", "'time' and 'v'", "--x time"],
        ),
        ("case.csv", "1\n2\n", [], ["the fit's is 'Time', and here is column 1? Name it, as in --x 1"]),
        ("case.csv", "a,Time,Time\n1,2,3\n4,5,6\n", [], ["2 columns are named 'Time'", "--x: 2 or 3"]),
        ("case.csv", "Time\n2020-01-01\n2020-01-02\n", [], ["'Time' holds dates, and the fit's x is numbers"]),
        ("case.csv", "Time\n1\nNA\n", [], ["line 3, column Time: 'NA' is no number", "--nan omit"]),
        ("case.csv", "Time\nNA\nNA\n1\n", ["--x", "Tme"], ["--x: no column 'Tme'", "did you mean 'Time'?"]),
        ("nohead.csv", "a,b\n1,2\n2,3\n", [], ["the fit's is a column without a name", "--x a"]),
        ("dates.csv", "date\n1\n2\n", [], ["'date' holds no dates", "write them as '2020-01-01'"]),
        ("dates.csv", "date\n00:00:01\n00:00:02\n", [], ["counts from '2020-01-01'", "hours:minutes:seconds"]),
        ("datetimes.csv", "time\n2020-01-01T00:00\n", ["--x", "1"], ["only one of them tells its time zone"]),
        ("keysight.csv", "x-axis,1\nms,V\n1,2\n2,3\n", [], ["is in ms, and the fit's x in second; write it in second"]),
        ("case.csv", "Time\n1\n", ["--band", "95"], ["--band: wants a number between 0 and 1, got 95; 0.95"]),
        ("case.csv", "Time\n1\n", ["--skip", "-1"], ["--skip: wants an integer >= 0"]),
        ("case.csv", "", [], ["new.csv: is empty"]),
    ],
)
def test_what_does_not_fit_is_refused_or_asked(fitted_to, content, words, parts):
    fitted(FILES / fitted_to, "--degree", 1)
    Path("new.csv").write_text(content)
    told = refused("predict", "fastpoly-fit/fit.json", "new.csv", *words, "--out", "p.csv", "--picture", "p.png")
    for part in parts:
        assert part in told
    assert not Path("p.csv").exists()
    assert not Path("p.png").exists()


def test_what_is_no_fit_is_refused():
    table(YEARS, LEVELS)
    assert "did you mean 'made.csv'?" in refused("predict", "mad.csv", "made.csv")
    assert "made.csv: is no fit.json" in refused("predict", "made.csv", "made.csv")
    Path("other.json").write_text('{"format": "other"}')
    assert "wants a fit that was saved as 'fastpoly fit 1', got 'other'" in refused("predict", "other.json", "made.csv")
    fitted("made.csv", "--degree", 1)
    content = json.loads(Path("fastpoly-fit/fit.json").read_text())
    del content["file"]["x"]["least"]
    Path("other.json").write_text(json.dumps(content))
    assert "something is missing or wrong: KeyError('least')" in refused("predict", "other.json", "made.csv")
    invoke("fit", "made.csv", "--domain", "none", "--learn-rate", 1, "--no-picture")
    assert "is of a run that diverged" in refused("predict", "fastpoly-fit/fit.json", "made.csv")


def test_what_python_has_saved_is_predicted():
    result = fit(YEARS, LEVELS, 3)
    result.save("saved.json")
    table(YEARS, LEVELS)
    assert "which column is x: the fit's is a column without a name" in refused("predict", "saved.json", "made.csv")
    rows = predicted("saved.json", "made.csv", "--x", "x")
    assert [float(row[1]) for row in rows] == result.predict(YEARS).tolist()


def test_the_table_goes_to_standard_output_and_what_is_said_to_standard_error():
    fitted(table(YEARS, LEVELS), "--degree", 3)
    run = invoke("predict", "fastpoly-fit/fit.json", "made.csv", "--band", "0.5")
    assert len(run.stdout.splitlines()) == 32
    assert run.stderr.startswith("fastpoly: made.csv: separator ','; names from line 1; x is 'x' (column 1)")
    run = invoke("predict", "fastpoly-fit/fit.json", "made.csv", "--out", "new/p.csv", "--band", "0.5")
    assert run.stderr == ""
    assert "wrote new/p.csv" in run.stdout.replace("\\", "/")
    rows = np.loadtxt("new/p.csv", delimiter=",", skiprows=1)
    result = FitResult.load("fastpoly-fit/fit.json")
    np.testing.assert_array_equal(rows[:, 2:].T, result.prediction_band(YEARS, 0.5))
    assert "replaced new/p.csv" in invoke(
        "predict", "fastpoly-fit/fit.json", "made.csv", "--out", "new/p.csv"
    ).stdout.replace("\\", "/")


def test_what_a_reader_of_the_numbers_should_know_is_said():
    invoke("fit", table(YEARS, LEVELS), "--degree", 3, "--steps", 20, "--no-picture")
    Path("new.csv").write_text("x\n1980\n2000\n")
    told = " ".join(invoke("predict", "fastpoly-fit/fit.json", "new.csv").stderr.split())
    assert "fastpoly: fastpoly-fit/fit.json: had not converged: its mse is" in told.replace("\\", "/")
    assert "fastpoly: 1 of 2 x lie outside of the fit's samples, 1990 to 2020" in told
    fitted(table([1, 2, 3], [1, 4, 9]), "--degree", 2)
    run = invoke("predict", "fastpoly-fit/fit.json", "made.csv")
    assert "has no more samples than weights, and so no band" in " ".join(run.stderr.split())
    assert [row[2:] for row in csv.reader(io.StringIO(run.stdout))][1:] == [["", ""]] * 3


def test_with_sigma_the_band_is_of_the_curve():
    Path("made.csv").write_text("x,y,s\n" + "".join(f"{i},{i * i + i % 2},0.01\n" for i in range(9)))
    fitted("made.csv", "--sigma", "s", "--degree", 2)
    run = invoke("predict", "fastpoly-fit/fit.json", "made.csv")
    assert "lower and upper are of the curve, not of new ones" in " ".join(run.stderr.split())
    rows = np.loadtxt(io.StringIO(run.stdout), delimiter=",", skiprows=1)
    result = FitResult.load("fastpoly-fit/fit.json")
    np.testing.assert_array_equal(rows[:, 2:].T, result.confidence_band(np.arange(9.0)))


@pytest.mark.parametrize("option", ["--out", "--picture"])
def test_predict_never_overwrites_what_it_reads(option):
    fitted(table(YEARS, LEVELS), "--degree", 1)
    for target in ("made.csv", "fastpoly-fit/fit.json"):
        before = Path(target).read_bytes()
        told = refused("predict", "fastpoly-fit/fit.json", "made.csv", option, target)
        assert f"{option}: " in told
        assert "would overwrite" in told
        assert Path(target).read_bytes() == before
    told = refused("predict", "fastpoly-fit/fit.json", "made.csv", "--out", "p.png", "--picture", "p.png")
    assert "--picture: p.png is where --out goes" in told
    assert f"{option}: . is a folder" in refused("predict", "fastpoly-fit/fit.json", "made.csv", option, ".")


def test_a_picture_that_cannot_be_drawn_is_told_before_anything_is_written(monkeypatch):
    fitted(table(YEARS, LEVELS), "--degree", 1)
    words = ("predict", "fastpoly-fit/fit.json", "made.csv", "--out", "p.csv", "--picture")
    assert "--picture: wants a name that ends in .png, .svg, .pdf, .jpg, got 'p.xyz'" in refused(*words, "p.xyz")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = invoke(*words, "p.png")
    assert run.exit_code == 2
    assert run.stderr == "fastpoly: pictures need matplotlib; pip install 'fastpoly[plot]'\n"
    assert not Path("p.csv").exists()


# -- pictures
# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn."""
    drawn = []
    saved = fit_plots.saved
    monkeypatch.setattr(fit_plots, "saved", lambda figure, path: (drawn.append(figure), saved(figure, path))[1])
    return drawn


def pictures(*words, status=0):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = invoke("fit", *words)
    assert run.exit_code == status, run.stderr
    for name in ("fit.png", "mse.png"):
        assert Path("fastpoly-fit", name).read_bytes().startswith(PNG)


def test_a_picture_has_names_units_equation_and_residuals(figures):
    pictures(table(YEARS, LEVELS, names='"year $a$","level (m)"'), "--degree", 3)
    upper, lower = figures[0].axes
    assert upper.get_ylabel() == "level (m)"
    assert lower.get_xlabel() == "year $a$"
    assert lower.get_ylabel() == "residual"
    title = upper.get_title(loc="left")
    assert title.startswith("y = ")
    assert "t = (x - 2005) / 15" in title
    assert "R² = " in title
    assert not any(line.get_label() == "least squares" for line in upper.lines)
    assert any(line.get_label().startswith("least squares") for line in figures[1].axes[0].lines)


def test_a_run_that_has_not_converged_is_drawn_beside_least_squares(figures):
    pictures(table(YEARS, LEVELS), "--degree", 3, "--steps", 20)
    best = next(line for line in figures[0].axes[0].lines if line.get_label() == "least squares")
    expected = np.polynomial.Polynomial.fit(YEARS, LEVELS, 3)
    assert best.get_ydata() == pytest.approx(expected(best.get_xdata()), abs=1e-9)


def test_a_diverged_fit_stays_in_the_range_of_the_samples_and_says_so(figures):
    pictures(table(YEARS, LEVELS), "--domain", "none", "--learn-rate", "1e-5", status=1)
    (axes,) = figures[0].axes
    low, high = axes.get_ylim()
    assert LEVELS.min() - 1 < low < high < LEVELS.max() + 1
    assert axes.get_title(loc="left").startswith("diverged at step 8")


def test_many_samples_are_a_density_and_one_is_a_point(figures):
    rng = np.random.default_rng(0)
    x = rng.normal(size=50_000)
    np.save("many.npy", np.stack([x, x**3 + rng.normal(size=x.size)], 1))
    pictures("many.npy")
    assert all(len(axes.lines[0].get_xdata()) < 1000 for axes in figures[0].axes)
    assert all(axes.collections for axes in figures[0].axes)
    pictures(table([3], [5]), "--degree", 0)
    points = figures[2].axes[0].lines[0]
    assert (points.get_xdata().tolist(), points.get_ydata().tolist()) == ([3], [5])


def test_dates_and_long_names_stand_at_the_axes(figures):
    pictures(FILES / "dates.csv", "--degree", 3)
    assert figures[0].axes[1].get_xlabel() == "date (days since 2020-01-01)"
    name = "Voltage between the second and the third electrode, filtered by the low pass of the amplifier (mV)"
    Path("made.csv").write_text(f'x,"{name}"\n' + "".join(f"{i},{i}\n" for i in range(9)))
    pictures("made.csv", "--degree", 1)
    label = figures[2].axes[0].get_ylabel()
    assert label.endswith("… (mV)")
    assert label.count("\n") == 1


@pytest.mark.parametrize("content", ["x\n1980\n2030\n", "x\n2000\n"])
def test_a_band_is_drawn(content, figures):
    fitted(table(YEARS, LEVELS), "--degree", 3)
    Path("new.csv").write_text(content)
    run = invoke("predict", "fastpoly-fit/fit.json", "new.csv", "--picture", "band.png")
    assert run.exit_code == 0
    assert "wrote band.png" in run.stderr
    assert Path("band.png").read_bytes().startswith(PNG)
    legend = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert "95 % band of a new sample" in legend


def test_an_equation_of_nothing_is_nothing():
    assert equation(fit([0.0, 1.0], [0.0, 0.0], 1), (0, 1)).terms == ["0"]


def test_nothing_is_left_of_a_picture_that_fails(monkeypatch):
    monkeypatch.setattr(fit_plots, "new_figure", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    assert invoke("fit", table(YEARS, LEVELS)).exit_code == 2
    assert sorted(path.name for path in Path("fastpoly-fit").iterdir()) == ["fit.json", "mse.npy"]
