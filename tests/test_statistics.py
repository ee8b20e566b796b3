"""Weighted samples, errors of the weights, bands, ridge, held-out samples: against numpy's and scikit-learn's words."""

import copy
import json
import pickle
import warnings

import mpmath
import numpy as np
import pytest
from raw_runs import fit as raw_fit

from fastpoly import DivergenceWarning, FitResult, fit, fit_many
from fastpoly._student import quantile

RNG = np.random.default_rng(11)
X = np.sort(RNG.uniform(1990, 2020, 60))
T = (2 * X - X.min() - X.max()) / (X.max() - X.min())
Y = 5 - 2 * T + 3 * T**3 + 0.1 * RNG.normal(size=60)
SIGMA = RNG.uniform(0.05, 0.5, 60)
WEIGHT = RNG.integers(0, 4, 60).astype(float)


def polyfit(degree, **options):
    """numpy.polyfit on the mapped variable, power 0 first."""
    weights, covariance = np.polyfit(T, Y, degree, cov=True, **options)
    return weights[::-1], covariance[::-1, ::-1]


# -- weights of samples
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 3, 6])
def test_sigma_is_numpys_w_inverted(degree):
    result = fit(X, Y, degree, 10**8, sigma=SIGMA)
    weights, covariance = polyfit(degree, w=1 / SIGMA)
    assert result.weights == pytest.approx(weights, rel=1e-9)
    assert result.covariance == pytest.approx(covariance, rel=1e-8)
    residual = (Y - result.predict(X)) / SIGMA
    assert result.final_mse == pytest.approx(np.mean(residual**2), rel=1e-9)
    assert result.mse[-1] == pytest.approx(np.mean(residual**2), rel=1e-6)
    assert result.reduced_chi_squared == pytest.approx(residual @ residual / (60 - degree - 1), rel=1e-9)
    about = Y - np.average(Y, weights=SIGMA**-2)
    assert result.r_squared == pytest.approx(1 - residual @ residual / np.sum((about / SIGMA) ** 2), abs=1e-9)


@pytest.mark.parametrize("degree", [0, 1, 3, 6])
def test_errors_are_numpys(degree):
    result = fit(X, Y, degree)
    _, covariance = polyfit(degree)
    assert result.converged
    assert result.covariance == pytest.approx(covariance, rel=1e-8)
    assert result.standard_errors == pytest.approx(np.sqrt(covariance.diagonal()), rel=1e-8)
    powers = T[:, None] ** np.arange(degree + 1)
    assert result.standard_error(X) == pytest.approx(
        np.sqrt(np.einsum("ij,jk,ik->i", powers, covariance, powers)), rel=1e-8
    )
    raw = np.polyfit(X - 2005, Y, degree, cov=True)[1][::-1, ::-1]
    assert fit(X - 2005, Y, degree).raw_covariance == pytest.approx(raw, rel=1e-7)
    assert fit(X - 2005, Y, degree).raw_standard_errors == pytest.approx(np.sqrt(raw.diagonal()), rel=1e-7)


def test_a_weight_of_two_is_a_sample_twice():
    twice = np.repeat(np.arange(60), WEIGHT.astype(int))
    ours, theirs = fit(X, Y, 3, sample_weight=WEIGHT), fit(X[twice], Y[twice], 3)
    assert ours.steps == theirs.steps
    assert ours.learn_rate == pytest.approx(theirs.learn_rate, rel=1e-9)
    assert ours.weights == pytest.approx(theirs.weights, rel=1e-9)
    assert ours.mse[:1000] == pytest.approx(theirs.mse[:1000], rel=1e-9)
    assert ours.minimum.n == (WEIGHT > 0).sum()
    assert fit(X, Y, 3, sample_weight=7.0).weights == pytest.approx(fit(X, Y, 3).weights, rel=1e-12)


def test_a_weighted_run_takes_the_steps_of_the_weighted_loop():
    """Step by step, as anyone would write it."""
    w, scale = np.zeros(3), np.sqrt(WEIGHT / WEIGHT[WEIGHT > 0].mean()) / SIGMA
    keep = WEIGHT > 0
    t, y, scale = T[keep], Y[keep], scale[keep]
    powers = t[:, None] ** np.arange(3)
    mse = []
    for _ in range(50):
        residual = scale * (y - powers @ w)
        mse.append(np.mean(residual**2) + 0.3 * w[1] ** 2 + 0.1 * w[2] ** 2)
        w = w + 1e-4 * 2 * (np.mean(scale[:, None] * powers * residual[:, None], axis=0) - [0, 0.3, 0.1] * w)
    domain = (X.min(), X.max())
    ridge = [0, 0.3, 0.1]
    result = fit(X, Y, 2, 50, 1e-4, domain=domain, sigma=SIGMA, sample_weight=WEIGHT, ridge=ridge)
    assert result.weights == pytest.approx(w, rel=1e-10)
    assert result.mse == pytest.approx(mse, rel=1e-10)


def test_large_weighted_samples():
    n = 20_000
    x = np.linspace(0, 1, n)
    sigma = 1 + x
    y = np.cos(3 * x)
    result = fit(x, y, 4, sigma=sigma)
    theirs = np.polyfit(2 * x - 1, y, 4, w=1 / sigma)[::-1]
    assert result.predict(x) == pytest.approx(np.polynomial.Polynomial(theirs)(2 * x - 1), abs=1e-4)


@pytest.mark.parametrize("options", [dict(sigma=SIGMA), dict(sample_weight=WEIGHT), dict(ridge=1.0)])
@pytest.mark.parametrize("backend", ["numba", "gram", "numpy"])
def test_other_backends_refuse_weights(backend, options):
    with pytest.raises(ValueError, match=f"backend: {backend} takes no sigma, sample_weight or ridge; backend='spec"):
        fit(X, Y, 2, backend=backend, **options)


# -- missing samples
# ----------------------------------------------------------------------------------------------------------------------


def test_missing_samples_are_omitted_in_pairs():
    x, y, sigma = X.copy(), Y.copy(), SIGMA.copy()
    x[3], y[5], y[7] = np.nan, np.nan, np.inf
    keep = np.isfinite(x) & np.isfinite(y)
    ours = fit(x, y, 3, sigma=sigma, nan_policy="omit")
    assert ours.weights == pytest.approx(fit(x[keep], y[keep], 3, sigma=sigma[keep]).weights, rel=1e-12)
    with pytest.raises(ValueError, match=r"x: wants finite numbers, got x\[3\] = nan"):
        fit(x, y, 3)
    with pytest.raises(ValueError, match="x and y: are empty once"):
        fit(np.full(3, np.nan), np.ones(3), 1, nan_policy="omit")


# -- several columns, and batches as sequences
# ----------------------------------------------------------------------------------------------------------------------


def test_columns_are_fitted_each_by_itself():
    columns = np.stack([Y, -2 * Y + 1, T**2], axis=1)
    result = fit(X, columns, 3)
    assert len(result) == 3
    for i, one in enumerate(result):
        alone = fit(X, columns[:, i], 3, one.steps, one.learn_rate)
        assert one.weights == pytest.approx(alone.weights, abs=1e-11)
        assert one.r_squared == pytest.approx(alone.r_squared, rel=1e-9)
        assert one.covariance == pytest.approx(alone.covariance, rel=1e-6, abs=1e-20)
    assert result.standard_errors.shape == (3, 4)
    assert result.predict(X).shape == (3, 60)
    with pytest.raises(ValueError, match="y: wants one column with sigma"):
        fit(X, columns, 3, sigma=SIGMA)


def test_a_batch_is_a_sequence():
    x = np.stack([X, X * 1e-9 + 5, X - 3000])
    y = np.stack([Y, Y + 1e6, -Y])
    batch = fit_many(x, y, 3, trace_every=100)
    assert [one.domain for one in batch] == [(row.min(), row.max()) for row in x]
    assert batch[-1].weights.tolist() == batch.weights[2].tolist()
    assert [one.steps for one in batch[:2]] == [batch.steps] * 2
    assert batch.predict(X[:4]).shape == (3, 4)
    assert batch[1].mse.tolist() == batch.mse[1].tolist()
    with pytest.raises(IndexError):
        batch[3]
    assert pickle.loads(pickle.dumps(batch))[1].final_mse == batch[1].final_mse


def test_a_square_y_says_its_rows_from_its_columns():
    x, y = np.linspace(0, 1, 4), np.arange(16.0).reshape(4, 4) ** 1.5
    with pytest.raises(ValueError, match=r"y: of shape \(4, 4\) may have its problems in rows or in columns"):
        fit_many(x, y, 1)
    rows, columns = fit_many(x, y, 1, problems="rows"), fit_many(x, y, 1, problems="columns")
    assert columns.weights == pytest.approx(fit_many(x, y.T, 1, problems="rows").weights)
    assert rows.weights[0] == pytest.approx(fit(x, y[0], 1).weights)
    assert fit_many(x, y[:, :2], 1, problems="columns").weights == pytest.approx(columns.weights[:2])


# -- bands
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 30, 95, 1000, 10_000, 10_001, 10**6])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.95, 0.999])
def test_students_t(level, freedom):
    with mpmath.workdps(40):
        t = mpmath.mpf(quantile(level, freedom))
        outside = mpmath.betainc(mpmath.mpf(freedom) / 2, 0.5, 0, freedom / (freedom + t**2), regularized=True)
        inside = float(1 - outside)
    assert inside == pytest.approx(level, abs=1e-10)


def test_bands_hold_what_they_promise():
    """Of 1,000 data sets drawn, 95 % have the truth within the band, and a new sample."""
    rng = np.random.default_rng(5)
    t = np.linspace(-1, 1, 12)
    truth, at = 1 + t - t**2, 3
    curve = sample = 0
    for _ in range(1000):
        result = fit(t, truth + 0.3 * rng.normal(size=12), 2)
        low, high = result.confidence_band(t[at])
        curve += low < truth[at] < high
        low, high = result.prediction_band(t[at])
        sample += low < truth[at] + 0.3 * rng.normal() < high
    assert 925 <= curve <= 975  # 3.5 standard deviations
    assert 925 <= sample <= 975


def test_bands_have_the_shape_of_x():
    result = fit(X, Y, 3)
    for x in (2000, [2000.0], X.reshape(6, 10)):
        low, high = result.confidence_band(x, 0.9)
        wider_low, wider_high = result.prediction_band(x, 0.9)
        assert low.shape == np.shape(x)
        assert (wider_low < low).all()
        assert (high < wider_high).all()
    for level in (0, 1, 95, "much"):
        with pytest.raises(ValueError, match="level: wants a number between 0 and 1"):
            result.confidence_band(X, level)
    low, high = fit(X[:2], Y[:2], 3).prediction_band(X)
    assert np.isinf(high - low).all()


# -- ridge
# ----------------------------------------------------------------------------------------------------------------------


def test_ridge_is_a_shift_of_the_recurrence():
    powers = T[:, None] ** np.arange(6)
    for ridge in (0.3, [0, 0.1, 0.1, 0.1, 0.2, 5.0]):
        shift = np.diag(np.broadcast_to(ridge, 6))
        expected = np.linalg.solve(powers.T @ powers / 60 + shift, powers.T @ Y / 60)
        result = fit(X, Y, 5, ridge=ridge)
        assert result.weights == pytest.approx(expected, abs=2e-3)
        assert fit(X, Y, 5, 10**7, ridge=ridge).weights == pytest.approx(expected, abs=1e-9)
        residual = Y - result.predict(X)
        assert result.r_squared == pytest.approx(1 - np.mean(residual**2) / np.var(Y), rel=1e-9)
    assert fit(X, Y, 5, ridge=0).weights.tolist() == fit(X, Y, 5).weights.tolist()
    for bad in (-1, [1, 2], np.nan):
        with pytest.raises(ValueError, match="ridge: wants"):
            fit(X, Y, 5, ridge=bad)


# -- held-out samples
# ----------------------------------------------------------------------------------------------------------------------


def test_the_held_out_trace_is_that_of_the_weights():
    train, held = (X[::2], Y[::2]), (X[1::2], Y[1::2])
    result = fit(*train, 9, 4000, validation=held, trace_every=500)
    for row, mse in enumerate(result.validation_mse):
        at = fit(*train, 9, 500 * row, result.learn_rate)
        assert mse == pytest.approx(np.mean((held[1] - at.predict(held[0])) ** 2), rel=1e-8)
    assert len(result.validation_mse) == len(result.mse) == 8
    assert fit(*train, 2).validation_mse is None


def test_early_stopping_takes_the_best_recorded_step():
    rng = np.random.default_rng(8)
    t = rng.uniform(-1, 1, 40)
    y = np.sin(3 * t) + 0.3 * rng.normal(size=40)
    train, held = (t[:12], y[:12]), (t[12:], y[12:])
    whole = fit(*train, 10, 10**6, validation=held, trace_every=10)
    best = int(whole.validation_mse.argmin())
    assert 0 < best < len(whole.validation_mse) - 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is where it was asked to end
        early = fit(*train, 10, 10**6, validation=held, trace_every=10, early_stopping=True)
    assert early.steps == 10 * best
    held_mse = np.mean((held[1] - early.predict(held[0])) ** 2)
    assert held_mse == pytest.approx(whole.validation_mse[best], rel=1e-8)
    assert held_mse < np.mean((held[1] - whole.predict(held[0])) ** 2)
    with pytest.raises(ValueError, match="early_stopping: wants validation"):
        fit(*train, 2, early_stopping=True)


# -- kept for later
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        fit(X, Y, 3),
        fit(X, Y, 3, sigma=SIGMA, ridge=0.1),
        fit(X, Y, 3, 100, precision="single", backend="numba"),
        raw_fit(X, Y, 1, 100, 1e-9, trace_every=None),
        fit(X[:2], Y[:2], 3, validation=(X, Y)),
    ],
    ids=["mapped", "weighted", "single", "raw", "held out"],
)
@pytest.mark.filterwarnings("ignore:raw_weights")
def test_saved_and_loaded_it_says_the_same(result, tmp_path):
    file = tmp_path / "a fit.json"
    result.save(file)
    json.loads(file.read_text())
    for again in (FitResult.load(file), pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        for name in ("weights", "mse", "raw_weights", "covariance", "standard_errors"):
            np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
            assert getattr(again, name).dtype == getattr(result, name).dtype
        for name in ("steps", "learn_rate", "domain", "window", "final_mse", "r_squared", "converged", "backend"):
            assert getattr(again, name) == getattr(result, name)
        np.testing.assert_array_equal(again.predict(X), result.predict(X))
        np.testing.assert_array_equal(again.prediction_band(X), result.prediction_band(X))
        np.testing.assert_array_equal(again.validation_mse, result.validation_mse)
    result.save(file, trace=False)
    assert FitResult.load(file).mse.size == 0


def test_a_diverged_run_is_saved_too(tmp_path):
    with pytest.warns(Warning, match="diverged"):
        result = fit(X, Y, 3, learn_rate=100.0)
    result.save(tmp_path / "fit.json")
    again = FitResult.load(tmp_path / "fit.json")
    assert again.diverged_at == result.diverged_at
    assert not again.converged


def test_a_run_of_powers_beyond_float64_is_kept_without_its_minimum(tmp_path):
    with pytest.warns(Warning, match="diverged"):
        result = raw_fit(1e80 * (1 + X), Y, 4, 10, 1e-5)
    result.save(tmp_path / "fit.json")
    for again in (FitResult.load(tmp_path / "fit.json"), pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).weights, result.weights)
        with pytest.raises(ValueError, match="minimum: this result has none"):
            _ = again.final_mse


@pytest.mark.parametrize(
    "text",
    ["", "garbage", "[]", "{}", '{"format": "another"}', '{"format": "fastpoly fit 1"}'],
)
def test_what_is_no_saved_fit_is_refused(text, tmp_path):
    file = tmp_path / "fit.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"fit\.json: "):
        FitResult.load(file)
    with pytest.raises(TypeError, match="save: wants one fit, got a batch"):
        fit_many(X, np.stack([Y, Y]), 1).save(file)


def test_raw_weights_beyond_float64_are_infinite():
    x = np.arange(1.0, 6.0) * 1e-200
    with pytest.warns(RuntimeWarning, match="raw_weights"):
        raw = fit(x, [1.0, 3.0, 2.0, 2.0, 1.0], 2).raw_weights
    assert np.isinf(raw[2])


def test_squares_beyond_float64_are_told_once():
    with pytest.warns(DivergenceWarning, match="diverged at step 0.*lower the degree$") as told:
        result = fit(np.arange(5.0), 1e300 * np.arange(5.0), 2)
    assert len(told) == 1
    assert result.final_mse == np.inf
    assert not np.isfinite(result.covariance).any()
