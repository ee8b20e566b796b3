"""The scikit-learn estimator: it keeps scikit-learn's conventions, and finds what `fit` and least squares find."""

import json
import pickle
import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import DATA
from joblib import Parallel, delayed
from scipy.sparse import csr_array
from sklearn import datasets
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from fastpoly import ConvergenceWarning, DivergenceWarning, fit
from fastpoly.sklearn import PolynomialDescent

PROBLEMS = json.loads((DATA / "useful.json").read_text())


@pytest.fixture
def bmi():
    """Body mass index and the progression of diabetes: (442, 1) and (442,)."""
    data = datasets.load_diabetes()
    return data.data[:, [2]], data.target


# -- scikit-learn's own checks
# ------------------------------------------------------------------------------------------------------------------


def test_scikit_learns_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks' own making
        done = check_estimator(PolynomialDescent(), on_skip=None)  # what fails is raised
    found = Counter(one["status"] for one in done)
    assert found["passed"] >= 50
    assert set(found) <= {"passed", "skipped"}
    tags = get_tags(PolynomialDescent())
    easier = (
        *(getattr(tags.input_tags, name) for name in ("one_d_array", "sparse", "allow_nan")),
        *(tags.regressor_tags.poor_score, tags.non_deterministic, tags.no_validation, tags._skip_test),
    )
    assert not any(easier)


@parametrize_with_checks([PolynomialDescent()])
def test_each_of_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


# -- what it finds
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS, ids=[problem["name"] for problem in PROBLEMS])
def test_public_problems(problem):
    """With nothing set but the degree, within 1 % of least squares, and a millionth of the variance."""
    X, y = np.array(problem["x"])[:, None], np.array(problem["y"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PolynomialDescent(problem["degree"]).fit(X, y)
    mse = np.mean((y - model.predict(X)) ** 2)
    assert mse <= 1.01 * problem["least_squares_mse"] + 1e-6 * problem["variance"]
    assert model.score(X, y) == pytest.approx(1 - mse / problem["variance"], abs=1e-9)
    assert model.result_.converged


class LeastSquares(RegressorMixin, BaseEstimator):
    """numpy's."""

    def __init__(self, degree=1):
        self.degree = degree

    def fit(self, X, y):
        self.polynomial_ = np.polynomial.Polynomial.fit(X[:, 0], y, self.degree)
        return self

    def predict(self, X):
        return self.polynomial_(X[:, 0])


def pairs():
    """Name, x and y from scikit-learn's data sets."""
    diabetes, iris, wine, cancer, linnerud = (
        getattr(datasets, f"load_{name}")() for name in ("diabetes", "iris", "wine", "breast_cancer", "linnerud")
    )
    for k in (0, 2, 3, 6, 8):
        yield f"diabetes {diabetes.feature_names[k]}", diabetes.data[:, k], diabetes.target
    for k, other in ((0, 2), (2, 0), (2, 1), (3, 2)):
        yield f"iris {k} {other}", iris.data[:, k], iris.data[:, other]
    for k, other in ((0, 10), (6, 10), (10, 1), (12, 4)):
        yield f"wine {k} {other}", wine.data[:, k], wine.data[:, other]
    for k, other in ((2, 7), (6, 1)):
        yield f"cancer {k} {other}", cancer.data[:, k], cancer.data[:, other]
    yield "linnerud 0 1", linnerud.data[:, 0], linnerud.target[:, 1]


def chosen(model, degrees, x, y, seed):
    cv = KFold(5, shuffle=True, random_state=seed)
    search = GridSearchCV(model, {"degree": degrees}, scoring="neg_mean_squared_error", cv=cv)
    return search.fit(x[:, None], y).best_params_["degree"]


def test_a_grid_search_finds_the_degree_that_least_squares_finds():
    """Up to degree 5 with steps chosen, whose mse of the samples is near enough; up to 8 with as many as there are."""
    found = Counter()
    for seed, (name, x, y) in enumerate(pairs()):
        steps, most = (10**12, 8) if seed % 2 else ("auto", 5)
        degree = chosen(PolynomialDescent(steps=steps), range(most + 1), x, y, seed)
        assert degree == chosen(LeastSquares(), range(most + 1), x, y, seed), f"{name}, {steps} steps"
        found[degree] += 1
    assert len(found) >= 5  # it is not always the same one
    assert max(found.values()) < found.total() / 2


def test_a_grid_search_over_steps_stops_early(bmi):
    """Few steps are a regularisation: of a high degree and few samples the best number is not the largest."""
    X, y = bmi[0][:40], bmi[1][:40]
    grid = {"degree": [2, 9], "steps": [10, 100, 10**9]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(PolynomialDescent(), grid, cv=KFold(4), scoring="neg_mean_squared_error").fit(X, y)
    scores = dict(zip(map(str, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True))
    high = [scores[str({"degree": 9, "steps": steps})] for steps in grid["steps"]]
    assert max(high) > high[-1]


def test_it_says_what_fit_says(bmi):
    X, y = bmi
    options = dict(degree=3, steps=50_000, learn_rate=0.05, domain=(-1, 1), ridge=1e-3)
    model, result = PolynomialDescent(**options).fit(X, y), fit(X, y, trace_every=None, **options)
    assert model.coef_.tolist() == result.weights.tolist()
    assert (model.n_iter_, model.learn_rate_, model.domain_) == (50_000, 0.05, (-1.0, 1.0))
    assert model.predict(X).tolist() == result.predict(X[:, 0]).tolist()
    assert model.result_.raw_weights == pytest.approx(result.raw_weights)
    auto, result = PolynomialDescent().fit(X, y), fit(X, y)
    assert auto.get_params() == dict(
        degree=4,
        steps="auto",
        learn_rate="auto",
        domain="auto",
        ridge=0.0,
        backend="auto",
        precision="double",
        trace_every=None,
    )
    assert (auto.n_iter_, auto.learn_rate_, auto.domain_) == (result.steps, result.learn_rate, result.domain)
    assert len(auto.result_.mse) == 0
    assert len(PolynomialDescent(steps=100, trace_every=10, learn_rate=0.5).fit(X, X[:, 0] * 0).result_.mse) == 10


@pytest.mark.parametrize("precision", ["double", "mixed", "single"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, bool])
def test_predictions_are_float64(precision, dtype):
    X = np.arange(20).reshape(-1, 1).astype(dtype)
    y = (3 - 0.5 * X[:, 0]).astype(np.float32)
    model = PolynomialDescent(1, precision=precision).fit(X, y)
    assert model.predict(X).dtype == np.float64
    assert model.predict(X) == pytest.approx(y, abs=1e-4)
    assert model.coef_.dtype == (np.float64 if precision == "double" else np.float32)


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


# -- at home in scikit-learn
# ------------------------------------------------------------------------------------------------------------------


def test_data_frames_have_names():
    frame = datasets.load_diabetes(as_frame=True)
    X, y = frame.data[["bmi"]], frame.target
    model = PolynomialDescent().fit(X, y)
    assert model.feature_names_in_.tolist() == ["bmi"]
    assert model.n_features_in_ == 1
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.data[["bp"]])
    assert not hasattr(clone(model).fit(X.to_numpy(), y), "feature_names_in_")
    assert PolynomialDescent().fit(X.to_numpy().tolist(), y.tolist()).coef_.tolist() == model.coef_.tolist()
    several = PolynomialDescent(1).fit(X, pd.DataFrame({"a": y, "b": -y}))
    assert several.predict(X)[:, 0] == pytest.approx(-several.predict(X)[:, 1])


def test_names_choose_columns():
    frame = datasets.load_diabetes(as_frame=True)
    X, y = frame.data, frame.target
    bmi = PolynomialDescent().fit(X[["bmi"]], y)
    chosen = make_pipeline(ColumnTransformer([("x", "passthrough", ["bmi"])]), PolynomialDescent()).fit(X, y)
    assert chosen.predict(X).tolist() == bmi.predict(X[["bmi"]]).tolist()
    several = PolynomialDescent().fit(X, y)
    assert several.feature_names_in_.tolist() == X.columns.tolist()
    with pytest.raises(ValueError, match="names must be in the same order"):
        several.predict(X[X.columns[::-1]])
    with pytest.raises(ValueError, match="X has 10 features, but PolynomialDescent is expecting 1 feature"):
        PolynomialDescent().fit(X[["bmi"]].to_numpy(), y).predict(X.to_numpy())


@pytest.mark.parametrize("way", [list, np.asarray, pd.Series, lambda x: pd.Series(x, name="bmi")])
def test_one_dimension_is_refused_as_scikit_learn_refuses_it(bmi, way):
    X, y = bmi
    model = PolynomialDescent().fit(X, y)
    for use in (lambda x: PolynomialDescent().fit(x, y), model.predict):
        with pytest.raises(ValueError, match=r"Expected (2D array, got 1D array|a 2-dimensional container)"):
            use(way(X[:40, 0]))


def test_pipelines_and_transformed_targets(bmi):
    X, y = bmi
    plain = PolynomialDescent().fit(X, y)
    scaled = make_pipeline(StandardScaler(), PolynomialDescent()).fit(X, y)
    assert scaled.predict(X) == pytest.approx(plain.predict(X), rel=1e-9)
    assert scaled.set_params(polynomialdescent__degree=1).fit(X, y)[-1].coef_.shape == (2,)
    weighted = scaled.fit(X, y, polynomialdescent__sample_weight=np.arange(442))
    assert weighted.predict(X) != pytest.approx(scaled.fit(X, y).predict(X))
    logarithm = FunctionTransformer(np.log, np.exp)
    growth = TransformedTargetRegressor(PolynomialDescent(1), transformer=logarithm).fit(X, np.exp(30 * X[:, 0]))
    assert growth.predict(X) == pytest.approx(np.exp(30 * X[:, 0]), rel=1e-6)


def test_cross_validation_is_least_squares(bmi):
    cv = KFold(5, shuffle=True, random_state=0)
    ours = cross_val_score(PolynomialDescent(), *bmi, cv=cv)
    assert ours == pytest.approx(cross_val_score(LeastSquares(4), *bmi, cv=cv), abs=1e-3)


def test_copies_and_pickles(bmi):
    X, y = bmi
    model = PolynomialDescent(3, ridge=[0, 1e-3, 1e-3, 1e-3], trace_every=1000).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert again.predict(X).tolist() == model.predict(X).tolist()
    assert again.get_params() == model.get_params()
    assert again.result_.standard_errors == pytest.approx(model.result_.standard_errors)
    copy = clone(model)
    with pytest.raises(NotFittedError):
        copy.predict(X)
    assert copy.fit(X, y).predict(X).tolist() == model.predict(X).tolist()
    columns = PolynomialDescent(3).fit(X, np.column_stack([y, -y]))
    several = PolynomialDescent(2).fit(np.column_stack([X, X**2, np.sin(X)]), y)
    for fitted, places in ((columns, X), (several, np.column_stack([X] * 3))):
        kept = pickle.dumps(fitted)
        assert len(kept) < X.nbytes  # without the samples
        assert pickle.loads(kept).predict(places).tolist() == fitted.predict(places).tolist()
    assert pickle.loads(kept).result_.final_mse == several.result_.final_mse
    assert repr(several.result_).startswith("AdditiveResult(7 weights; ")
    assert "PolynomialDescent" in model._repr_html_()
    assert repr(PolynomialDescent(degree=2)) == "PolynomialDescent(degree=2)"


@pytest.mark.slow
def test_other_processes(bmi):
    grid = {"degree": range(1, 6), "steps": ["auto", 10**6]}
    one, two = (GridSearchCV(PolynomialDescent(), grid, n_jobs=jobs).fit(*bmi) for jobs in (1, 2))
    assert one.best_params_ == two.best_params_
    assert two.cv_results_["mean_test_score"].tolist() == one.cv_results_["mean_test_score"].tolist()
    models = Parallel(n_jobs=2)(delayed(PolynomialDescent(degree).fit)(*bmi) for degree in (1, 2))
    assert [len(model.coef_) for model in models] == [2, 3]
    assert models[1].predict(bmi[0]).tolist() == PolynomialDescent(2).fit(*bmi).predict(bmi[0]).tolist()


# -- what it says when things go wrong
# ------------------------------------------------------------------------------------------------------------------


def test_warnings_are_those_of_fit_and_name_the_callers_line(bmi):
    with pytest.warns(ConvergenceWarning, match="leave out steps") as caught:
        PolynomialDescent(6, steps=3).fit(*bmi)
    assert caught[0].filename == __file__
    with pytest.warns(DivergenceWarning, match="leave out learn_rate$"):
        PolynomialDescent(learn_rate=1e3, steps=10**4).fit(*bmi)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"degree": -1}, "degree: wants an integer >= 0"),
        ({"steps": "many"}, "steps: wants 'auto' or a number"),
        ({"learn_rate": 0}, "learn_rate: wants"),
        ({"domain": (1, 0)}, "domain: wants"),
        ({"ridge": -1}, "ridge: wants numbers >= 0"),
        ({"backend": "abacus"}, "abacus"),
        ({"precision": "triple"}, "precision: wants"),
        ({"trace_every": 0}, "trace_every: wants"),
    ],
)
def test_parameters_are_checked_in_fit(bmi, options, message):
    model = PolynomialDescent(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(*bmi)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(442), "sample_weight: is zero for every sample"),
        (np.ones(441), "sample_weight: wants a number, or one for each of 442"),
        (np.full(442, -1.0), "sample_weight: wants non-negative numbers"),
        (np.full(442, np.nan), "sample_weight: wants finite numbers"),
    ],
)
def test_weights_are_checked(bmi, weight, message):
    with pytest.raises(ValueError, match=message):
        PolynomialDescent().fit(*bmi, weight)


def test_what_scikit_learn_would_misread_is_refused(bmi):
    X, y = bmi
    for samples, values in ((np.ma.masked_less(X, 0), y), (X, np.ma.masked_less(y, 50))):
        with pytest.raises(ValueError, match=r"(X|y): has masked entries; leave such samples out"):
            PolynomialDescent().fit(samples, values)
    with pytest.raises(ValueError, match="X: has masked entries"):
        PolynomialDescent().fit(X, y).predict(np.ma.masked_less(X, 0))
    for samples, values in ((csr_array(X), y), (X, csr_array(y[:, None]))):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            PolynomialDescent().fit(samples, values)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        PolynomialDescent().fit(X, np.column_stack([y, y])[:-1])
    with pytest.raises(ValueError, match=r"x: wants integers up to 2\*\*53"):
        PolynomialDescent().fit(2**60 + np.arange(442)[:, None], y)


@pytest.mark.parametrize("missing", ["sklearn", "scipy", "sklearn.utils.validation"])
def test_without_scikit_learn_it_says_what_brings_it(missing):
    code = f"import sys; sys.modules['{missing}'] = None; import fastpoly.sklearn"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: fastpoly.sklearn needs scikit-learn 1.6 or later; pip install 'fastpoly[sklearn]'"
    )
