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
