"""Is the numba loop as fast as the same loop in C?"""

import numpy as np
import peers
import pytest
from raw_runs import fit

from fastpoly._post import REFERENCES, STEPS


@pytest.mark.benchmark(group="bars")
@pytest.mark.parametrize("precision", list(peers.DTYPES))
def test_numba_against_c(versus, not_measured, post, precision):
    try:
        c = peers.c(*post, precision, STEPS)
    except peers.Missing as missing:
        not_measured(f"numba {precision} / C {precision}", str(missing))
    x, y = (samples.astype(peers.DTYPES[precision]) for samples in post)
    reference = REFERENCES[precision]

    def numba():
        return fit(x, y, backend="numba", precision=precision)

    result, (w, trace) = numba(), c()
    for weights in (result.weights, w):
        assert weights == pytest.approx(reference.weights, abs=reference.tolerance)
    np.testing.assert_allclose(trace, result.mse, rtol=1e-4)
    versus((f"numba {precision}", numba), (f"C {precision}", c), rounds=31, at_most=1.10)
