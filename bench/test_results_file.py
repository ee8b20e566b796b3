"""The result file and the tables say what was measured, and nothing of whose machine it was."""

import json
from pathlib import Path

import pytest
import results_file
import tables


def timing(backend, seconds, group="post", precision="double", axis=None, **more):
    row = {"kind": "timing", "group": group, "name": backend, "backend": backend, "precision": precision}
    return row | {"model": "post", "seconds": seconds, "ns_per_step": seconds * 5e3, "axis": axis} | more


def curve(backend, seconds, axis="n"):
    """A row for each size; `seconds` of a size."""
    return [timing(backend, seconds(n), group="scale", axis=axis, **{axis: n}) for n in (10, 100, 1000, 10_000)]


def test_a_table_of_growth_has_slopes_and_crossings():
    loop, closed = curve("loop", lambda n: 1e-6 * n), curve("closed", lambda _: 3e-4)
    header, *lines = tables.growth(loop + closed)
    assert header.split() == ["n", "10", "100", "1e3", "1e4", "slope"]
    assert [line.split()[-1] for line in lines[:2]] == ["1.00", "0.00"]
    assert lines[2:] == ["from 3e+02 on closed overtakes loop"]


def test_the_fastest_takes_the_same_steps():
    rows = [
        timing("numba", 2.0),
        timing("gram", 0.5),
        timing("C", 1.0, precision="single"),
        timing("numpy.polynomial", 0.1, different_method=True),
        {"kind": "ratio", "group": "post"},
    ]
    assert results_file.to_fastest(rows) == [4.0, 1.0, 1.0, pytest.approx(0.2), None]


def test_a_file_is_named_for_the_device():
    assert results_file.path("NVIDIA H100 80GB HBM3").name == "nvidia-h100-80gb-hbm3.json"
    assert results_file.path("AMD EPYC", quick=True).name == "quick.json"
    assert results_file.processor()


@pytest.mark.parametrize("opens", [True, False])
def test_each_pytest_benchmark_writes_its_own_way(tmp_path, opens):
    """5.3 opens the path that it is given, 5.1 and 5.2 enter what they are given as a file."""
    (tmp_path / "cpu.json").write_text("as it was")
    destination = results_file.Destination(tmp_path / "cpu.json")
    assert (tmp_path / "cpu.json").read_text() == "as it was"
    with Path(destination).open("wb") if opens else destination as file:
        file.write(b"{}")
    assert (tmp_path / "cpu.json").read_text() == "{}"
    assert file.closed


def test_the_file_says_nothing_of_whose_machine_it_is():
    place = "/home/somebody/checkout"
    output = {
        "machine_info": {"node": "their-host", "release": "6.1-their-kernel", "machine": "x86_64"},
        "commit_info": {"project": "their-project", "error": place, "id": "0"},
        "benchmarks": [
            {
                "group": "post",
                "params": {"backend": Path(place), "n": 3},
                "stats": {"median": 1.0, "data": [1.0]},
                "extra_info": timing("numba", 1.0),
            }
        ],
    }
    results_file.complete(output, "A CPU", quick=True, not_measured=[{"name": "JAX", "group": "peers", "reason": "no"}])
    text = json.dumps(output)
    assert "their-" not in text
    assert "somebody" not in text
    assert output["benchmarks"][0]["extra_info"]["to_fastest"] == 1.0
    assert output["benchmarks"][0]["params"] == {"n": 3}
    about = output["fastpoly"]
    assert (about["device"], about["quick"], about["not_measured"][0]["name"]) == ("A CPU", True, "JAX")
    assert {"python", "numpy", "numba"} <= about["versions"].keys()


def test_the_tables_show_a_bar_that_is_missed():
    bar = {"kind": "ratio", "group": "bars", "of": "a", "to": "b", "ratio": 1.5, "bar": 1.1, "at_most": True}
    bar |= {"holds": False, "seconds_of": 3.0, "seconds_to": 2.0, "source": "docs/bars.md: promises"}
    shown = list(tables.all_of([bar, *curve("numba", lambda n: n)], [{"name": "JAX", "reason": "not installed"}]))
    text = "\n".join(line for title, lines in shown for line in (title, *lines))
    for part in ("a / b", "1.50", "<= 1.1", "FALLS SHORT", "0 of 1 bars hold", "numba double", "JAX: not installed"):
        assert part in text
