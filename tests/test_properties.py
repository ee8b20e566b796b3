"""What holds for any data: hypothesis looks for the exception."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_runs import fit

from fastpoly import backends, stability_limit

COMPILED = ("numba", "gram", "spectral")

settings.register_profile("steady", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("steady")


@st.composite
def problems(draw):
    """Samples in [-2, 2], a degree, and a learn rate below the stability limit."""
    n = draw(st.integers(1, 70))
    degree = draw(st.integers(0, 6))
    numbers = st.floats(-2, 2, width=32)
    x = np.array(draw(st.lists(numbers, min_size=n, max_size=n)))
    y = np.array(draw(st.lists(numbers, min_size=n, max_size=n)))
    return x, y, degree, draw(st.floats(0.05, 0.95)) * stability_limit(x, degree)


@given(problems(), st.integers(0, 60))
def test_every_precision_agrees_with_the_double_loop(problem, steps):
    x, y, degree, rate = problem
    loop = fit(x, y, degree, steps, rate, backend="numpy")
    for precision, roundings in (("double", 1e-13), ("mixed", 2e-5), ("single", 2e-5)):
        for backend in (b.name for b in backends() if precision in b.precisions and b.name in COMPILED):
            kernel = fit(x, y, degree, steps, rate, backend=backend, precision=precision)
            scale = max(1.0, np.abs(loop.weights).max())
            assert kernel.weights == pytest.approx(loop.weights, abs=roundings * scale, rel=0)
            assert kernel.mse == pytest.approx(loop.mse, abs=roundings * 10, rel=0)


@given(problems(), st.integers(0, 40), st.integers(0, 40), st.sampled_from(["double", "mixed", "single"]))
def test_a_run_splits_anywhere(problem, a, b, precision):
    x, y, degree, rate = problem
    loop = dict(backend="numba", precision=precision)
    whole = fit(x, y, degree, a + b, rate, **loop)
    first = fit(x, y, degree, a, rate, **loop)
    second = fit(x, y, degree, b, rate, **loop, initial_weights=first.weights)
    assert second.weights.tobytes() == whole.weights.tobytes()
    assert np.concatenate([first.mse, second.mse]).tobytes() == whole.mse.tobytes()


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(problem, random):
    x, y, degree, rate = problem
    order = list(range(len(x)))
    random.shuffle(order)
    one, other = fit(x, y, degree, 30, rate), fit(x[order], y[order], degree, 30, rate)
    assert other.weights == pytest.approx(one.weights, abs=1e-12 * max(1.0, np.abs(one.weights).max()))


@given(problems(), st.integers(-3, 3))
def test_scaling_y_scales_the_fit(problem, power):
    x, y, degree, rate = problem
    scale = 2.0**power  # exact in floating point, so the scaled run is exactly the run scaled
    one, other = (fit(x, y * factor, degree, 30, rate, backend="numba") for factor in (1, scale))
    assert np.array_equal(other.weights, one.weights * scale)
    assert np.array_equal(other.mse, one.mse * scale**2)


@given(problems())
def test_the_mse_never_rises_below_the_stability_limit(problem):
    x, y, degree, rate = problem
    mse = fit(x, y, degree, 100, rate).mse
    assert (np.diff(mse) <= 1e-14 * max(1.0, mse[0])).all()


@given(problems(), st.integers(1, 5))
def test_repeating_all_samples_changes_nothing(problem, times):
    x, y, degree, rate = problem
    one, other = fit(x, y, degree, 30, rate), fit(np.tile(x, times), np.tile(y, times), degree, 30, rate)
    assert other.weights == pytest.approx(one.weights, abs=1e-12 * max(1.0, np.abs(one.weights).max()))
