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
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

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

COLUMNS = "the check takes columns of an X that the tag one_d_array has it make one-dimensional: its own IndexError"
SEVERAL = "the check fits several features, whatever the tags say"
ONE = "X of one dimension is not refused: it is one feature"
EXPECTED = {
    "check_dict_unchanged": COLUMNS,
    "check_dont_overwrite_parameters": COLUMNS,
    "check_dtype_object": COLUMNS,
    "check_f_contiguous_array_estimator": COLUMNS,
    "check_fit2d_1feature": COLUMNS,
    "check_fit2d_1sample": COLUMNS,
    "check_fit2d_predict1d": COLUMNS,
    "check_methods_sample_order_invariance": COLUMNS,
    "check_methods_subset_invariance": COLUMNS,
    "check_n_features_in": COLUMNS,
    "check_n_features_in_after_fitting": COLUMNS,
    "check_regressors_no_decision_function": COLUMNS,
    "check_sample_weight_equivalence_on_dense_data": SEVERAL,
    "check_sample_weights_not_overwritten": SEVERAL,
    "check_sample_weights_shape": SEVERAL,
    "check_estimator_sparse_array": "the check makes a sparse X of one dimension, for which scipy has too few formats",
    "check_fit1d": ONE,
}


class FirstFeature(PolynomialDescent):
    """Of several features the first: so all checks can run, those too that an estimator of one feature cannot pass."""

    def _one_feature(self, X):
        return X[:, 0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = False
        return tags


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        pytest.param(PolynomialDescent(), EXPECTED, id="one feature"),
        pytest.param(FirstFeature(), dict.fromkeys(("check_fit1d", "check_fit2d_predict1d"), ONE), id="the first"),
    ],
)
def test_scikit_learns_checks(estimator, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks' own making
        done = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    failed = [f"{one['check_name']}: {one['exception']!r}" for one in done if one["status"] == "failed"]
    assert not failed, "\n".join(failed)
    assert {one["check_name"] for one in done if one["status"] == "xfail"} == set(expected)
    assert sum(one["status"] == "passed" for one in done) >= 40
    crashed = {one["check_name"] for one in done if isinstance(one["exception"], IndexError)}
    assert crashed == {name for name, reason in expected.items() if reason is COLUMNS}


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
    for name, x, y in pairs():
        for steps, most, seeds in (("auto", 5, (0, 1)), (10**12, 8, (2,))):
            for seed in seeds:
                degree = chosen(PolynomialDescent(steps=steps), range(most + 1), x, y, seed)
                assert degree == chosen(LeastSquares(), range(most + 1), x, y, seed), f"{name}, {steps} steps, {seed}"
                found[degree] += 1
    assert len(found) >= 6  # it is not always the same one
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


def test_data_frames_and_series_have_names():
    frame = datasets.load_diabetes(as_frame=True)
    X, y = frame.data[["bmi"]], frame.target
    model = PolynomialDescent().fit(X, y)
    assert model.feature_names_in_.tolist() == ["bmi"]
    assert model.n_features_in_ == 1
    series = PolynomialDescent().fit(X["bmi"], y)
    assert series.feature_names_in_.tolist() == ["bmi"]
    assert model.predict(X).tolist() == series.predict(X["bmi"]).tolist() == model.predict(X["bmi"]).tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.data[["bp"]])
    assert not hasattr(clone(model).fit(X.to_numpy(), y), "feature_names_in_")
    assert PolynomialDescent().fit(X.to_numpy()[:, 0].tolist(), y.tolist()).coef_.tolist() == model.coef_.tolist()
    several = PolynomialDescent(1).fit(X, pd.DataFrame({"a": y, "b": -y}))
    assert several.predict(X)[:, 0] == pytest.approx(-several.predict(X)[:, 1])


def test_several_features_are_refused_with_ways_out():
    frame = datasets.load_diabetes(as_frame=True)
    X, y = frame.data, frame.target
    model = PolynomialDescent()
    with pytest.raises(ValueError, match=r"X: wants one feature, got 10; choose one, X\[:, \[0\]\]") as error:
        model.fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    for way in ("X[['name']]", "sklearn.compose.ColumnTransformer"):
        assert way in str(error.value)
    bmi = PolynomialDescent().fit(X[["bmi"]], y)
    chosen = make_pipeline(ColumnTransformer([("x", "passthrough", ["bmi"])]), PolynomialDescent()).fit(X, y)
    assert chosen.predict(X).tolist() == bmi.predict(X[["bmi"]]).tolist()
    with pytest.raises(ValueError, match="X has 10 features, but PolynomialDescent is expecting 1 feature"):
        PolynomialDescent().fit(X[["bmi"]].to_numpy(), y).predict(X.to_numpy())


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
    kept = pickle.dumps(columns)
    assert len(kept) < X.nbytes  # without the samples
    assert pickle.loads(kept).predict(X).tolist() == columns.predict(X).tolist()
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
        PolynomialDescent().fit(2**60 + np.arange(442), y)


@pytest.mark.parametrize("missing", ["sklearn", "scipy", "sklearn.utils.validation"])
def test_without_scikit_learn_it_says_what_brings_it(missing):
    code = f"import sys; sys.modules['{missing}'] = None; import fastpoly.sklearn"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: fastpoly.sklearn needs scikit-learn 1.6 or later; pip install 'fastpoly[sklearn]'"
    )
