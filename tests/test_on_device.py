"""Samples on a GPU stay there. All but the GPU is tested here: tensors on the CPU are made to stay as those do.

So every line that runs on a device runs here on one, and gives what the numpy and numba backends give.
"""

import numpy as np
import pytest
import torch
from conftest import EXACT
from raw_runs import fit, fit_many

from fastpoly import (
    BackendUnavailableError,
    DivergenceWarning,
    _arrays,
    _backends,
    stability_limit,
    train,
)
from fastpoly._backends import moments, recurrence, spectral, spectral_many

X = np.linspace(-1, 1, 25)
Y = 1 - 2 * X + 0.5 * X**3
NAN, INF = float("nan"), float("inf")
WEIGHTS, MSE = 1e-10, 1e-11
"""What gram and spectral promise: relative to max(1, value)."""


@pytest.fixture(autouse=True)
def staying(monkeypatch):
    """Any array that a backend asks of a problem whose samples stay is a mistake, unless the test allows it."""
    monkeypatch.setattr(_arrays, "STAYING", {"cpu"})


@pytest.fixture
def here(monkeypatch):
    """Samples that come to numpy are counted: their names."""
    came = []
    real = _arrays._from_tensor
    monkeypatch.setattr(_arrays, "_from_tensor", lambda value, name: came.append(name) or real(value, name))
    return came


def tensors(*arrays):
    return tuple(torch.tensor(array) for array in arrays)


def close(ours, theirs, tolerance):
    theirs = np.asarray(theirs)
    assert isinstance(ours, torch.Tensor)
    assert ours.numpy() == pytest.approx(theirs, rel=tolerance, abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("backend", ["gram", "spectral"])
@pytest.mark.parametrize("name", list(EXACT))
def test_exact_json(name, backend, here):
    problem = EXACT[name]
    x, y, weights = (np.array(problem[key], float) for key in ("x", "y", "weights"))
    result = fit(*tensors(x, y), problem["degree"], problem["steps"], problem["learn_rate"], backend=backend)
    assert result.backend == backend
    close(result.weights, weights, WEIGHTS)
    close(result.mse[list(map(int, problem["mse"]))], [float(value) for value in problem["mse"].values()], MSE)
    assert here == [], "no sample left its device"


@pytest.mark.parametrize("trace_every", [None, 1, 7])
@pytest.mark.parametrize("steps", [0, 1, 2, 1000])
@pytest.mark.parametrize("degree", [0, 1, 6, 30])
@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_it_gives_what_numpy_gives(backend, degree, steps, trace_every):
    """More weights than samples, too."""
    rate = 0.9 * stability_limit(X, degree)
    start = np.linspace(1, -1, degree + 1)
    options = dict(backend=backend, initial_weights=start, trace_every=trace_every)
    ours, theirs = fit(*tensors(X, Y), degree, steps, rate, **options), fit(X, Y, degree, steps, rate, **options)
    close(ours.weights, theirs.weights, WEIGHTS)
    close(ours.mse, theirs.mse, MSE)
    assert ours.steps == theirs.steps


@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_tall_data(backend, monkeypatch):
    """Several chunks, the last of them short."""
    monkeypatch.setattr(moments, "CHUNK", 3000)
    monkeypatch.setattr(spectral, "BLOCK_ON_DEVICE", 3000)
    x = np.tile(np.linspace(0, 5, 100), 201)
    result = fit(*tensors(x, np.sin(x)), trace_every=1000, backend=backend)
    close(result.weights, np.array(EXACT["post"]["weights"], float), WEIGHTS)


def test_gram_computes_the_trace_in_blocks(monkeypatch):
    x, y = tensors(X, Y)
    whole = fit(x, y, 3, 5000, 0.3, backend="gram")
    monkeypatch.setattr(recurrence, "VALUES", 256)
    blocks = fit(x, y, 3, 5000, 0.3, backend="gram")
    close(blocks.mse, whole.mse, 1e-13)


def test_a_million_million_steps():
    for backend in ("gram", "spectral"):
        result = fit(*tensors(X, np.cos(3 * X)), 5, 10**12, 0.5, backend=backend, trace_every=10**11)
        close(result.weights, np.polynomial.polynomial.polyfit(X, np.cos(3 * X), 5), 1e-11)
        assert result.mse.shape == (10,)


@pytest.mark.parametrize("backend", ["gram", "spectral"])
@pytest.mark.parametrize(("rate", "scale"), [(5.0, 1.0), (0.1, 1e200)], ids=["rate", "at-once"])
def test_divergence(backend, rate, scale):
    with pytest.warns(DivergenceWarning, match="diverged at step"):
        theirs = fit(X, Y * scale, 3, 5000, rate, backend=backend)
    with pytest.warns(DivergenceWarning, match="diverged at step"):
        ours = fit(*tensors(X, Y * scale), 3, 5000, rate, backend=backend)
    assert ours.diverged_at == theirs.diverged_at
    largest = max(1, abs(theirs.weights).max())  # what grows is one combination of weights; others are its roundings
    close(ours.weights / largest, theirs.weights / largest, 1e-9)
    assert len(ours.mse) == len(theirs.mse)


def test_mixed_is_rounded_after_every_step(here):
    ours, theirs = fit(*tensors(X, Y), 3, 500, 0.3, precision="mixed"), fit(X, Y, 3, 500, 0.3, precision="mixed")
    assert ours.weights.dtype == torch.float32
    close(ours.weights, theirs.weights, 2e-7)
    close(ours.mse, theirs.mse, 2e-7)
    assert here == []


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("backend", ["gram", "spectral", "numba", "torch"])
def test_not_a_number_is_found(backend, name, degree, value):
    samples = {"x": X.copy(), "y": Y.copy()}
    samples[name][17] = value
    with pytest.raises(ValueError, match=rf"{name}: wants finite numbers, got {name}\[17\] = {value}"):
        fit(**{k: torch.tensor(v) for k, v in samples.items()}, degree=degree, steps=3, learn_rate=0.1, backend=backend)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0), "x: is empty"),
        (torch.zeros(3, 2), r"x: wants a vector or one column, got shape \(3, 2\)"),
        (torch.tensor(1.0), "x: wants a vector or a column, got a single number"),
        (torch.zeros(3), "want the same number of samples, got 3 and 25"),
        (torch.zeros(25, dtype=torch.complex64), "x: wants real numbers, got dtype complex64"),
        (torch.zeros(25).to_sparse(), "x: wants a dense tensor"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_the_same_words(x, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(x, torch.tensor(Y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.bool])
@pytest.mark.parametrize("backend", ["gram", "spectral", "numba", "torch-autograd"])
def test_tensors_of_any_real_dtype(backend, dtype):
    x, y = (tensor.to(dtype) for tensor in tensors(X * 3, Y))
    ours = fit(x[:, None], y, 2, 50, 0.001, backend=backend)
    theirs = fit(x.double().numpy(), y.double().numpy(), 2, 50, 0.001, backend=backend)
    assert ours.weights.dtype == torch.float64
    close(ours.weights, theirs.weights, 1e-11)


def test_a_tensor_and_an_array(here):
    assert torch.equal(fit(torch.tensor(X), Y, 3, 100, 0.3).weights, fit(*tensors(X, Y), 3, 100, 0.3).weights)
    assert torch.equal(fit(X, torch.tensor(Y), 3, 100, 0.3).weights, fit(*tensors(X, Y), 3, 100, 0.3).weights)
    x = torch.tensor(X, requires_grad=True)
    assert not fit(x, Y, 3, 100, 0.3).weights.requires_grad
    assert here == []


# -- batches
# ----------------------------------------------------------------------------------------


def batch(shared):
    rng = np.random.default_rng(0)
    x = X if shared else np.sort(rng.uniform(-1, 1, (6, 25)), axis=1)
    return x, rng.normal(size=(6, 25))


@pytest.mark.parametrize("rates", [0.3, [0.3, 0.2, 0.1, 0.4, 0.05, 0.3]], ids=["rate", "rates"])
@pytest.mark.parametrize("trace_every", [None, 1, 9])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_batches(backend, shared, trace_every, rates, here):
    x, y = batch(shared)
    options = dict(backend=backend, trace_every=trace_every, initial_weights=[0.5, 0, 0, -1])
    ours, theirs = fit_many(*tensors(x, y), 3, 1001, rates, **options), fit_many(x, y, 3, 1001, rates, **options)
    close(ours.weights, theirs.weights, WEIGHTS)
    close(ours.mse, theirs.mse, MSE)
    assert here == []


@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_batches_in_parts_with_some_that_diverge(backend, monkeypatch):
    monkeypatch.setattr(recurrence, "VALUES", 200)
    monkeypatch.setattr(spectral_many, "VALUES_ON_DEVICE", 400)
    x, y = batch(False)
    rates = [0.3, 6.0, 0.3, 0.3, 9.0, 0.3]
    seen = []
    results = []
    for arguments in ((x, y), tensors(x, y)):
        with pytest.warns(DivergenceWarning, match="2 of 6 problems diverged, first problem 1"):
            results.append(
                fit_many(
                    *arguments, 3, 3000, rates, backend=backend, trace_every=1, progress=lambda *at: seen.append(at)
                )
            )
    theirs, ours = results
    assert ours.diverged_at.tolist() == theirs.diverged_at.tolist()
    largest = np.maximum(1, abs(theirs.weights).max(axis=1, keepdims=True))
    close(ours.weights / torch.tensor(largest), theirs.weights / largest, 1e-9)
    settled = [0, 2, 3, 5]
    close(ours.mse[settled], theirs.mse[settled], MSE)
    assert torch.equal(ours.mse.isnan(), torch.tensor(np.isnan(theirs.mse)))
    assert all(of == 6 for _, of in seen)


@pytest.mark.parametrize("precision", ["mixed", "single"])
def test_batches_that_go_to_the_cpu(precision):
    x, y = batch(False)
    ours, theirs = (fit_many(*a, 3, 200, 0.2, precision=precision) for a in (tensors(x, y), (x, y)))
    assert torch.equal(ours.weights, torch.tensor(theirs.weights))


def test_a_batch_with_one_kind_of_each():
    x, y = batch(True)
    expected = fit_many(*tensors(x, y), 3, 200, 0.2).weights
    assert torch.equal(fit_many(x, torch.tensor(y), 3, 200, 0.2).weights, expected)
    assert torch.equal(fit_many(torch.tensor(x), y, 3, 200, 0.2).weights, expected)
    with pytest.raises(ValueError, match=r"y: wants finite numbers, got y\[2, 3\] = nan"):
        y[2, 3] = NAN
        fit_many(*tensors(x, y), 3, 200, 0.2)


# -- which backend
# ----------------------------------------------------------------------------------------


class Problem:
    """As much of one as choosing looks at."""

    degree, steps, weighted = 4, 100, False

    def __init__(self, precision, n, device):
        self.precision, self.x = precision, range(n)
        self.device = device and torch.device(device)


@pytest.mark.parametrize("triton", [True, False], ids=["triton", "without"])
@pytest.mark.parametrize(
    ("precision", "n", "device", "expected"),
    [
        ("double", 100, "cuda", "spectral"),
        ("double", 10**5, "cuda", "gram"),
        ("mixed", 100, "cuda", "gram"),
        ("single", 100, "cuda", "numba"),
        ("single", 10**6, "cpu", "numba"),
        ("single", 10**6, None, "numba"),
    ],
)
def test_auto(precision, n, device, expected, triton, monkeypatch):
    monkeypatch.setattr(_backends, "missing_triton", lambda: None if triton else "it is not here")
    if triton and precision == "single" and device == "cuda":
        expected = "triton"
    assert _backends._fastest(Problem(precision, n, device)) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("backend", ["cudagraph", "compile-gpu"])
def test_without_a_gpu_its_backends_say_so(backend):
    (listed,) = (b for b in _backends.backends() if b.name == backend)
    assert "CUDA" in listed.unavailable
    with pytest.raises(BackendUnavailableError, match=f"backend {backend} cannot run here: .*CUDA.*"):
        fit(X, Y, backend=backend, precision="single", steps=1)


def test_the_drop_in_takes_tensors_that_stay():
    x, y = tensors(X[:, None], Y[:, None])
    ours, theirs = train(x, y, 200, 0.1, 3, use_torch=True), train(X, Y, 200, 0.1, 3, use_torch=True)
    assert torch.equal(ours["w"], theirs["w"])
