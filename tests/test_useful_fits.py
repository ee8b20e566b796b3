"""What a newcomer gets of their own data: by gradient descent, a fit as useful as least squares', with nothing set."""

import json
import warnings

import numpy as np
import pytest
import torch
from conftest import DATA

from fastpoly import ConvergenceWarning, DivergenceWarning, _domain, fit, fit_many, stability_limit
from fastpoly._backends import moments

PROBLEMS = json.loads((DATA / "useful.json").read_text())
NAMES = [problem["name"] for problem in PROBLEMS]


def useful(result, x, y, least, variance):
    """Within 1 % of least squares, and a millionth of the variance, of the mse that the predictions really have."""
    mse = np.mean((np.asarray(y, float) - np.asarray(result.predict(x))) ** 2)
    return mse <= 1.01 * least + 1e-6 * variance


def least_squares(x, y, degree):
    polynomial = np.polynomial.Polynomial.fit(x, y, degree)
    return np.mean((y - polynomial(x)) ** 2)


@pytest.mark.parametrize("problem", PROBLEMS, ids=NAMES)
def test_public_problems(problem):
    x, y, degree = np.array(problem["x"]), np.array(problem["y"]), problem["degree"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one that misleads is as bad as none that helps
        result = fit(x, y, degree)
    assert useful(result, x, y, problem["least_squares_mse"], problem["variance"])
    assert result.converged
    assert result.domain == (x.min(), x.max())
    assert 10**4 <= result.steps <= 10**12
    assert len(result.mse) <= 10**5
    assert result.learn_rate < stability_limit(x, degree, "auto")


@pytest.mark.parametrize("seed", range(40))
def test_random_problems(seed):
    """x from 1e-9 to 1e10 and far from 0, y with offsets, degrees 0 to 6, 8 to 400 samples, noise of any size."""
    rng = np.random.default_rng(seed)
    n, degree = int(rng.integers(8, 400)), int(rng.integers(0, 7))
    width = 10.0 ** rng.uniform(-9, 10)
    t = np.sort(rng.uniform(-1, 1, n)) if seed % 2 else np.linspace(-1, 1, n)
    x = width * (t + rng.choice([0, 1, 5, 300]))
    y = np.polynomial.Polynomial(rng.normal(size=degree + 1))(t) + 10.0 ** rng.uniform(-6, 0) * rng.normal(size=n)
    y = 10.0 ** rng.uniform(-6, 6) * (y + rng.choice([0, 1, 1e4]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit(x, y, degree)
    assert useful(result, x, y, least_squares(x, y, degree), np.var(y))
    assert result.converged
    many = fit_many(x, np.stack([y, y[::-1]]), degree)
    assert useful(many[0], x, y, least_squares(x, y, degree), np.var(y))
    assert many.converged.all()


@pytest.mark.parametrize("precision", ["double", "mixed", "single"])
@pytest.mark.parametrize("backend", ["auto", "numba", "gram"])
def test_other_backends_and_precisions(backend, precision):
    if (backend, precision) == ("gram", "single"):
        pytest.skip("gram has no single")
    x = np.linspace(1990, 2020, 60)
    y = 300 + np.sin((x - 1990) / 10)
    result = fit(x, y, 3, backend=backend, precision=precision)
    assert useful(result, x, y, least_squares(x, y, 3), np.var(y))
    assert result.weights.dtype == (np.float64 if precision == "double" else np.float32)


@pytest.mark.parametrize(
    ("x", "y", "degree", "weights"),
    [
        ([3.0], [5.0], 0, [5.0]),
        ([3.0], [5.0], 4, [5.0]),  # the descent moves what the sample sees, from zeros
        ([2.0, 2.0, 2.0], [1.0, 2.0, 6.0], 3, [3.0]),
        ([1e17, 1e17], [1.0, 3.0], 1, [2.0]),
        ([0, 1], [1, 3], 1, [2.0, 1.0]),  # of t, which is -1 and 1
        (np.arange(4, dtype=np.uint8), [1, 3, 5, 7], 1, [4.0, 3.0]),
        ([True, False], [1.0, 2.0], 1, [1.5, -0.5]),
    ],
    ids=["one sample", "one sample, degree 4", "one x", "one large x", "integers", "bytes", "booleans"],
)
def test_little_to_go_by(x, y, degree, weights):
    result = fit(x, y, degree)
    expected = np.zeros(degree + 1)
    expected[: len(weights)] = weights
    assert result.weights == pytest.approx(expected, abs=1e-9)
    assert result.converged


def test_more_weights_than_samples_goes_through_them():
    x, y = [0.0, 1.0, 3.0], [1.0, -1.0, 2.0]
    result = fit(x, y, 6)
    assert result.predict(x) == pytest.approx(y, abs=1e-6)
    assert np.isinf(result.standard_errors).all()
    assert np.isnan(result.reduced_chi_squared)


def test_integers_that_float64_cannot_tell_apart_are_refused():
    x = 2**60 + np.arange(9)
    with pytest.raises(ValueError, match=r"x: wants integers up to 2\*\*53.*x - x.min\(\)"):
        fit(x, np.arange(9.0), 1)
    assert fit(x - x.min(), np.arange(9.0), 1).r_squared == pytest.approx(1)


def test_dates_are_refused_with_a_way_out():
    days = np.array(["2020-01-01", "2020-01-03", "2020-02-01"], "M8[D]")
    with pytest.raises(TypeError) as error:
        fit(days, [1.0, 2.0, 3.0], 1)
    way = str(error.value).split("date, ")[1]
    assert fit(eval(way, {"x": days, "np": np}), [1.0, 2.0, 3.0], 1).domain == (0.0, 31.0)


# -- what was chosen, and what keeps the run of before
# --------------------------------------------------------------------------------------


def test_the_posts_run_is_the_post_s(post):
    """Bit for bit what the loop of powers of x gives, which `train` and the exact numbers hold to elsewhere."""
    result = fit(*post, 4, 200_000, 1e-5, domain=None)
    assert result.domain is None
    assert len(result.mse) == result.steps == 200_000
    assert result.raw_weights.tolist() == result.weights.tolist()
    assert stability_limit(post[0], 4) == pytest.approx(2.1129792272e-5, rel=1e-9)


def test_a_mapped_run_is_the_raw_run_of_the_mapped_samples():
    x = np.linspace(1990, 2020, 31)
    y, t = np.sin(x), (2 * x - 4010) / 30
    for backend in ("numba", "gram", "spectral"):
        ours = fit(x, y, 3, 5000, 0.1, backend=backend)
        theirs = fit(t, y, 3, 5000, 0.1, backend=backend, domain=None)
        assert ours.weights == pytest.approx(theirs.weights, abs=1e-12)
        assert ours.mse[:10] == pytest.approx(theirs.mse[:10], rel=1e-10)
        assert (ours.steps, ours.learn_rate) == (5000, 0.1)


def test_a_domain_of_ones_own():
    x = np.linspace(2, 4, 20)
    result = fit(x, x**2, 2, domain=(0, 5))
    assert result.domain == (0.0, 5.0)
    assert result.window == (-1.0, 1.0)
    assert result.predict(4.5) == pytest.approx(4.5**2, abs=1e-4)
    assert result.raw_weights == pytest.approx([0, 0, 1], abs=1e-3)
    with pytest.raises(ValueError, match=r"domain: wants .* the lower first, got \(5, 0\)"):
        fit(x, x, 1, domain=(5, 0))


def test_numpys_polynomial_says_the_same():
    x = np.linspace(-3, 1e3, 50)
    result = fit(x, np.cos(x / 100), 5)
    polynomial = result.polynomial
    assert (polynomial.domain.tolist(), polynomial.window.tolist()) == ([-3.0, 1000.0], [-1.0, 1.0])
    assert polynomial(x) == pytest.approx(result.predict(x), abs=1e-12)
    assert polynomial.convert().coef == pytest.approx(result.raw_weights, rel=1e-9)
    assert np.polynomial.Polynomial(result.raw_weights)(x) == pytest.approx(result.predict(x), abs=1e-9)


def test_raw_weights_that_lose_digits_say_so():
    x = np.linspace(1990, 2020, 31)
    result = fit(x, np.sin(x), 4)
    with pytest.warns(RuntimeWarning, match=r"raw_weights: terms that are 1e\d+ times as large as the polynomial"):
        weights = result.raw_weights
    exact = np.polynomial.Polynomial(result.weights, (1990, 2020), (-1, 1)).convert().coef
    assert weights == pytest.approx(exact, rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(x - 2005, np.sin(x), 4).raw_weights.shape == (5,)


def test_the_rate_is_the_best_for_the_steps():
    """No other rate below the limit has a lower mse after as many steps."""
    x = np.linspace(0, 5, 40)
    for steps in (1, 3, 30, 1000):
        result = fit(x, np.exp(-x), 4, steps)
        assert result.steps == steps
        limit = stability_limit(x, 4, "auto")
        others = [fit(x, np.exp(-x), 4, steps, share * limit).final_mse for share in np.linspace(0.05, 0.95, 60)]
        assert result.final_mse <= min(others) * (1 + 1e-9)


def test_steps_are_enough_and_not_many_times_more():
    x = np.linspace(0, 5, 40)
    rng = np.random.default_rng(0)
    result = fit(x, np.exp(-x) + 1e-3 * rng.normal(size=40), 7)
    assert result.steps > 10**4
    assert result.final_mse <= 1.001 * result.least_squares_mse
    fewer = fit(x, np.exp(-x) + 1e-3 * rng.normal(size=40), 7, result.steps // 2, result.learn_rate)
    assert fewer.final_mse > 1.001 * fewer.least_squares_mse


def test_tensors_get_tensors():
    x = torch.linspace(100, 110, 30, dtype=torch.float64)
    result = fit(x, x.sin(), 5)
    assert isinstance(result.weights, torch.Tensor)
    assert isinstance(result.mse, torch.Tensor)
    assert result.predict(x).dtype == torch.float64
    assert result.predict(x.float()).dtype == torch.float32
    assert result.predict(x).numpy() == pytest.approx(fit(x.numpy(), np.sin(x.numpy()), 5).predict(x.numpy()))


# -- what it says of itself
# ------------------------------------------------------------------------------------------------------------------


def test_a_run_that_ends_early_says_what_gets_there():
    """Each message names a remedy, and the remedy works."""
    x = np.arange(1990, 2021.0)
    y = 354 + 1.5 * (x - 1990) + 0.02 * (x - 1990) ** 2
    with pytest.warns(ConvergenceWarning, match="leave out domain, steps and learn_rate") as caught:
        raw = fit(x, y, 2, 200_000, 6e-14, domain=None)
    assert caught[0].filename == __file__
    assert not raw.converged
    assert raw.r_squared < 0.5
    with pytest.warns(ConvergenceWarning, match=r"leave out steps, which are chosen then: [\d,]+ get there"):
        short = fit(x, y, 2, 3)
    assert short.steps_to_converge == 10**4
    with pytest.warns(ConvergenceWarning, match="leave out learn_rate"):
        slow = fit(x, y, 2, learn_rate=1e-15)
    assert slow.steps == 10**12
    for result in (raw, short, slow):
        assert result.final_mse > 1.5 * result.least_squares_mse
        assert result.gradient_norm > 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(x, y, 2).converged


def test_a_degree_that_gradient_descent_cannot_fit_is_told_of():
    x = np.linspace(-1, 1, 200)
    y = np.sign(np.sin(20 * x))
    with pytest.warns(ConvergenceWarning, match=r"its powers are too much alike.*; degree \d+ gets there") as caught:
        fit(x, y, 40)
    degree = int(str(caught[0].message).split("degree ")[1].split()[0])
    assert 10 < degree < 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(x, y, degree).converged


def test_divergence_names_a_way_that_works():
    x = np.arange(1990, 2021.0)
    y = 354 + 1.5 * (x - 1990)
    with pytest.warns(DivergenceWarning, match="leave out domain and learn_rate"):
        fit(x, y, 2, 200_000, 1e-5, domain=None)
    with pytest.warns(DivergenceWarning, match="the stability limit"):
        fit(x, y, 2, learn_rate=5.0)


def test_many_that_end_early_are_named():
    x = np.linspace(0, 1, 20)
    y = np.stack([np.zeros(20), np.sin(9 * x), x])
    with pytest.warns(ConvergenceWarning, match=r"2 of 3 problems ended far .* problem 1: .*; they are 1, 2"):
        result = fit_many(x, y, 3, 5)
    assert result.converged.tolist() == [True, False, False]


def test_the_numbers_of_a_run(post):
    """Against the residuals themselves, converged or not, mapped or not."""
    post = [samples.reshape(-1) for samples in post]
    for options in (dict(), dict(steps=50), dict(steps=200_000, learn_rate=1e-5, domain=None)):
        result = fit(*post, 4, **options)
        residual = post[1] - result.predict(post[0])
        t = post[0] if result.domain is None else (2 * post[0] - 5) / 5
        powers = t[:, None] ** np.arange(5)
        assert result.final_mse == pytest.approx(np.mean(residual**2), rel=1e-9)
        assert result.least_squares_mse == pytest.approx(least_squares(*post, 4), rel=1e-9)
        assert result.gradient_norm == pytest.approx(np.linalg.norm(2 / 100 * powers.T @ residual), rel=1e-6, abs=1e-12)
        assert result.r_squared == pytest.approx(1 - np.mean(residual**2) / np.var(post[1]), rel=1e-9)
        assert result.reduced_chi_squared == pytest.approx(residual @ residual / 95, rel=1e-9)
        more = result.steps_to_converge
        if more:
            rest = dict(domain=result.domain, initial_weights=result.weights)
            further = fit(*post, 4, more, result.learn_rate, **rest)
            assert further.final_mse <= 1.001 * further.least_squares_mse


def test_large_samples_cost_one_pass(tmp_path):
    """Beyond 4,096 samples the same answers, raw and mapped, from moments and from triangles."""
    rng = np.random.default_rng(3)
    x = rng.uniform(1990, 2020, 50_000)
    y = 1e4 + np.sin(x) + rng.normal(size=x.size)
    result = fit(x, y, 5)
    assert useful(result, x, y, least_squares(x, y, 5), np.var(y))
    z = (x - 2005) / 15
    raw = fit(z, np.sin(x), 3, 2000, 0.3, domain=None)
    assert raw.backend == "gram"
    assert raw.final_mse == pytest.approx(np.mean((np.sin(x) - raw.predict(z)) ** 2), rel=1e-8)
    assert raw.least_squares_mse == pytest.approx(least_squares(z, np.sin(x), 3), rel=1e-8)


def test_initial_weights_are_of_the_mapped_variable():
    x = np.linspace(100, 200, 30)
    first = fit(x, np.sqrt(x), 2, 100)
    again = fit(x, np.sqrt(x), 2, 0, initial_weights=first.weights)
    assert again.predict(x) == pytest.approx(first.predict(x), rel=1e-14)
    assert fit(x, np.sqrt(x), 2, initial_weights=first.weights).converged


def test_many_samples_are_mapped_as_they_are_read(monkeypatch, tmp_path):
    """The same bits as of few, by every backend that takes them, and never a copy of the whole."""
    x = np.linspace(1990, 2020, 20_000).astype(np.float32)
    y = np.sin(x)
    plain = {backend: fit(x, y, 3, 500, 0.3, backend=backend) for backend in ("numba", "gram", "spectral")}
    monkeypatch.setattr(_domain, "MANY", 1000)
    for backend, expected in plain.items():
        result = fit(x, y, 3, 500, 0.3, backend=backend)
        assert result.weights.tolist() == expected.weights.tolist()
    auto = fit(x, y, 3)
    assert auto.converged
    with pytest.warns(DivergenceWarning, match="leave out learn_rate$"):
        fit(x, y, 3, 500, 30.0, backend="gram")
    with pytest.warns(ConvergenceWarning):
        fit(x, y, 3, 5, backend="gram")
    monkeypatch.setattr(_domain.Mapped, "__array__", None)
    assert fit(x, y, 3).weights.tolist() == auto.weights.tolist()


@pytest.mark.parametrize("domain", [(-3.0, 7.0), (1.6e308, 1.7e308), (-5e307, 1e308), (0.1, 0.3)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8", np.int16, bool])
def test_a_kernel_maps_as_numpy_does(domain, dtype):
    """To the last bit, in whole vectors and in the rest, where 0 may be far outside of the interval."""
    if max(domain) > 1e300 and dtype is not np.float64:
        pytest.skip("the dtype has no such numbers")
    draws = np.random.default_rng(0)
    for n in (1, 511, 513, 100_003):
        x = (domain[0] + (domain[1] - domain[0]) * draws.random(n)).astype(dtype)
        y = draws.random(n)
        want = moments._terms(_domain.mapped(x, domain), y, 5, 0)
        for given in (x, np.repeat(x, 2)[::2]):
            assert np.array_equal(moments._terms(_domain.Mapped(given, domain), y, 5, 0), want, equal_nan=True)
