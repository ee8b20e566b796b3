"""Is the numba loop as fast as the same loop in C?"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastpoly import fit
from fastpoly._post import LEARN_RATE, REFERENCES, STEPS

PRECISIONS = {"double": (np.float64, ctypes.c_double, "double"), "single": (np.float32, ctypes.c_float, "float")}
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@pytest.fixture(scope="module")
def c_loop(tmp_path_factory):
    """c_loop(precision): the loop of loop.c as a function (x, y, w, trace), compiled on the spot."""
    if COMPILER is None:
        pytest.skip("no C compiler here")

    def compiled(precision):
        dtype, number, name = PRECISIONS[precision]
        library = tmp_path_factory.mktemp("c") / f"loop_{name}.so"
        flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", f"-DREAL={name}"]
        subprocess.run([COMPILER, *flags, str(Path(__file__).with_name("loop.c")), "-o", str(library)], check=True)
        array = np.ctypeslib.ndpointer(dtype, flags="C_CONTIGUOUS")
        train = ctypes.CDLL(str(library)).train
        train.argtypes = [array, array, ctypes.c_long, ctypes.c_long, number, array, array]
        train.restype = None
        return lambda x, y, w, trace: train(x, y, len(x), len(trace), LEARN_RATE, w, trace)

    return compiled


@pytest.mark.benchmark(group="loop")
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_numba_against_c(versus, post, c_loop, precision):
    dtype = PRECISIONS[precision][0]
    x, y = (samples.astype(dtype) for samples in post)
    reference = REFERENCES[precision]
    w, trace, train = np.zeros(5, dtype), np.empty(STEPS, dtype), c_loop(precision)

    def c():
        w[:] = 0
        train(x, y, w, trace)

    def numba():
        return fit(x, y, backend="numba", precision=precision)

    result = numba()
    assert result.weights == pytest.approx(reference.weights, abs=reference.tolerance)
    c()
    assert w == pytest.approx(reference.weights, abs=reference.tolerance)
    assert result.mse == pytest.approx(trace, rel=1e-4)
    versus((f"numba {precision}", numba), (f"C {precision}", c), rounds=31, at_most=1.10)
