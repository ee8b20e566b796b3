"""The hand-written Triton loop on a GPU: beside the CPU's, and by itself."""

import signal

import numpy as np
import pytest
from raw_runs import fit, fit_many
from test_triton_loop import (
    samples,
)

from fastpoly import DivergenceWarning, Interrupted, backends, stability_limit
from fastpoly._backends import triton_loop
from fastpoly._problem import PRECISIONS
from fastpoly_kernels.triton_descent import plan

POST_BOUNDS = {"single": 5e-6, "double": 1e-9, "mixed": 2e-7}
"""Of the weights after 200,000 steps: what is promised, and for `mixed` the post's 8 printed digits."""


@pytest.mark.gpu
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_the_posts_problem(post, precision):
    got, want = (fit(*post, backend=backend, precision=precision) for backend in ("triton", "numba"))
    assert got.weights == pytest.approx(want.weights, abs=POST_BOUNDS[precision])
    # an mse is off by what the weights are, times at most sum_k |x|**k = 781, times the largest residual, 1
    assert got.mse == pytest.approx(want.mse, rel=1e-4 if precision == "single" else 1e-6)
    assert got.mse.dtype == got.weights.dtype == want.mse.dtype


def both_sides(degree, itemsize):
    """Sizes on both sides of each change of plan, and of where moments take over; one warp with 1 to 3 blocks."""
    sizes, before = [1, 3, 17, 32, 33, 64, 65], plan(1, degree, itemsize)
    for n in range(2, 2100):
        how = plan(n, degree, itemsize)
        if (how.warps, how.blocks == 0) != (before.warps, before.blocks == 0):
            sizes += [n - 1, n]
        before = how
    return sorted({*sizes, triton_loop.ONE_PROGRAM, triton_loop.ONE_PROGRAM + 1, 300_001})


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("degree", "precision"),
    [(0, "single"), (1, "double"), (4, "single"), (4, "double"), (4, "mixed"), (16, "single"), (16, "double")],
)
def test_sizes_on_both_sides_of_each_change(degree, precision):
    itemsize = np.dtype(PRECISIONS[precision][0]).itemsize
    for n in both_sides(degree, itemsize):
        x = np.linspace(-1, 1, n)
        y = np.cos(3 * x) + 0.2 * x
        rate = 0.5 * stability_limit(x, degree)
        options = dict(precision=precision, trace_every=7)
        got, want = (fit(x, y, degree, 300, rate, backend=backend, **options) for backend in ("triton", "numba"))
        # the order of sums differs: 5e-7 at most in `single`, with the kernel's order emulated in numba
        tolerance = {"double": 1e-12, "mixed": 1e-6, "single": 2e-6}[precision]
        assert got.weights == pytest.approx(want.weights, abs=tolerance), n
        assert got.mse == pytest.approx(want.mse, abs=tolerance), n


@pytest.mark.gpu
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_the_same_bits_again_alone_in_a_batch_and_in_portions(post, precision, monkeypatch):
    x, y = (column.ravel() for column in post)
    options = dict(backend="triton", precision=precision, trace_every=11)
    one, again = (fit(x, y, steps=50_000, **options) for _ in range(2))
    batch = fit_many(x, np.stack([y, 2 * y, y]), steps=50_000, **options)
    monkeypatch.setattr("fastpoly._portions.PORTION_SECONDS", 2e-4)
    portions = fit(x, y, steps=50_000, **options)
    for weights, mse in (
        (again.weights, again.mse),
        (batch.weights[0], batch.mse[0]),
        (batch.weights[2], batch.mse[2]),
        (portions.weights, portions.mse),
    ):
        assert weights.tobytes() == one.weights.tobytes()
        assert mse.tobytes() == one.mse.tobytes()


@pytest.mark.gpu
@pytest.mark.parametrize("own_x", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_thousands_of_problems(precision, own_x):
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(-1, 1, (5000, 41) if own_x else 41))
    y = rng.normal(size=(5000, 41))
    rates = rng.uniform(0.01, 0.3, 5000)
    rates[1234] = 1e6
    options = dict(precision=precision, trace_every=50)
    with pytest.warns(DivergenceWarning):
        got = fit_many(x, y, 3, 1000, rates, backend="triton", **options)
    with pytest.warns(DivergenceWarning):
        want = fit_many(x, y, 3, 1000, rates, backend="numba", **options)
    assert got.diverged_at.tolist() == want.diverged_at.tolist()
    assert np.flatnonzero(got.diverged_at >= 0).tolist() == [1234]
    assert np.isnan(got.mse).tolist() == np.isnan(want.mse).tolist()
    rest = np.arange(5000) != 1234
    tolerance = {"double": 1e-12, "mixed": 1e-6, "single": 2e-5}[precision]
    assert np.abs(got.weights - want.weights)[rest].max() < tolerance
    assert np.abs(got.mse - want.mse)[rest].max() < tolerance


@pytest.mark.gpu
def test_a_batch_in_groups_and_by_moments(monkeypatch):
    x, y = samples(30, 7)
    want = fit_many(x, y, 2, 500, 0.2, backend="numba", trace_every=9)
    for name, value in (("GROUP", 3), ("ONE_PROGRAM", 29)):
        monkeypatch.setattr(triton_loop, name, value)
        got = fit_many(x, y, 2, 500, 0.2, backend="triton", trace_every=9)
        assert got.weights == pytest.approx(want.weights, abs=1e-12)
        assert got.mse == pytest.approx(want.mse, abs=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_divergence_on_the_gpu(post, precision):
    results = []
    for backend in ("triton", "numba"):
        with pytest.warns(DivergenceWarning):
            results.append(fit(*post, steps=50_000, learn_rate=1e-3, backend=backend, precision=precision))
    got, want = results
    assert got.diverged_at == want.diverged_at == got.steps == got.mse.size
    assert np.isfinite(got.mse).all()
    assert got.weights == pytest.approx(want.weights, rel=1e-2)  # an error grows as fast as the weights do


@pytest.mark.gpu
def test_ctrl_c_on_the_gpu_continues_bit_for_bit(post):
    steps = 2_000_000

    def interrupting(done, of):
        if done >= 300_000:
            signal.raise_signal(signal.SIGINT)

    options = dict(backend="triton", precision="single", trace_every=100)
    with pytest.raises(Interrupted) as stop:
        fit(*post, steps=steps, progress=interrupting, **options)
    partial = stop.value.partial
    assert 300_000 <= partial.steps < steps
    whole = fit(*post, steps=partial.steps + 1000, **options)
    on = fit(*post, steps=1000, initial_weights=partial.weights, **options)
    assert on.weights.tobytes() == whole.weights.tobytes()
    assert whole.mse[: partial.mse.size].tobytes() == partial.mse.tobytes()


@pytest.mark.gpu
def test_it_is_listed_as_available():
    assert {b.name: b.unavailable for b in backends()}["triton"] is None
