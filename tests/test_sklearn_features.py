"""The scikit-learn estimator with several features, weights and columns."""

import json
import warnings

import numpy as np
import pytest
from conftest import DATA
from sklearn import datasets
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from fastpoly import ConvergenceWarning, DivergenceWarning
from fastpoly.sklearn import PolynomialDescent

PROBLEMS = json.loads((DATA / "useful.json").read_text())


@pytest.fixture
def bmi():
    """Body mass index and the progression of diabetes: (442, 1) and (442,)."""
    data = datasets.load_diabetes()
    return data.data[:, [2]], data.target


# -- several features
# ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def diabetes():
    """Ten features, one of them of two values, and the progression of diabetes: (442, 10) and (442,)."""
    data = datasets.load_diabetes()
    return data.data, data.target


def matrix(X, degree, domain="auto"):
    """[1 | powers of the first feature | powers of the second | ...], each mapped to [-1, 1]."""
    lower, upper = (X.min(axis=0), X.max(axis=0)) if isinstance(domain, str) else np.transpose(domain)
    t = (2 * X - lower - upper) / (upper - lower)
    return np.column_stack([np.ones(len(X)), *(t[:, j] ** k for j in range(X.shape[1]) for k in range(1, degree + 1))])


@pytest.mark.parametrize("degree", [0, 1, 3, 6])
def test_an_additive_polynomial_is_near_least_squares(diabetes, degree):
    X, y = diabetes
    V = matrix(X, degree)
    least = np.mean((y - V @ np.linalg.lstsq(V, y)[0]) ** 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PolynomialDescent(degree).fit(X, y)
    mse = np.mean((y - model.predict(X)) ** 2)
    assert least <= mse * (1 + 1e-12)
    assert mse <= 1.001 * least
    result = model.result_
    assert result.converged
    assert (result.final_mse, result.least_squares_mse) == pytest.approx((mse, least), rel=1e-9)
    assert model.coef_.shape == (1 + 10 * degree,)
    assert model.predict(X) == pytest.approx(V @ model.coef_, rel=1e-12)
    assert model.score(X, y) == pytest.approx(result.r_squared, rel=1e-9, abs=1e-12)
    assert (model.n_features_in_, model.n_iter_, model.learn_rate_) == (10, result.steps, result.learn_rate)
    assert model.domain_.tolist() == np.column_stack([X.min(axis=0), X.max(axis=0)]).tolist()


def test_many_steps_are_least_squares_itself(diabetes):
    X, y = diabetes
    model = PolynomialDescent(3, steps=10**12).fit(X, y)
    V = matrix(X, 3)
    assert model.coef_ == pytest.approx(np.linalg.lstsq(V, y)[0], rel=1e-9, abs=1e-9)  # two values: the least weights
    others = np.delete(np.arange(10), 1)
    model.fit(X[:, others], y)
    V = matrix(X[:, others], 3)
    covariance = np.linalg.inv(V.T @ V) * np.sum((y - V @ model.coef_) ** 2) / (442 - 28)
    assert model.result_.covariance == pytest.approx(covariance, rel=1e-6)
    assert model.result_.degrees_of_freedom == 442 - 28


@pytest.mark.parametrize("options", [{}, {"ridge": 0.02}, {"ridge": [0, *[0.1] * 20]}, {"domain": [(-0.2, 0.3)] * 10}])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_descent_step_by_step(diabetes, options, weighted):
    X, y = diabetes
    weight = np.arange(442) % 4 if weighted else np.ones(442)
    domain, ridge = options.get("domain", "auto"), options.get("ridge", 0.0)
    V, w, mses = matrix(X[weight > 0], 2, domain), np.zeros(21), []
    share, rest = weight[weight > 0] / weight.sum(), y[weight > 0]
    for _ in range(300):
        mses.append(share @ (rest - V @ w) ** 2 + np.sum(ridge * w**2))
        w = w + 2 * 0.3 * (V.T @ (share * (rest - V @ w)) - ridge * w)
    model = PolynomialDescent(2, steps=300, learn_rate=0.3, trace_every=1, **options)
    model.fit(X, y, weight if weighted else None)
    assert model.coef_ == pytest.approx(w, rel=1e-9, abs=1e-9)
    assert model.result_.mse == pytest.approx(mses, rel=1e-10)


def test_a_feature_that_is_constant_changes_nothing(diabetes):
    X, y = diabetes
    model = PolynomialDescent(2).fit(X, y)
    more = PolynomialDescent(2).fit(np.column_stack([np.full(442, 7.0), X]), y)
    assert more.domain_[0].tolist() == [6, 8]
    assert more.coef_[1:3] == pytest.approx([0, 0], abs=1e-9)
    assert np.delete(more.coef_, [1, 2]) == pytest.approx(model.coef_, rel=1e-9)
    twice = PolynomialDescent(2).fit(np.column_stack([X, X[:, 2]]), y)
    assert twice.coef_[5:7] == pytest.approx(twice.coef_[21:], rel=1e-9)  # the same feature twice has half the weight
    assert twice.score(np.column_stack([X, X[:, 2]]), y) == pytest.approx(model.score(X, y), abs=1e-3)
    assert np.isinf(twice.result_.standard_errors).all()


def test_more_weights_than_samples_start_at_zeros_and_stay_small(diabetes):
    X, y = diabetes[0][:12], diabetes[1][:12]
    model = PolynomialDescent(4).fit(X, y)
    assert model.predict(X) == pytest.approx(y, rel=1e-2)
    V = matrix(X, 4)
    assert model.coef_ == pytest.approx(np.linalg.pinv(V) @ y, rel=1e-2, abs=1)
    assert model.result_.degrees_of_freedom == 12 - 41


def test_many_samples_are_read_in_blocks():
    rng = np.random.default_rng(0)
    X = rng.normal(1000, 3, (20_001, 3))
    Y = np.column_stack([np.sin(X[:, 0]) + X[:, 1] ** 2, X[:, 2] ** 3])
    model = PolynomialDescent(4, steps=10**12).fit(X, Y)
    V = matrix(X, 4)
    assert model.predict(X) == pytest.approx(V @ np.linalg.lstsq(V, Y)[0], rel=1e-9)
    assert model.result_[1].r_squared == pytest.approx(1, abs=1e-9)
    assert model.coef_.shape == (2, 13)


def test_the_mean_over_batches_of_predictions_is_the_same(diabetes):
    X, y = diabetes
    model = PolynomialDescent().fit(X, y)
    alone = [model.predict(row[None])[0] for row in X]
    assert alone == model.predict(X).tolist() == model.predict(np.asfortranarray(X)).tolist()


def test_a_grid_search_over_several_features_finds_what_least_squares_finds(diabetes):
    ours = make_pipeline(StandardScaler(), PolynomialDescent())
    powers = FunctionTransformer(lambda X, degree: matrix(X, degree, [(-1, 1)] * 10))
    theirs = make_pipeline(MinMaxScaler((-1, 1)), powers, LinearRegression())
    cv = KFold(5, shuffle=True, random_state=0)
    ours = GridSearchCV(ours, {"polynomialdescent__degree": range(5)}, cv=cv).fit(*diabetes)
    theirs = GridSearchCV(theirs, {"functiontransformer__kw_args": [{"degree": d} for d in range(5)]}, cv=cv).fit(
        *diabetes
    )
    assert ours.best_index_ == theirs.best_index_ > 0
    scores = [search.cv_results_["mean_test_score"][:4] for search in (ours, theirs)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backend": "numba"},
            r"backend: wants 'auto' or 'spectral' with several features, got 'numba'; choose one, X\[",
        ),
        ({"backend": "abacus"}, "backend: wants 'auto' or 'spectral'"),
        ({"precision": "mixed"}, r"precision: wants 'double' with several features, got 'mixed'; choose one, X\["),
        ({"precision": "triple"}, "precision: wants one of double, mixed, single"),
        ({"ridge": [1, 2]}, "ridge: wants a number, or 41 for degree 4 in 10 features, got 2"),
        ({"domain": [(0, 1)] * 9}, "domain: wants two numbers, or a pair of them for each of 10 features, got 9"),
        ({"domain": [(0, 1)] * 9 + [(1, 0)]}, "feature 9: domain: wants"),
        ({"domain": "best"}, "domain: wants 'auto'"),
        ({"domain": (1, 0)}, "^domain: wants"),
        ({"degree": 1.5}, "degree: wants an integer"),
        ({"learn_rate": -1}, "learn_rate: wants"),
        ({"learn_rate": 1e308}, "learn_rate: wants one that float64 can step by"),
    ],
)
def test_what_several_features_cannot_have(diabetes, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        PolynomialDescent(**options).fit(*diabetes)


def test_samples_that_several_features_cannot_have(diabetes, monkeypatch):
    X, y = diabetes
    with pytest.raises(ValueError, match="want numbers whose powers float64 can hold; choose domain='auto'"):
        PolynomialDescent(domain=None).fit(X * 1e100, y)
    with pytest.raises(ValueError, match=r"feature 1: x: wants integers up to 2\*\*53"):
        PolynomialDescent().fit(2**60 * np.arange(2) + np.arange(20).reshape(10, 2), y[:10])
    with pytest.raises(ValueError, match="sample_weight: wants a number, or one for each of 442"):
        PolynomialDescent().fit(X, y, np.ones(441))
    monkeypatch.setattr("fastpoly._memory.available_bytes", lambda: 10**9)
    with pytest.raises(MemoryError, match=r"100 rows of 400,002 columns.*; choose fewer features, or a lower degree"):
        PolynomialDescent().fit(np.random.default_rng(0).random((100, 100_000)), y[:100])


def test_warnings_of_several_features_name_what_gets_there(diabetes):
    X, y = diabetes
    for options, message in (
        ({"steps": 3}, "leave out steps, which are chosen then: 40,000 get there"),
        ({"learn_rate": 1e-9, "domain": None}, "leave out domain, steps and learn_rate: with x mapped"),
        ({"learn_rate": 1e-13}, "leave out steps and learn_rate|leave out learn_rate, which is chosen then"),
        ({"degree": 20}, "its powers are too much alike for gradient descent; degree (\\d+) gets there"),
    ):
        with pytest.warns(
            ConvergenceWarning, match=f"^ended far from the minimum: .* least squares' .*; {message}"
        ) as caught:
            model = PolynomialDescent(**{"degree": 2, **options}).fit(X, y)
        assert caught[0].filename == __file__
        assert not model.result_.converged
    named = int(str(caught[0].message).split("; degree ")[1].split()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PolynomialDescent(named).fit(X, y)
    with pytest.warns(
        DivergenceWarning, match="diverged at step 41: .* above the stability limit 0.353; choose one below"
    ):
        model = PolynomialDescent(2, steps=10**4, learn_rate=1e3).fit(X, y)
    assert model.n_iter_ == model.result_.diverged_at == 41
    with pytest.warns(DivergenceWarning, match="diverging: the mse grew from 2.907e\\+04 to .* at step 3"):
        PolynomialDescent(2, steps=3, learn_rate=0.9).fit(X, y)


# -- weights and columns
# ------------------------------------------------------------------------------------------------------------------


def test_weights_stand_for_samples_that_are_repeated_and_left_out(bmi):
    X, y = bmi
    weight = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = PolynomialDescent().fit(X, y, weight)
    repeated = PolynomialDescent().fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert weighted.coef_ == pytest.approx(repeated.coef_, rel=1e-9)
    assert weighted.n_iter_ == repeated.n_iter_
    assert weighted.predict(X) != pytest.approx(PolynomialDescent().fit(X, y).predict(X), rel=1e-3)
    assert PolynomialDescent().fit(X, y, 7.0).coef_ == pytest.approx(PolynomialDescent().fit(X, y).coef_, rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"ridge": 0.01}, {"domain": None, "learn_rate": 0.1, "steps": 10**6}])
@pytest.mark.parametrize("weighted", [False, True])
def test_columns_are_fitted_each_by_itself(bmi, options, weighted):
    X, y = bmi
    Y = np.column_stack([y, 100 * X[:, 0] ** 2, np.sin(9 * X[:, 0])])
    weight = np.linspace(0, 1, len(y)) if weighted else None
    model = PolynomialDescent(3, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y, weight)
        alone = [clone(model).fit(X, column, weight) for column in Y.T]
    assert model.coef_.shape == (3, 4)
    assert model.learn_rate_.shape == (3,)
    assert model.predict(X).shape == Y.shape
    assert isinstance(model.n_iter_, int)
    for k, one in enumerate(alone):
        size = np.abs(one.predict(X)).max()
        assert model.predict(X)[:, k] == pytest.approx(one.predict(X), abs=1e-3 * size)
        assert model.result_[k].predict(X[:, 0]) == pytest.approx(model.predict(X)[:, k], rel=1e-12)
        assert model.result_[k].final_mse == pytest.approx(one.result_.final_mse, rel=2e-3, abs=1e-12 * size**2)
    assert model.score(X, Y, weight) == pytest.approx(
        np.mean([one.score(X, Y[:, k], weight) for k, one in enumerate(alone)]), abs=1e-4
    )


def test_a_column_of_y_is_a_column_of_predictions(bmi):
    X, y = bmi
    model = PolynomialDescent().fit(X, y[:, None])
    assert model.predict(X).shape == (442, 1)
    assert model.coef_.shape == (1, 5)
    assert len(model.result_) == 1
    assert model.predict(X)[:, 0].tolist() == PolynomialDescent().fit(X, y).predict(X).tolist()
