"""How long from nothing to weights? Fresh processes, caches warm."""

import subprocess
import sys

import pytest

TRAIN = "import numpy as np; from fastpoly import train; x = np.linspace(0, 5, 100).reshape(-1, 1); train(x, np.sin(x))"


def process(code):
    return lambda: subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.benchmark(group="bars")
def test_train_against_importing_numba(versus):
    answer = TRAIN.replace("train(x, np.sin(x))", "print(train(x, np.sin(x))['w'][2, 0])")
    printed = subprocess.run([sys.executable, "-c", answer], check=True, capture_output=True, text=True).stdout
    assert float(printed) == pytest.approx(0.26351294, abs=2e-7)
    versus(("process: train()", process(TRAIN)), ("process: import numba", process("import numba")), at_most=1.6)


@pytest.mark.benchmark(group="bars")
def test_import_against_importing_numpy(versus):
    versus(
        ("process: import fastpoly", process("import fastpoly")),
        ("process: import numpy", process("import numpy")),
        rounds=21,
        at_most=1.3,
    )
