"""What a person waits for who has a large file: `fastpoly fit` against reading the same two columns by pandas.

Both in a fresh process each time, with the file in the system's cache. The file is that of an instrument which records
20 channels: 90 MB, of which two columns are wanted.
"""

import sys
from importlib.util import find_spec

import numpy as np
import processes
import pytest

COLUMNS, ROWS = 20, 500_000
BYTES = 90_000_000
FIT = """
import sys
from pathlib import Path
sys.argv = ["fastpoly", "fit", {file!r}, "--x", "c3", "--y", "c17", "--no-picture", "--out", {out!r}]
from fastpoly.__main__ import main
try:
    main()
finally:
    told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(told["VmHWM"].split()[0])  # getrusage's begins with that of the process that started this one
"""
PANDAS = "import pandas as pd; print(len(pd.read_csv({file!r}, usecols=['c3', 'c17'])))"


@pytest.fixture(scope="module")
def file(request, tmp_path_factory):
    """The file; a hundredth of it where nothing is measured."""
    rows = ROWS // 100 if request.config.option.benchmark_disable else ROWS
    path = tmp_path_factory.mktemp("large") / "channels.csv"
    rng = np.random.default_rng(0)
    with path.open("w") as stream:
        stream.write(",".join(f"c{i}" for i in range(COLUMNS)) + "\n")
        for _ in range(0, rows, ROWS // 100):
            table = rng.uniform(-1, 1, (ROWS // 100, COLUMNS)).tolist()
            stream.write("".join(",".join(map("{:.6f}".format, row)) + "\n" for row in table))
    assert path.stat().st_size > BYTES * rows // ROWS
    return path


def fitted(file):
    return processes.output_of(FIT.format(file=str(file), out=str(file.with_name("out"))))


@pytest.mark.slow
@pytest.mark.benchmark(group="bars")
def test_fit_of_a_large_csv_against_reading_it_by_pandas(versus, not_measured, file):
    if find_spec("pandas") is None:
        not_measured("process: fastpoly fit / process: pandas.read_csv", "pandas is not installed; pip install pandas")
    assert "x is 'c3' (column 4), y is 'c17' (column 18)" in fitted(file)
    pandas = PANDAS.format(file=str(file))
    versus(
        ("process: fastpoly fit, 2 columns of 20, 90 MB", lambda: fitted(file)),
        ("process: pandas.read_csv", lambda: processes.output_of(pandas)),
        rounds=7,
        at_most=1.5,
        source="docs/bars.md: features",
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
@pytest.mark.benchmark(group="bars")
def test_memory_of_a_fit_of_a_large_csv(benchmark, limits, file):
    told = benchmark.pedantic(lambda: fitted(file))
    peak = int(told.split()[-1]) / 1024
    limits("peak memory of fastpoly fit, 2 columns of 20, 90 MB", peak, 300, "MB", source="docs/bars.md: features")
