"""Text of every kind, by numpy's own reader and cell by cell; .npy and .npz."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_files import ROWS, holds, refusal, said

from fastpoly._cli.reading import Samples, Wanted, read_samples, text

# -- text of every kind
# ---------------------------------------------------------------------------------------------------------------


def swapped(lines, separator, decimal="."):
    return [line.replace(",", separator).replace(".", decimal) for line in lines]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        pytest.param(["x,y", *ROWS], "utf-8-sig", id="byte order mark"),
        pytest.param(swapped(["x,y", *ROWS], "\t"), "utf-16", id="utf-16"),
        pytest.param("\r\n".join(["x,y", *ROWS]), "utf-8", id="Windows, no last line end"),
        pytest.param("\r".join(["x,y", *ROWS]), "utf-8", id="old Mac"),
        pytest.param(['"x","y"', *['"' + row.replace(",", '","') + '"' for row in ROWS]], "utf-8", id="all quoted"),
        pytest.param(
            ['"x","y"', *['"' + row.replace(",", '","').replace(".", ",") + '"' for row in ROWS]],
            "utf-8",
            id="quoted decimal commas",
        ),
        pytest.param(swapped(["x,y", *ROWS], "|"), "utf-8", id="bars"),
        pytest.param(swapped(["x,y", *ROWS], ", "), "utf-8", id="comma and space"),
        pytest.param(swapped(["x,y", *ROWS], "   ", ","), "utf-8", id="spaces and decimal commas"),
        pytest.param(swapped(["x,y", *ROWS], "\t", ","), "utf-8", id="tabs and decimal commas"),
        pytest.param(["x,y,label", *[f"{row},run 1" for row in ROWS]], "utf-8", id="a label"),
        pytest.param(["name,x,y", *[f"s{i},{row}" for i, row in enumerate(ROWS)]], "utf-8", id="a label first"),
        pytest.param(["x,y,note", *[f'{row},"a,\nb"' for row in ROWS]], "utf-8", id="a note of two lines"),
        pytest.param(['"x\n(s)","y\n(V)"', *ROWS], "utf-8", id="names of two lines"),
        pytest.param(["# x y", *swapped(ROWS, " ")], "utf-8", id="np.savetxt"),
        pytest.param(["A title of it", "x y", *swapped(ROWS, " ")], "utf-8", id="a title"),
        pytest.param(['"x" "y"', *[f'"{i + 1}" {r}' for i, r in enumerate(swapped(ROWS, " "))]], "utf-8", id="R"),
        pytest.param(["x,y,,", *[f"{row},," for row in ROWS], ",,,", ",,,"], "utf-8", id="Excel's empty cells"),
        pytest.param(["a,x,y", *[f",{row}" for row in ROWS]], "utf-8", id="an empty column first"),
        pytest.param(["Device,A", "Rate,1000", "Time,Volt", "s,V", *ROWS], "utf-8", id="a preamble in columns"),
        pytest.param(["% a", "x,y", "# b", *ROWS[:9], "// c", "", *ROWS[9:]], "utf-8", id="comments everywhere"),
        pytest.param(["x,y", *ROWS, "", "  "], "utf-8", id="blank lines after it"),
        pytest.param(["sep=;", *swapped(["x,y", *ROWS], ";")], "utf-8", id="Excel's own line"),
        pytest.param(["Time,A", "(ms),(V)", "", *ROWS], "utf-8", id="a blank line below the units"),
        pytest.param(["#,x,y", *[f"{i},{row}" for i, row in enumerate(ROWS)]], "utf-8", id="a counter named #"),
        pytest.param(["# t v", "# s mV", *swapped(ROWS, " ")], "utf-8", id="names and units in comments"),
        pytest.param(["! of a tool", "; and more, of, it", *ROWS], "utf-8", id="comments of other tools"),
        pytest.param(
            [f"{key},,{row}," for key, row in zip(["Length,9", "Scale,2", *[","] * 18], ROWS, strict=True)],
            "utf-8",
            id="a preamble beside the samples",
        ),
        pytest.param(
            ["x,y," + ",".join(f"n{i:050}" for i in range(2000)), *[row + ",a" * 2000 for row in ROWS]],
            "utf-8",
            id="many long names",
        ),
        pytest.param([row.replace("-", "\u2212") for row in ["x,y", *ROWS]], "utf-8", id="minus signs of print"),
        pytest.param(["x,y,l", *[f"{row},\u00b5" for row in ROWS]], "latin-1", id="labels in latin-1"),
    ],
)
def test_text_is_read_however_it_is_written(made, content, encoding):
    assert holds(read_samples(made(content, encoding=encoding), Wanted()))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["is empty"]),
        (b"\x00\x01\x02\x03", ["is not text"]),
        (b"PK\x03\x04", ["made.csv: is not a numpy file"]),
        (b"\x1f\x8b123", ["damaged gzip"]),
        (["x,y", *ROWS[:4], "1.0"], ["line 6 has 1 cell where line 2 has 2; --nan omit"]),
        (["x,y", *ROWS[:4], "1.0,2.0,3.0"], ["line 6 has 3 cells where line 2 has 2"]),
        (["x,y", *ROWS, "mean,1.0"], ["line 22, column x: 'mean' is not a number", "--comment"]),
        (["x,y", "abc,1.0", *ROWS], ["line 2, column x: 'abc' is not a number"]),
        (["abc,1.0", *ROWS], ["line 1, column 1: 'abc' is not a number"]),
        (["x,y", "NA,NA", *ROWS], ["line 2, column x: 'NA' is no number"]),
        (["x,y", *[f"{i},000,{i}" for i in range(1, 9)]], ["line 1 has 2 names where line 2 has 3 cells", "--skip 1"]),
        (["Spannung", *[f"{i},5" for i in range(9)]], ["line 1 has 1 name where line 2 has 2 cells"]),
        (["x;y", *[f"{i},000;{i},500" for i in range(1, 9)]], ["'1,000' may be 1000 or 1.000", "--decimal , or ."]),
        (["x;y", *swapped(ROWS[:5], ";", ","), "1.5;2,5"], ["line 7, column x: '1.5'", "--decimal ."]),
        (["x,y", *ROWS[:5], '"1,5",2'], ["line 7, column x: '1,5'", "--decimal ,"]),
        (["y,x", *ROWS], ["which column is x: 'y' comes first, but 'x' may be meant", "--x x --y y"]),
        (["v,date", *[f"{i},2020-01-0{i}" for i in range(1, 9)]], ["--x date --y v, or the other way round"]),
        (["a,time,b", *[f"{row},1" for row in ROWS]], ["which columns are x and y", "'a', 'time' or 'b'"]),
        (["x,y,yerr", *[f"{row},1" for row in ROWS]], ["which column is y: 'y' or 'yerr'", "--y y"]),
        (["Date,Time,v", *[f"2020-01-01,00:0{i}:00,{i}" for i in range(9)]], ["'Date', 'Time' or 'v'"]),
        (["d,v", *[f"0{i}/02/2020,{i}" for i in range(1, 9)]], ["may be day/month/year or month/day/year"]),
        (["t,v", "23:59:59,1", "00:00:00,2", "00:00:01,3"], ["line 3, column t: '00:00:00' goes back", "dates too"]),
        (["t,v", "2020-01-01T00:00Z,1", "2020-01-01T00:01,2"], ["line 3", "tells its time zone"]),
        (["t,v", "2020-01-01,1", "2020-01-02,2", "x,3"], ["line 4, column t: 'x' is not a date"]),
        (["t,v", "2020-01-01,1", "2020-02-30,2", "2020-03-01,3"], ["line 3, column t: '2020-02-30' is not a date"]),
        (["x,y", "1e999,1", "2,2"], ["line 2, column x: '1e999' is beyond"]),
        (["x,y", "1D2,1", "2D2,2"], ["line 2, column x: '1D2' has an exponent as Fortran", "write 1e2"]),
        (["x,y,n", '1,2,"a', *["3,4,b"] * 20_000], ["line 2: ", "a quote may not be closed there"]),
        (["x,y,n", "1,2,a", '3,4,"b', "5,6,c"], ["line 3: ", "a quote may not be closed there"]),
        (["x,y", "1 # one,2", "3,4", "5,6"], ["'1 # one' is not a number"]),
    ],
)
def test_a_mistake_in_text_is_told_with_its_place_and_a_way_out(made, content, parts):
    told = refusal(made(content))
    assert "made.csv: " in told
    for part in parts:
        assert part in told


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"separator": ";;"}, "--sep: wants one character"),
        ({"decimal": ";"}, "--decimal: wants . or ,"),
        ({"encoding": "none"}, "--encoding: no encoding 'none'"),
        ({"encoding": "utf-8"}, "is not utf-8 text"),
        ({"nan": "drop"}, "--nan: wants refuse or omit"),
        ({"skip": 99}, "is empty"),
        ({"x": "3"}, "--x: no column '3'; it has Temp (°C), y"),
        ({"y": ("y", "y")}, "--y: 'y' is asked for twice"),
        ({"separator": "tab"}, "has no line of numbers"),
    ],
)
def test_an_option_that_does_not_fit_is_told(wanted, told):
    assert told in refusal("latin1.csv", **wanted)


@pytest.mark.parametrize(
    ("wanted", "x", "y"),
    [
        ({"x": "b"}, None, "'a' or 'c'"),
        ({"y": ("a",)}, None, "'b' or 'c'"),
        ({"y": ("c",)}, "a", "c"),
        ({"x": "b", "y": ("a",)}, "b", "a"),
        ({"x": "3", "y": ("1",)}, "c", "a"),
    ],
)
def test_no_column_is_taken_that_could_be_another(made, wanted, x, y):
    file = made(["a,b,c", *[f"{row},{i * i}" for i, row in enumerate(ROWS)]])
    if x is None:
        assert y in refusal(file, **wanted)
    else:
        samples = read_samples(file, Wanted(**wanted))
        assert (samples.x.name, samples.ys[0].name) == (x, y)


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["01.02.2020", "02.02.2020", "01.03.2020"], [0, 86_400, 29 * 86_400]),
        (["2020/1/9", "2020/1/10", "2020/1/11"], [0, 86_400, 2 * 86_400]),
        (["01/13/2020", "01/14/2020", "02/01/2020"], [0, 86_400, 19 * 86_400]),
        (["2020-01-01 00:00:00.000000001", "2020-01-01 00:00:01"], [0, 0.999999999]),
        (["2020-01-01T00:30+01:00", "2020-01-01T00:30Z"], [0, 3600]),
        (["23:00:00", "25:00:00"], [0, 7200]),
        (["1/13/2020 11:30 AM", "1/13/2020 12:30 PM", "1/14/2020 12:30 AM"], [0, 3600, 46_800]),
    ],
)
def test_dates_are_read_as_they_are_written(made, cells, seconds):
    samples = read_samples(made(["t;v", *[f"{cell};1" for cell in cells]]), Wanted())
    per = 86_400 if samples.dates.unit == "days" else 1
    np.testing.assert_array_equal(samples.x.values * per, seconds)
    assert samples.dates.origin == cells[0]


def test_missing_cells_are_left_out_in_pairs(made):
    file = made(["t,a,b", "0,1,2", "1,,3", "2,4,NA", "NaN,5,6", "4,7,-inf", "5", "6,8,9"])
    samples = read_samples(file, Wanted(y=("a", "b"), nan="omit"))
    pairs = {column.name: (x.tolist(), y.tolist()) for column, x, y in samples.pairs()}
    assert pairs == {"a": ([0, 2, 4, 6], [1, 4, 7, 8]), "b": ([0, 1, 6], [2, 3, 9])}
    assert "3 of 7 samples of 'a' left out; 4 of 7 samples of 'b' left out" in said(samples)


def test_a_file_that_grows_no_rows_is_told(made):
    assert "no sample has numbers in both" in refusal(made(["x,y", "1,", ",2", "3,", ",4"]), nan="omit")


# -- numpy's own reader, and cell by cell
# ---------------------------------------------------------------------------------------------------------------


def by_cell(file, wanted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text._Rows, "_take_whole", lambda *_, **__: False)
        return outcome(file, wanted)


def by_block(file, wanted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", 64)
        patch.setattr(text, "_HEAD", 128)
        return outcome(file, wanted)


def outcome(file, wanted):
    try:
        samples = read_samples(file, wanted)
    except ValueError as error:
        return str(error)
    assert isinstance(samples, Samples)
    return [column.values.tobytes() for column in (samples.x, *samples.ys)], samples.said


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**30), 10**30).map(str),
    st.from_regex(r"[+-]?[0-9]{1,40}\.[0-9]{0,40}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
ODD = st.sampled_from(["", "NA", "x", " 1 ", '"2"', "1_0", "0x1", "1e", "--1", "inf", "1,5", "\u0663", "1\xa0"])


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(NUMBERS, NUMBERS, st.sampled_from(["a", "b c", '"d,e"', "#", "µ"])), min_size=4, max_size=30
    ),
    odd=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 1), ODD), max_size=2),
    lines=st.lists(st.tuples(st.integers(1, 31), st.sampled_from(["", "  ", "# c", ",,", "1,2"])), max_size=2),
    nan=st.sampled_from(["refuse", "omit"]),
)
@pytest.mark.slow
def test_both_ways_to_read_agree_to_the_last_bit(tmp_path_factory, rows, odd, lines, nan):
    """Whichever reader takes a block, the result is the same, and so is every message."""
    rows = [list(row) for row in rows]
    for at, column, cell in odd:
        rows[at % len(rows)][column] = cell
    text_lines = ["x,y,note", *[",".join(row) for row in rows]]
    for at, line in lines:
        text_lines.insert(min(at, len(text_lines)), line)
    file = tmp_path_factory.getbasetemp() / "random.csv"
    file.write_text("\n".join(text_lines), encoding="utf-8")
    wanted = Wanted(x="1", y=("2",), separator=",", decimal=".", nan=nan)
    expected = by_cell(file, wanted)
    assert outcome(file, wanted) == expected


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=200))
def test_numbers_are_what_python_makes_of_them(tmp_path_factory, values):
    file = tmp_path_factory.getbasetemp() / "numbers.csv"
    file.write_text("x,y\n" + "\n".join(f"{i},{value!r}" for i, value in enumerate(values)))
    for way in (outcome, by_block, by_cell):
        (x, y), _ = way(file, Wanted())
        assert y == np.array(values).tobytes()
        assert x == np.arange(float(len(values))).tobytes()


@pytest.mark.parametrize("odd", ["NA", '"1.5"', "1.5 ", "# c"])
def test_a_long_file_is_read_block_by_block_with_its_line_numbers(made, odd):
    rng = np.random.default_rng(1)
    table = rng.normal(size=(20_000, 6))
    lines = ["a,b,c,d,e,f", *[",".join(map(repr, row)) for row in table.tolist()]]
    lines[15_001] = "# c" if odd == "# c" else ",".join(["0", odd, "0", "0", "0", "0"])
    samples = read_samples(made(lines), Wanted(x="b", y=("e",), nan="omit"))
    keep = np.arange(20_000) != 15_000
    values = samples.ys[0].values
    np.testing.assert_array_equal(values if odd == "# c" else values[keep], table[keep, 4])
    if odd == "NA":
        assert "line 15002, column b: 'NA'" in refusal(made(lines), x="b", y=("e",))
    lines[18_001] = "0,x,0,0,0,0"
    assert "line 18002, column b: 'x' is not a number" in refusal(made(lines), x="b", y=("e",), nan="omit")


@pytest.mark.parametrize("decimal", [".", ","])
def test_gz_and_decimal_commas_in_blocks(made, decimal):
    table = np.random.default_rng(2).normal(size=(20_000, 3))
    lines = ["a;b;c", *[";".join(map(repr, row)).replace(".", decimal) for row in table.tolist()]]
    packed = made(gzip.compress("\n".join(lines).encode()), "made.csv.gz")
    samples = read_samples(packed, Wanted(x="a", y=("c",)))
    np.testing.assert_array_equal(samples.x.values, table[:, 0])
    np.testing.assert_array_equal(samples.ys[0].values, table[:, 2])
    packed.write_bytes(packed.read_bytes()[:-100])
    assert "made.csv.gz: is a damaged gzip file" in refusal(packed, x="a", y=("c",))


# -- .npy and .npz
# ---------------------------------------------------------------------------------------------------------------


def saved(array, name="made.npy"):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue(), name


@pytest.mark.parametrize(
    ("array", "wanted", "parts"),
    [
        (np.zeros((4, 3)), {}, ["which column is y: column 1 or column 2", "--y 1"]),
        (np.zeros((3, 4)), {}, ["shape (3, 4) has more columns than rows", "transpose"]),
        (np.zeros(3), {}, ["wants an array of two columns, got shape (3,)"]),
        (np.zeros((3, 2)), {"x": "2"}, ["--x: no column '2'; it has 0, 1"]),
        (np.zeros((3, 2)), {"skip": 1}, ["--skip: goes with text"]),
        (np.array([[1, 2], [np.nan, 3], [3, 4]]), {}, ["column 0, row 1 (from 0 on): nan", "--nan omit"]),
        (np.zeros((3, 2), complex), {}, ["column 0: wants real numbers"]),
    ],
)
def test_what_is_wrong_with_an_array_is_told(made, array, wanted, parts):
    told = refusal(made(*saved(array)), **wanted)
    for part in parts:
        assert part in told


def test_columns_of_an_array_count_from_0(made):
    array = np.arange(12.0).reshape(4, 3)
    samples = read_samples(made(*saved(array)), Wanted(x="0", y=("2",)))
    assert holds(samples, array[:, 0], array[:, 2])
    assert said(samples) == "x is column 0, y is column 2"


def test_nan_in_an_array_can_be_left_out(made):
    samples = read_samples(made(*saved(np.array([[1, 2], [np.nan, 3], [3, 4]]))), Wanted(nan="omit"))
    ((_, x, y),) = samples.pairs()
    assert (x.tolist(), y.tolist()) == ([1, 3], [2, 4])


def test_arrays_of_an_archive_are_columns(made):
    made(b"", "a.npz")
    np.savez("a.npz", t=np.arange(4), v=np.arange(4.0), w=np.arange(5.0))
    assert "which column is y: 'v' or 'w'" in refusal(Path("a.npz"))
    assert "'t' has 4 numbers and 'w' has 5" in refusal(Path("a.npz"), y=("w",))
    assert holds(read_samples(Path("a.npz"), Wanted(y=("v",))), np.arange(4), np.arange(4.0))
    np.savez("b.npz", y=np.arange(4), x=np.arange(4.0))
    assert "--x x --y y, or the other way round" in refusal(Path("b.npz"))


def test_a_folder_and_a_missing_file_are_told(made):
    made("", "data.csv")
    assert refusal(Path("dta.csv")) == "no such file: dta.csv; did you mean 'data.csv'?"
    assert "is a folder" in refusal(Path())
