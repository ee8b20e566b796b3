"""Offsets, and numbers near both ends of float64: every mse keeps its digits, whatever the data.

The promise: an mse is, to 1e-10 of itself, one of residuals that are each off by a few eps of the largest |y| + sum_k
|w_k x**k|: what a loop over the samples gives. The truth is the recurrence in 50 digits, its t-th step a matrix power.
"""

import warnings

import mpmath
import numpy as np
import pytest
import torch
from raw_runs import fit, fit_many

from fastpoly import DivergenceWarning, _arrays, reference, stability_limit, train
from fastpoly._backends import triton_loop
from fastpoly._monitor import Monitor
from fastpoly._problem import FitProblem

EPS = 2.0**-52
OFFSETS = [0.0, 1e4, 1e8, 1e12]
RNG = np.random.default_rng(16)


def noisy(n, offset=0.0, scale=1.0):
    x = np.linspace(-1, 1, n)
    return x, (np.sin(3 * x) + 0.1 * RNG.normal(size=n) + offset) * scale


class Truth:
    """The recurrence on these samples in 50 digits."""

    def __init__(self, x, y, degree):
        self.n, self.m = len(x), degree + 1
        with mpmath.workdps(50):
            xs, ys = [mpmath.mpf(float(v)) for v in x], [mpmath.mpf(float(v)) for v in y]
            self.powers, self.products, rows = [], [], [mpmath.mpf(1)] * len(xs)
            for k in range(2 * degree + 1):
                self.powers.append(mpmath.fsum(rows))
                if k < self.m:
                    self.products.append(mpmath.fdot(rows, ys))
                rows = [a * b for a, b in zip(rows, xs, strict=True)]
            self.square = mpmath.fdot(ys, ys)

    def after(self, steps, rate, at):
        """Weights after `steps` steps, and the mse before those of `at`."""
        m = self.m
        with mpmath.workdps(50):
            affine, step = mpmath.eye(m + 1), 2 * mpmath.mpf(float(rate)) / self.n
            for i in range(m):
                affine[i, m] = step * self.products[i]
                for j in range(m):
                    affine[i, j] -= step * self.powers[i + j]
            start = mpmath.matrix([0] * m + [1])
            weights = [list((affine**t * start)[:m]) for t in [*at, steps]]
            mse = [self._mse(w) for w in weights[:-1]]
        return np.array([float(v) for v in weights[-1]]), np.array(mse)

    def _mse(self, w):
        quadratic = mpmath.fsum(a * b * self.powers[i + j] for i, a in enumerate(w) for j, b in enumerate(w))
        return float((self.square + quadratic - 2 * mpmath.fdot(w, self.products)) / self.n)


def promised(mse, x, y, weights):
    """By how much an mse may be off."""
    residual = 4 * EPS * (np.abs(y).max() + np.abs(np.vander(x, len(weights), increasing=True) @ np.abs(weights)).max())
    residual = np.maximum(residual, 4 * EPS * np.sqrt(mse))  # while it grows, y is the least of it
    return 1e-10 * mse + residual * np.sqrt(mse) + residual**2


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(("n", "degree"), [(100, 0), (100, 1), (100, 4), (100, 6), (4100, 0), (4100, 3)])
def test_offsets(n, degree, offset):
    """On both sides of what `auto` takes `spectral` for; converging slowly, fast and not at all."""
    x, y = noisy(n, offset)
    exact = Truth(x, y, degree)
    limit = stability_limit(x, degree)
    for factor, steps in ((0.02, 2000), (0.9, 2000), (1.2, 40)):
        at = [0, 1, 7, steps // 3, steps - 1]
        weights, mse = exact.after(steps, factor * limit, at)
        for backend in ("gram", "spectral", "numba"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DivergenceWarning)
                result = fit(x, y, degree, steps, factor * limit, backend=backend)
            assert (np.abs(result.mse[at] - mse) <= promised(mse, x, y, weights)).all(), (backend, factor)
            assert result.weights == pytest.approx(weights, abs=1e-10 * np.abs(weights).max(), rel=0)


@pytest.mark.parametrize(
    ("n", "scale"),
    [(100, 1e-150), (100, 1e-100), (100, 1e-30), (100, 1e30), (100, 1e150), (4100, 1e-150), (4100, 1e150)],
)
def test_scales(n, scale):
    x, y = noisy(n, 3.0, scale)
    exact = Truth(x, y, 3)
    limit = stability_limit(x, 3)
    for factor, steps in ((0.9, 500), (1.2, 60), (1.5, 300)):
        at = [0, 1, steps - 1]
        weights, mse = exact.after(steps, factor * limit, at)
        for backend in ("gram", "spectral", "numba"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DivergenceWarning)
                result = fit(x, y, 3, steps, factor * limit, backend=backend)
            if result.diverged_at is not None:
                assert mse[-1] * n > 1e300
                continue
            assert (np.abs(result.mse[at] - mse) <= promised(mse, x, y, weights)).all(), (backend, factor)
            assert result.weights == pytest.approx(weights, abs=1e-10 * np.abs(weights).max(), rel=0)


@pytest.mark.parametrize("n", [4096, 4097])
def test_four_numbers_beyond_a_hundred_million(n):
    x, y = np.linspace(-1, 1, n), 1e8 + np.arange(n) % 4
    result = fit(x, y, degree=0, steps=200, learn_rate=0.25)
    assert result.mse[-1] == pytest.approx(np.mean((y - result.predict(x)) ** 2), rel=1e-7)


@pytest.mark.parametrize(("base", "noise"), [(0, 1), (101325, 1), (1e6, 0.1), (1e8, 10)])
def test_train_has_the_posts_trace_to_every_digit(base, noise):
    x = np.linspace(-1, 1, 100).reshape(-1, 1)
    y = base + 3 * x - 2 * x * x + noise * np.random.default_rng(0).normal(size=(100, 1))
    ours, posts = train(x, y, nSteps=2000, learnRate=0.2, degree=2), reference.train(x, y, 2000, 0.2, 2)
    assert np.array_equal(ours["w"], posts["w"])
    assert ours["mseTrace"] == pytest.approx(posts["mseTrace"], rel=1.2e-7)  # the last bit of a float32


@pytest.mark.parametrize("split", [1, 40, 333])
def test_a_run_in_mixed_is_cut_anywhere_though_digits_cancel_on_the_way(split):
    x, y = noisy(100, 1e5)
    whole = fit(x, y, 2, 1000, 0.2, precision="mixed", backend="gram")
    first = fit(x, y, 2, split, 0.2, precision="mixed", backend="gram")
    rest = fit(x, y, 2, 1000 - split, 0.2, precision="mixed", backend="gram", initial_weights=first.weights)
    assert np.array_equal(rest.weights, whole.weights)
    assert np.array_equal(np.concatenate([first.mse, rest.mse]), whole.mse)


@pytest.mark.parametrize("steps", [200, 3000])
def test_what_grows_from_almost_nothing_is_finite(steps):
    """The factors leave float64, and the products do not."""
    x = np.linspace(0, 5, 100)
    for y in (0 * x, 1e-100 * np.sin(x), 1e-170 * np.sin(x)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DivergenceWarning)
            loop = fit(x, y, steps=steps, learn_rate=1e-4, backend="numba")
            many = fit_many(x, np.stack([y, y]), steps=steps, learn_rate=1e-4, trace_every=1)
            closed = fit(x, y, steps=steps, learn_rate=1e-4, backend="spectral")
        assert closed.diverged_at == loop.diverged_at
        assert np.isfinite(closed.mse).all()
        large = loop.mse > 1e-300
        assert closed.mse[large] == pytest.approx(loop.mse[large], rel=1e-9)
        assert many.mse[0, : len(loop.mse)] == pytest.approx(closed.mse, rel=1e-12)


def test_an_mse_beyond_float64_at_the_start_is_a_divergence():
    x = np.linspace(-1, 1, 50)
    for backend in ("spectral", "gram", "numba"):
        with pytest.warns(DivergenceWarning, match="diverged at step 0"):
            assert fit(x, 1e160 + x, 2, 300, 0.1, backend=backend).diverged_at == 0


@pytest.fixture
def staying(monkeypatch):
    """Tensors on the CPU stay where they are, as those on a GPU do."""
    monkeypatch.setattr(_arrays, "STAYING", {"cpu"})


@pytest.mark.parametrize("offset", [1e6, 1e10])
@pytest.mark.parametrize("factor", [0.9, 1.2])
@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_on_a_device(staying, backend, factor, offset):
    x, y = noisy(600, offset)
    steps, rate = (1500, 40)[factor > 1], factor * stability_limit(x, 3)
    weights, mse = Truth(x, y, 3).after(steps, rate, [0, 9, steps - 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)
        one = fit(torch.tensor(x), torch.tensor(y), 3, steps, rate, backend=backend)
        rows = torch.tensor(np.stack([y, noisy(600)[1]]))
        many = fit_many(torch.tensor(x), rows, 3, steps, rate, backend=backend, trace_every=1)
    for trace in (one.mse, many.mse[0]):
        assert (np.abs(trace.numpy()[[0, 9, steps - 1]] - mse) <= promised(mse, x, y, weights)).all()


@pytest.mark.parametrize("precision", ["double", "mixed"])
@pytest.mark.parametrize("factor", [0.9, 1.2])
def test_the_gpu_kernels_moments(factor, precision):
    """What `triton` does with more samples than a program keeps: moments on the device, steps by `gram`."""
    x, y = noisy(triton_loop.ONE_PROGRAM + 1, 1e7)
    steps = 40 if factor > 1 else 400
    problem = FitProblem.checked(x, y, 2, steps, factor * stability_limit(x, 2), precision=precision)
    got = triton_loop.train_on(torch.device("cpu"), problem, Monitor())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)
        loop = fit(x, y, 2, steps, problem.learn_rate, precision=precision, backend="numba")
    bound = promised(loop.mse.astype(float), x, y, loop.weights) + (loop.mse * 1e-6 if precision == "mixed" else 0)
    assert (np.abs(got.mse.astype(float) - loop.mse) <= 2 * bound).all()
