"""fit_many: many fits in one call, each what fit gives."""

import re
import signal
import tracemalloc

import numpy as np
import pytest
import torch
from raw_runs import fit, fit_many

from fastpoly import DivergenceWarning, Interrupted, stability_limit

BACKENDS = [("spectral", "double"), ("gram", "double"), ("gram", "mixed"), ("numba", "double"), ("numba", "single")]
NAN = float("nan")
RNG = np.random.default_rng(5)
N, BATCH = 30, 7
X = np.linspace(-1, 1, N)
OWN_X = np.sort(RNG.uniform(-1, 1, (BATCH, N)), axis=1)
Y = RNG.normal(size=(BATCH, N))
RATES = np.linspace(0.05, 0.3, BATCH)


def one_by_one(x, y, degree, steps, rates, **options):
    """The same by fit, on the loop."""
    return [
        fit(x if x.ndim == 1 else x[i], y[i], degree, steps, float(rate), **{**options, "backend": "numba"})
        for i, rate in enumerate(np.broadcast_to(rates, len(y)))
    ]


@pytest.mark.parametrize("x", [X, OWN_X], ids=["shared", "own"])
@pytest.mark.parametrize("rates", [0.2, RATES], ids=["one-rate", "rates"])
@pytest.mark.parametrize("trace_every", [None, 1, 7])
@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
def test_each_problem_is_what_fit_gives(backend, precision, x, rates, trace_every):
    options = dict(precision=precision, trace_every=trace_every)
    many = fit_many(x, Y, 3, 60, rates, backend=backend, **options)
    assert many.backend == backend
    assert many.weights.shape == (BATCH, 4)
    assert many.weights.dtype == (np.float64 if precision == "double" else np.float32)
    tolerance = 1e-13 if precision == "double" else 1e-6
    for i, alone in enumerate(one_by_one(x, Y, 3, 60, rates, **options)):
        assert many.weights[i] == pytest.approx(alone.weights, abs=tolerance)
        assert many.mse[i] == pytest.approx(alone.mse, abs=tolerance)
    assert many.diverged_at is None


@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
@pytest.mark.parametrize("start", [[1.0, -2.0, 0.5], RNG.normal(size=(BATCH, 3))], ids=["shared", "own"])
def test_initial_weights(backend, precision, start):
    many = fit_many(X, Y, 2, 40, 0.2, backend=backend, precision=precision, initial_weights=start, trace_every=10)
    for i, first in enumerate(np.broadcast_to(start, (BATCH, 3))):
        alone = fit(X, Y[i], 2, 40, 0.2, backend="numba", precision=precision, initial_weights=first, trace_every=10)
        assert many.weights[i] == pytest.approx(alone.weights, abs=1e-13 if precision == "double" else 1e-6)
        assert many.mse[i] == pytest.approx(alone.mse, abs=1e-13 if precision == "double" else 1e-5)


@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
@pytest.mark.parametrize("steps", [0, 1])
def test_few_steps(backend, precision, steps):
    many = fit_many(X, Y, 2, steps, 0.2, backend=backend, precision=precision, trace_every=1)
    assert many.mse.shape == (BATCH, steps)
    expected = np.stack([alone.weights for alone in one_by_one(X, Y, 2, steps, 0.2, precision=precision)])
    assert many.weights == pytest.approx(expected, abs=1e-15 if precision == "double" else 1e-7)


@pytest.mark.parametrize("x", [X, np.tile(X, (BATCH, 1))], ids=["shared", "own"])
@pytest.mark.parametrize("trace_every", [None, 1, 13])
@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
def test_divergence_of_some_leaves_the_others_alone(backend, precision, x, trace_every):
    rates = np.full(BATCH, 0.2)
    rates[[2, 5]] = np.array([1.5, 3.0]) * stability_limit(X, 3)
    options = dict(precision=precision, trace_every=trace_every)
    with pytest.warns(DivergenceWarning, match=r"2 of 7 problems diverged, first problem 2 at step \d") as caught:
        many = fit_many(x, Y, 3, 2_000, rates, backend=backend, **options)
    assert caught[0].filename == __file__
    for i in range(BATCH):
        if i in (2, 5):
            with pytest.warns(DivergenceWarning):
                alone = one_by_one(x[i] if x.ndim > 1 else x, Y[i : i + 1], 3, 2_000, rates[i], **options)[0]
            assert many.diverged_at[i] == alone.diverged_at
        else:
            alone = one_by_one(x[i] if x.ndim > 1 else x, Y[i : i + 1], 3, 2_000, rates[i], **options)[0]
            assert many.diverged_at[i] == -1
        kept = len(alone.mse)
        assert many.mse[i, :kept] == pytest.approx(alone.mse, rel=1e-9 if precision == "double" else 1e-3, abs=1e-6)
        assert np.isnan(many.mse[i, kept:]).all()
        largest = float(np.abs(alone.weights).max())  # what has not grown is lost in the roundings of what has
        assert many.weights[i] == pytest.approx(alone.weights, abs=(1e-9 if precision == "double" else 1e-3) * largest)


@pytest.mark.parametrize("backend", ["spectral", "gram", "numba"])
def test_one_problem_beyond_float64(backend):
    y = Y.copy()
    y[3] *= 1e200  # its first mse overflows
    with pytest.warns(DivergenceWarning, match="1 of 7 problems diverged, first problem 3 at step 0"):
        many = fit_many(X, y, 3, 50, 0.2, backend=backend)
    assert many.diverged_at.tolist() == [-1, -1, -1, 0, -1, -1, -1]
    assert not many.weights[3].any()
    assert many.weights[4] == pytest.approx(fit(X, Y[4], 3, 50, 0.2).weights, abs=1e-14)


@pytest.mark.parametrize("backend", ["spectral", "gram", "numba"])
def test_fewer_samples_than_weights(backend):
    x = np.array([0.5, -0.5])
    many = fit_many(x, Y[:, :2], 4, 300, 0.2, backend=backend)
    for i in range(BATCH):
        assert many.weights[i] == pytest.approx(fit(x, Y[i, :2], 4, 300, 0.2, backend="numba").weights, abs=1e-13)


@pytest.mark.parametrize("backend", ["spectral", "gram"])
@pytest.mark.parametrize("own", [False, True])
def test_portions_do_not_show(backend, own, monkeypatch):
    x = OWN_X if own else X
    whole = fit_many(x, Y, 3, 100, 0.2, backend=backend, trace_every=9)
    monkeypatch.setattr("fastpoly._backends.spectral_many.VALUES", 1)
    monkeypatch.setattr("fastpoly._backends.gram_many.CHUNK", 1)
    monkeypatch.setattr("fastpoly._backends.each.PORTION", 2)
    seen = []
    cut = fit_many(x, Y, 3, 100, 0.2, backend=backend, trace_every=9, progress=lambda *at: seen.append(at))
    assert len(seen) > 1
    assert seen[-1] == (BATCH, BATCH)
    assert cut.weights == pytest.approx(whole.weights, abs=1e-15)
    assert cut.mse == pytest.approx(whole.mse, abs=1e-15)


def test_the_precision_chooses_the_backend():
    chosen = {p: fit_many(X, Y, 1, 5, 0.1, precision=p).backend for p in ("double", "mixed", "single")}
    assert chosen == {"double": "spectral", "mixed": "gram", "single": "numba"}


def test_temporary_memory_is_bounded():
    y = np.random.default_rng(0).normal(size=(20_000, 100))  # 16 MB; its powers with own x would be 80 MB
    x = np.tile(np.linspace(0, 1, 100), (20_000, 1))
    fit_many(x[:2], y[:2], 4, 10, 0.1)
    tracemalloc.start()
    fit_many(x, y, 4, 1000, 0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6


def test_the_result_of_a_batch():
    many = fit_many(X, Y, 3, 10, 0.1)
    at = np.array([[0.1, 0.2]])
    assert many.predict(at).shape == (BATCH, 1, 2)
    assert many.predict(0.1)[2] == pytest.approx(np.polynomial.polynomial.polyval(0.1, many.weights[2]))
    assert repr(many).startswith("FitBatch(7 polynomials of degree 3; 10 steps, spectral double")
    with pytest.raises(ValueError, match="there are 7 fits"):
        _ = many.polynomial


def test_tensors_in_tensors_out():
    many = fit_many(torch.tensor(X), torch.tensor(Y), 3, 10, 0.1, trace_every=1)
    assert isinstance(many.weights, torch.Tensor)
    assert many.mse.shape == (BATCH, 10)
    assert many.predict(torch.tensor([0.1])).shape == (BATCH, 1)
    assert np.array_equal(many.weights.numpy(), fit_many(X, Y, 3, 10, 0.1).weights)


def test_ctrl_c_keeps_the_finished_problems(monkeypatch):
    monkeypatch.setattr("fastpoly._backends.each.PORTION", 2)

    def progress(done, of):
        if done == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match=r"interrupted after 4 of 7 problems; \.partial holds them") as stop:
        fit_many(X, Y, 3, 100, 0.1, backend="numba", progress=progress)
    whole = fit_many(X, Y, 3, 100, 0.1, backend="numba")
    assert np.array_equal(stop.value.partial.weights, whole.weights[:4])


BAD = [
    ("one row", dict(y=Y[0]), ValueError, "y: wants a matrix, a row for each problem, got shape (30,)"),
    ("no rows", dict(y=np.empty((0, N))), ValueError, "y: is empty"),
    ("x of another length", dict(x=X[:5]), ValueError, "x and y: want as many samples a row as x has, got 5 and 30"),
    ("x of another batch", dict(x=OWN_X[:3]), ValueError, "want the same shape, or x of shape (30,), got (3, 30)"),
    ("NaN in y", dict(y=np.where(np.arange(N) == 3, NAN, Y)), ValueError, "y: wants finite numbers, got y[0, 3] = nan"),
    ("infinite x", dict(x=np.where(X > 0.9, np.inf, X)), ValueError, "x: wants finite numbers, got x[28] = inf"),
    ("complex", dict(y=Y * 1j), TypeError, "y: wants real numbers, got dtype complex128"),
    ("text", dict(y=[["a"] * N]), TypeError, "y: wants real numbers"),
    ("rates too few", dict(learn_rate=[0.1, 0.2]), ValueError, "wants a number or one for each of 7 problems, got 2"),
    (
        "a rate negative",
        dict(learn_rate=-RATES),
        ValueError,
        "wants positive finite numbers, got learn_rate[0] = ",
    ),
    ("rate zero", dict(learn_rate=0), ValueError, "learn_rate: wants a positive finite number, got 0"),
    ("degree negative", dict(degree=-1), ValueError, "degree: wants an integer >= 0, got -1"),
    ("steps a float", dict(steps=1.5), TypeError, "steps: wants an integer >= 0, got 1.5 (float)"),
    ("weights of another shape", dict(initial_weights=np.zeros((3, 5))), ValueError, "wants shape (5,) or (7, 5) for"),
    ("weights NaN", dict(initial_weights=[NAN] * 5), ValueError, "initial_weights: wants finite numbers"),
    ("precision", dict(precision="half"), ValueError, "precision: wants one of double, mixed, single, got 'half'"),
    ("precision of a backend", dict(backend="spectral", precision="single"), ValueError, "spectral runs in double"),
    ("backend", dict(backend="torch"), ValueError, "backend: wants auto, numba, triton, gram, spectral; got 'torch'"),
    ("trace_every", dict(trace_every=0), ValueError, "trace_every: wants an integer >= 1, got 0"),
    ("a trace beyond memory", dict(steps=10**12, trace_every=1), MemoryError, "choose a larger trace_every, or None"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "message"), [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in BAD]
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fit_many(**{"x": X, "y": Y, "steps": 5, **arguments})
