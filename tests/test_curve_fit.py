"""`curve_fit` against scipy's, one curve after the other, and what only many curves can ask for."""

import signal
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch

import fastpoly
from fastpoly import curve_fit

TIGHT = dict(ftol=1e-14, xtol=1e-14, gtol=1e-14)
X = np.linspace(0, 4, 30)


def decay(x, a, b, c):
    return a * torch.exp(-b * x) + c


def peak(x, a, m, s):
    return a * torch.exp(-(((x - m) / s) ** 2))


def numpys(f):
    """The same function of arrays."""
    return lambda x, *w: f(torch.from_numpy(np.asarray(x)), *torch.tensor(w, dtype=torch.float64).unbind()).numpy()


def curves(count, f=decay, truth=(2.5, 1.3, 0.5), x=X, noise=0.05, seed=0):
    """(count, n) noisy curves."""
    draws = np.random.default_rng(seed)
    params = np.array(truth) * (0.8 + 0.4 * draws.random((count, len(truth))))
    return np.stack([numpys(f)(x, *one) for one in params]) + noise * draws.standard_normal((count, x.shape[-1]))


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return curve_fit(*arguments, **options)


def same(found, wanted, deviations):
    """Parameters that agree to a part of their deviations."""
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=float(np.min(deviations)) * 1e-5)


# -- as scipy's


@pytest.mark.parametrize(("f", "start"), [(decay, (1.0, 1.0, 1.0)), (peak, (1.0, 2.0, 1.0))], ids=["decay", "peak"])
def test_every_curve_is_scipys(f, start):
    y = curves(5, f, (2.5, 1.3, 0.5) if f is decay else (2.5, 2.0, 0.5))
    popt, pcov = curve_fit(f, X, y, start, **TIGHT)
    for k in range(5):
        wanted, covariance = scipy.optimize.curve_fit(numpys(f), X, y[k], start, **TIGHT)
        one, own = curve_fit(f, X, y[k], start, **TIGHT)
        same(popt[k], wanted * [1, 1, np.sign(popt[k][2] * wanted[2])], np.sqrt(np.diag(covariance)))
        assert np.array_equal(one, popt[k])
        assert np.array_equal(own, pcov[k])
        np.testing.assert_allclose(np.diag(pcov[k]), np.diag(covariance), rtol=1e-4)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("kind", ["shared", "own", "covariance"])
def test_sigma_is_scipys(kind, absolute):
    y, draws = curves(3), np.random.default_rng(1)
    if kind == "covariance":
        root = 0.05 * np.eye(30) + 0.01 * draws.random((3, 30, 30))
        sigma = root @ root.transpose(0, 2, 1)
    else:
        sigma = 0.02 + 0.1 * draws.random((30,) if kind == "shared" else (3, 30))
    popt, pcov = curve_fit(decay, X, y, sigma=sigma, absolute_sigma=absolute, **TIGHT)
    for k in range(3):
        own = sigma if kind == "shared" else sigma[k]
        wanted, covariance = scipy.optimize.curve_fit(numpys(decay), X, y[k], np.ones(3), own, absolute, **TIGHT)
        same(popt[k], wanted, np.sqrt(np.diag(covariance)))
        np.testing.assert_allclose(pcov[k], covariance, rtol=1e-4, atol=1e-9)


BOUNDS = [(0, [2.4, np.inf, np.inf]), ([0.0, 1.5, 0.0], np.inf), ([-9, -9, 0.6], [9, 9, 0.9])]


@pytest.mark.parametrize("bounds", BOUNDS, ids=["above", "below", "both"])
def test_bounds_are_kept_as_by_scipys_trf(bounds):
    y = curves(4)
    start = np.clip(np.array([1.0, 1.6, 0.8]), *bounds)
    popt, pcov = curve_fit(decay, X, y, start, bounds=bounds, **TIGHT)
    for k in range(4):
        wanted, covariance = scipy.optimize.curve_fit(numpys(decay), X, y[k], start, bounds=bounds, **TIGHT)
        deviations = np.sqrt(np.diag(covariance))
        assert (np.abs(popt[k] - wanted) < 1e-3 * deviations).all()
        assert (popt[k] >= bounds[0]).all()
        assert (popt[k] <= bounds[1]).all()
        ours, theirs = (np.linalg.norm(numpys(decay)(X, *one) - y[k]) for one in (popt[k], wanted))
        assert ours <= theirs + 1e-9
        np.testing.assert_allclose(pcov[k], covariance, rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_robust_losses_are_scipys(loss):
    y = curves(3)
    y[:, ::7] += 1.5
    popt, _ = curve_fit(decay, X, y, (2.0, 1.0, 0.5), loss=loss, f_scale=0.1, maxfev=2000, **TIGHT)
    for k in range(3):
        found = scipy.optimize.least_squares(
            lambda w, k=k: numpys(decay)(X, *w) - y[k], (2.0, 1.0, 0.5), loss=loss, f_scale=0.1, **TIGHT
        )
        np.testing.assert_allclose(popt[k], found.x, rtol=1e-5)


def test_counts_are_fitted_by_their_likelihood():
    draws = np.random.default_rng(2)
    means = numpys(decay)(X, 9.0, 1.0, 1.0)
    counts = draws.poisson(means, (3, 30)).astype(float)
    popt, pcov = curve_fit(decay, X, counts, (5.0, 1.0, 2.0), noise="poisson", **TIGHT)

    def negative(w, k):
        rate = numpys(decay)(X, *w)
        return float((rate - counts[k] * np.log(rate)).sum())

    for k in range(3):
        found = scipy.optimize.minimize(negative, popt[k] * 1.02, (k,), method="Nelder-Mead", options={"xatol": 1e-7})
        np.testing.assert_allclose(popt[k], found.x, rtol=1e-3)
        assert negative(popt[k], k) <= found.fun + 1e-8
    assert np.isfinite(pcov).all()


@pytest.mark.parametrize("jac", ["2-point", "3-point", "own"])
def test_jacobians_of_other_kinds(jac):
    def own(x, a, b, c):
        return torch.stack([torch.exp(-b * x), -a * x * torch.exp(-b * x), torch.ones_like(x)], 1)

    y = curves(3)
    wanted, covariance = curve_fit(decay, X, y)
    popt, pcov = curve_fit(decay, X, y, jac=own if jac == "own" else jac)
    np.testing.assert_allclose(popt, wanted, rtol=1e-5)
    np.testing.assert_allclose(pcov, covariance, rtol=1e-3, atol=1e-9)


def test_full_output_is_scipys():
    y = curves(1)[0]
    *_, info, message, ier = curve_fit(decay, X, y, full_output=True)
    wanted = scipy.optimize.curve_fit(numpys(decay), X, y, np.ones(3), full_output=True)
    assert ier in (1, 2, 3, 4)
    assert "at most 0.000000" in message
    np.testing.assert_allclose(info["fvec"], wanted[2]["fvec"], atol=1e-6)
    assert 3 < info["nfev"] < 20
    many = curve_fit(decay, X, np.stack([y, y]), full_output=True)
    assert np.array_equal(many[2]["fvec"][1], info["fvec"])
    assert many[4].tolist() == [ier, ier]


def test_a_start_of_ones_or_the_middle_of_the_bounds():
    y = curves(2)
    assert np.array_equal(curve_fit(decay, X, y)[0], curve_fit(decay, X, y, np.ones(3))[0])
    bounds = ([0, 0, 0], [6, 2, 2])
    assert np.array_equal(curve_fit(decay, X, y, bounds=bounds)[0], curve_fit(decay, X, y, [3, 1, 1], bounds=bounds)[0])


class Model:
    def method(self, x, a, b, c):
        return decay(x, a, b, c)

    __call__ = method


@pytest.mark.parametrize(
    "f",
    [
        Model().method,
        Model(),
        lambda _, a, b, c: decay(torch.from_numpy(X), a, b, c),
        lambda x, a, b, c: decay(x, a, b, c) if a > 0 else x * b,
    ],
    ids=["method", "object", "no x", "branch"],
)
def test_models_of_other_kinds(f):
    y = curves(2)
    wanted = curve_fit(decay, X, y)
    x = None if getattr(f, "__code__", None) and f.__code__.co_varnames[0] == "_" else X
    np.testing.assert_allclose(curve_fit(f, x, y)[0], wanted[0], rtol=1e-7)
    np.testing.assert_allclose(curve_fit(f, x, list(y[0]))[0], wanted[0][0], rtol=1e-7)


def test_tensors_and_series_are_taken():
    pandas = pytest.importorskip("pandas")
    y = curves(1)[0]
    wanted = curve_fit(decay, X, y)[0]
    assert np.array_equal(curve_fit(decay, torch.from_numpy(X), torch.from_numpy(y))[0], wanted)
    assert np.array_equal(curve_fit(decay, pandas.Series(X), pandas.Series(y))[0], wanted)


# -- many


def test_a_curve_has_the_same_bits_in_every_batch_and_with_any_threads(monkeypatch):
    y = curves(21)
    whole = curve_fit(decay, X, y)
    for some in (slice(0, 1), slice(7, 20), slice(20, 21)):
        part = curve_fit(decay, X, y[some])
        assert np.array_equal(part[0], whole[0][some])
        assert np.array_equal(part[1], whole[1][some])
    monkeypatch.setattr("fastpoly._fuse.many.processors", lambda: 1)
    assert np.array_equal(curve_fit(decay, X, y)[0], whole[0])


def test_curves_that_fail_leave_the_others_alone():
    y = curves(20)
    well = curve_fit(decay, X, y)
    bad = y.copy()
    bad[2, 5], bad[4, 6], bad[9], bad[13] = np.nan, np.inf, 3.0, 1e200
    with pytest.warns(scipy.optimize.OptimizeWarning, match=r"(\d) of 20 curves were not fitted|Covariance"):
        popt, pcov, _, messages, ier = curve_fit(decay, X, bad, full_output=True)
    others = [k for k in range(20) if k not in (2, 4, 9, 13)]
    assert np.array_equal(popt[others], well[0][others])
    assert np.array_equal(pcov[others], well[1][others])
    assert np.isin(ier[others], (1, 2, 3, 4)).all()
    assert ier[2] == ier[4] == 0
    assert np.isnan(popt[[2, 4]]).all()
    assert "not finite" in messages[4]
    assert np.isinf(pcov[9]).any() or (np.sqrt(np.diag(pcov[9])) >= 0).all()


def test_missing_samples_are_left_out_with_their_sigma():
    draws = np.random.default_rng(4)
    y, sigma = curves(6), 0.02 + 0.1 * draws.random((6, 30))
    y[draws.random((6, 30)) < 0.3] = np.nan
    sigma[np.isnan(y)] = np.nan
    y[4], y[5, 2:] = np.nan, np.nan
    popt, pcov, _, _, ier = quiet(decay, X, y, sigma=sigma, nan_policy="omit", full_output=True, **TIGHT)
    for k in range(4):
        there = ~np.isnan(y[k])
        own = scipy.optimize.curve_fit(numpys(decay), X[there], y[k][there], np.ones(3), sigma[k][there], **TIGHT)
        same(popt[k], own[0], np.sqrt(np.diag(own[1])))
        np.testing.assert_allclose(pcov[k], own[1], rtol=1e-4, atol=1e-9)
    assert ier[4] == ier[5] == 0
    assert np.isnan(popt[4:]).all()


def test_x_of_each_curve_and_several_predictors():
    def plane(x, a, b, c):
        return a * x[0] + b * x[1] ** 2 + c

    draws = np.random.default_rng(5)
    shared, own = draws.random((2, 25)), draws.random((4, 2, 25))
    truth = np.array([1.0, -2.0, 0.5])
    same_x = np.stack([numpys(plane)(shared, *truth * k) for k in range(1, 5)])
    np.testing.assert_allclose(quiet(plane, shared, same_x)[0], truth * np.arange(1, 5)[:, None], rtol=1e-8)
    y = np.stack([numpys(plane)(one, *truth) for one in own])
    np.testing.assert_allclose(quiet(plane, own, y)[0], np.tile(truth, (4, 1)), rtol=1e-8)
    both = np.stack([numpys(plane)(shared, *truth)] * 2)
    np.testing.assert_allclose(quiet(plane, shared, both, predictors=2)[0], np.tile(truth, (2, 1)), rtol=1e-8)
    each = np.linspace(0, 1, 8) + np.arange(3)[:, None]
    rows = quiet(lambda x, a, b: a * x + b, each, 2 * each - 1)[0]
    np.testing.assert_allclose(rows, np.tile([2.0, -1.0], (3, 1)), rtol=1e-8)


def test_starts_and_bounds_of_each_curve():
    y, starts = curves(3), np.array([[1.0, 1.0, 1.0], [3.0, 2.0, 0.1], [2.0, 0.5, 0.5]])
    upper = np.array([[9.0, 9.0, 9.0], [9.0, 2.0, 0.3], [2.0, 9.0, 9.0]])
    popt, _ = curve_fit(decay, X, y, starts, bounds=(0, upper))
    for k in range(3):
        one, _ = curve_fit(decay, X, y[k], starts[k], bounds=(0, upper[k]))
        assert np.array_equal(popt[k], one)


@pytest.mark.parametrize("fixed", ["c", ["c"], 2, [-1], np.array([False, False, True])])
def test_fixed_parameters_stay_and_have_no_variance(fixed):
    y = curves(3)
    popt, pcov = curve_fit(decay, X, y, (1.0, 1.0, 0.4), fixed=fixed)
    assert (popt[:, 2] == 0.4).all()
    wanted, covariance = scipy.optimize.curve_fit(
        lambda x, a, b: numpys(decay)(x, a, b, 0.4), X, y[1], (1.0, 1.0), **TIGHT
    )
    np.testing.assert_allclose(popt[1, :2], wanted, rtol=1e-6)
    np.testing.assert_allclose(pcov[1, :2, :2], covariance, rtol=1e-4)
    assert not pcov[:, 2].any()


def test_equal_bounds_hold_a_parameter():
    y = curves(2)
    held, covariance = curve_fit(decay, X, y, (1.0, 1.0, 0.4), bounds=([-9, -9, 0.4], [9, 9, 0.4]))
    fixed, wanted = curve_fit(decay, X, y, (1.0, 1.0, 0.4), fixed="c")
    np.testing.assert_allclose(held, fixed, rtol=1e-7)
    np.testing.assert_allclose(covariance, wanted, rtol=1e-6, atol=1e-12)


def test_single_precision():
    y = curves(9)
    single, double = curve_fit(decay, X, y, precision="single"), curve_fit(decay, X, y)
    deviations = np.sqrt(np.diagonal(double[1], axis1=1, axis2=2))
    assert (np.abs(single[0] - double[0]) < 0.01 * deviations).all()
    assert (single[0] != double[0]).any()
    np.testing.assert_allclose(single[1], double[1], rtol=2e-2, atol=1e-6)


# -- what is hard


def test_no_unit_matters():
    y = curves(1, peak, (2.0, 2.0, 0.6))[0]
    wanted, _ = curve_fit(peak, X, y, (1.0, 1.5, 1.0))
    for unit in (1e-12, 1e-6, 1e9):
        for scale in (1e-12, 1e12):
            found, _ = curve_fit(peak, X * unit, y * scale, np.array([scale, 1.5 * unit, unit]))
            np.testing.assert_allclose(found / [scale, unit, unit], wanted, rtol=1e-5)


def test_an_exact_curve_ends_soon():
    y = numpys(decay)(X, 2.0, 1.0, 0.25)
    popt, pcov, info, _, ier = curve_fit(decay, X, y, full_output=True)
    assert ier in (1, 2, 3, 4)
    assert info["nfev"] < 30
    np.testing.assert_allclose(popt, [2.0, 1.0, 0.25], rtol=1e-9)
    assert np.abs(pcov).max() < 1e-18


def test_a_derivative_that_autograd_does_not_have_is_taken_by_differences():
    """The dose of a control is 0: (0 / e) ** b is 0, its derivative by e inf * 0 where b < 1."""

    def dose(x, b, c, d, e):
        return c + (d - c) / (1 + (x / e) ** b)

    x = np.concatenate([[0.0], np.geomspace(0.01, 10, 12)])
    truth = np.array([0.7, 10.0, 90.0, 0.4])
    y = numpys(dose)(x, *truth) + 0.3 * np.random.default_rng(6).standard_normal(13)
    popt, pcov = curve_fit(dose, x, y, (1.5, 1.0, 100.0, 1.0))
    assert np.linalg.norm(numpys(dose)(x, *popt) - y) <= np.linalg.norm(numpys(dose)(x, *truth) - y)
    assert (np.abs(popt - truth) < 5 * np.sqrt(np.diag(pcov))).all()


def test_a_start_on_the_bounds_leaves_them():
    def two(x, a, b, c):
        return a * torch.exp(-0.3 * x) + b * torch.exp(-2 * x) + c

    y = curves(3, two, (1.0, 2.0, 0.4))
    inside, _ = curve_fit(two, X, y, (0.5, 0.5, 0.5), bounds=(0, np.inf))
    on, _ = curve_fit(two, X, y, (0.0, 0.0, 0.0), bounds=(0, np.inf))
    np.testing.assert_allclose(on, inside, rtol=1e-5, atol=1e-7)


def test_what_the_data_do_not_fix_has_no_covariance():
    def twice(x, a, b):
        return (a + b) * x

    with pytest.warns(scipy.optimize.OptimizeWarning, match="Covariance of the parameters could not be estimated"):
        popt, pcov = curve_fit(twice, X, 3 * X + 0.01 * np.cos(9 * X))
    assert abs(popt.sum() - 3) < 0.01
    assert np.isinf(pcov).all()


def test_as_many_parameters_as_samples_have_a_covariance_only_with_sigma():
    x, y = np.array([0.0, 1.0, 2.0]), np.array([3.0, 1.6, 1.1])
    assert np.isinf(quiet(decay, x, y)[1]).all()
    assert np.isfinite(quiet(decay, x, y, sigma=np.full(3, 0.1), absolute_sigma=True)[1]).all()


def test_a_model_that_cannot_be_fused_runs_in_torch_after_one_warning():
    def branches(x, a, b):
        return a * x + b * float(torch.linalg.eigvals(torch.stack([a, b, b, a]).reshape(2, 2)).abs().max() > 0)

    y = np.stack([2 * X + 1, X - 1]) + 0.01 * np.sin(9 * X)
    with pytest.warns(RuntimeWarning, match="one problem after the other"):
        popt, _ = curve_fit(branches, X, y)
    np.testing.assert_allclose(popt, curve_fit(lambda x, a, b: a * x + b, X, y)[0], rtol=1e-6)
    with pytest.raises(fastpoly.UnsupportedOperationError):
        curve_fit(branches, X, y, backend="fused")


# -- what is wrong is named

WRONG = {
    "empty": (dict(ydata=[]), ValueError, "`ydata` must not be empty!"),
    "no names": (dict(f=lambda x, *w: w[0] * x), ValueError, "Unable to determine number of fit parameters"),
    "few samples": (dict(xdata=[1.0, 2.0], ydata=[1.0, 2.0]), TypeError, r"parameters=3 must not exceed .* points=2"),
    "shape of x": (dict(ydata=np.zeros((2, 30)), xdata=X[:5]), ValueError, r"xdata: wants \(n,\) = \(30,\)"),
    "shape of sigma": (dict(sigma=np.ones(7)), ValueError, "`sigma` has incorrect shape"),
    "zero sigma": (dict(sigma=np.zeros(30)), ValueError, "Residuals are not finite in the initial point"),
    "covariance": (dict(sigma=-np.eye(30)), ValueError, "`sigma` must be positive definite"),
    "nan": (dict(ydata=np.full(30, np.nan)), ValueError, "array must not contain infs or NaNs"),
    "nan policy": (dict(nan_policy="propagate"), ValueError, "nan_policy: wants None, 'raise' or 'omit'"),
    "nan raise": (dict(ydata=np.full(30, np.nan), nan_policy="raise"), ValueError, "The input contains nan values"),
    "outside": (dict(p0=[5, 5, 5], bounds=(0, 1)), ValueError, "Initial guess is outside of provided bounds"),
    "bounds": (dict(bounds=([1, 1, 1], 0)), ValueError, "Each lower bound must be less"),
    "lm": (dict(bounds=(0, 9), method="lm"), ValueError, "Method 'lm' only works for unconstrained problems"),
    "method": (dict(method="bfgs"), ValueError, "method: wants 'lm', 'trf' or 'dogbox'"),
    "start": (dict(p0=[np.nan, 1, 1]), ValueError, "p0: wants finite numbers"),
    "not finite": (dict(f=lambda x, a: torch.log(-a * x.abs() - 1)), ValueError, "not finite in the initial point"),
    "jac": (dict(jac="4-point"), ValueError, "jac: wants None, a function"),
    "fixed": (dict(p0=[1, 1, 1], fixed="d"), ValueError, "fixed: wants names, positions or 3 truths, got 'd'"),
    "all fixed": (dict(p0=[1, 1, 1], fixed=[0, 1, 2]), ValueError, "leave one out to be fitted"),
    "option": (dict(epsfcn=1e-3), TypeError, "has no option epsfcn; of scipy's it takes ftol"),
    "precision": (dict(precision="half"), ValueError, "precision: wants 'double' or 'single'"),
    "noise": (dict(noise="rice"), ValueError, "noise: wants 'gauss' or 'poisson'"),
    "counts": (dict(ydata=np.full(30, -1.0), noise="poisson"), ValueError, "counts are >= 0"),
    "no tensor": (dict(f=lambda x, a: 3.0), TypeError, "f: wants to return a tensor, got float"),
    "values": (dict(f=lambda x, a: a * x[:4]), ValueError, r"f: wants to return n = 30 values, got shape \(4,\)"),
    "numpy": (dict(f=lambda x, a: np.exp(a) * x), TypeError, "f: computes with numpy; write it in torch"),
    "backend": (dict(backend="numba"), ValueError, "backend: wants auto, fused, triton or eager"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    change, kind, message = WRONG[name]
    arguments = {"f": decay, "xdata": X, "ydata": curves(1)[0], **change}
    with pytest.raises(kind, match=message):
        curve_fit(**arguments)


def test_what_does_not_converge_is_said():
    with pytest.raises(RuntimeError, match=r"parameters not found: .* has reached maxfev = 2"):
        curve_fit(decay, X, curves(1)[0], maxfev=2)


def test_ctrl_c_keeps_the_curves_that_were_done():
    def slow(x, a, b, c):  # it takes hundreds of evaluations
        return a * torch.exp(-b * x) + c * torch.exp(-b * 1.0001 * x)

    y = curves(2000)
    pressed = []

    def press(done, of):
        if not pressed:
            pressed.append(done)
            signal.raise_signal(signal.SIGINT)

    whole = quiet(slow, X, y, maxfev=60, full_output=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(fastpoly.Interrupted, match=r"2,000 of 2,000 curves") as stopped:
            curve_fit(slow, X, y, maxfev=60, full_output=True, progress=press)
    popt, _, _, _, ier = stopped.value.partial
    done = np.isin(ier, (1, 2, 3, 4))
    assert np.array_equal(popt[done], whole[0][done])
