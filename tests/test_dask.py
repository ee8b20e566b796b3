"""Samples and problems in dask arrays: the bits of the same call without dask, whatever the chunks."""

import math
import os
import pickle
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fastpoly import ConvergenceWarning, DivergenceWarning, curve_fit, descend_many, fit, fit_many
from fastpoly import _samples as samples_module
from fastpoly._backends import moments, spectral

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
cloudpickle = pytest.importorskip("cloudpickle")
torch = pytest.importorskip("torch")

CHUNKS = [(9_001,) * 5 + (4_995,), (1, 4_096, 20_000, 25_903)]
RUNS = {
    "auto": {},
    "gram": {"backend": "gram", "steps": 10**6, "learn_rate": 0.1},
    "mixed": {"backend": "gram", "steps": 1_000, "learn_rate": 0.1, "precision": "mixed"},
    "raw": {"domain": None, "degree": 2, "steps": 1_000, "learn_rate": 1e-4},
    "ridge": {"ridge": 0.1, "degree": 3},
}


@pytest.fixture
def small_blocks(monkeypatch):
    """What is cut into blocks of 2**20 samples is cut into blocks of 2**10."""
    for module in (moments, spectral):
        monkeypatch.setattr(module, "CHUNK", 2**10)
    monkeypatch.setattr(samples_module, "MANY", 2**10)


@pytest.fixture(scope="module")
def cloud():
    draws = np.random.default_rng(0)
    x = draws.random(50_000) * 10 - 3
    return x, np.sin(x) + 0.1 * draws.standard_normal(x.size)


@pytest.fixture(scope="module")
def curves():
    draws = np.random.default_rng(1)
    t = np.linspace(0, 4, 20)
    return t, 2 * np.exp(-(0.5 + draws.random((300, 1))) * t) + 0.5 + 0.05 * draws.standard_normal((300, 20))


@pytest.fixture
def nobody_computes():
    """While a lazy result is made."""

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    return lambda: dask.config.set(scheduler=refuse)


# -- fit
# ----------------------------------------------------------------------------------------------------------------


SLOW = pytest.mark.slow


@pytest.mark.parametrize("chunks", [pytest.param(CHUNKS[0], marks=SLOW), CHUNKS[1]], ids=["many", "odd"])
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_fit_has_the_bits_of_a_file(cloud, small_blocks, tmp_path, chunks, options):
    x, y = cloud
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=x.shape)
    mapped[:] = x
    want = fit(mapped, y, **options)
    got = fit(da.from_array(x, chunks=(chunks,)), da.from_array(y, chunks=7_000), **options)
    assert np.array_equal(got.weights, want.weights)
    assert np.array_equal(got.mse, want.mse)
    for name in ("steps", "learn_rate", "domain", "backend", "final_mse", "converged"):
        assert getattr(got, name) == getattr(want, name), name
    again = pickle.loads(pickle.dumps(got))
    assert np.array_equal(again.covariance, want.covariance)


def test_few_samples_are_read_into_memory(small):
    x, y = small
    assert np.array_equal(fit(da.from_array(x, chunks=7), y, 3).weights, fit(x, y, 3).weights)


def test_one_pass_finds_the_interval_and_one_the_fit(cloud, small_blocks):
    passes = []
    x, y = (da.from_array(values, chunks=5_000) for values in cloud)
    with dask.config.set(scheduler=lambda *of, **how: passes.append(1) or dask.get(*of, **how)):
        fit(x, y)
    assert len(passes) == 2


REFUSED = {
    "backend='numba'": {"backend": "numba", "steps": 10, "learn_rate": 0.1},
    "single": {"precision": "single"},
    "sigma": {"sigma": 1.0},
    "sample_weight": {"sample_weight": 1.0},
    "nan_policy": {"nan_policy": "omit"},
    "Scale x or y": {"backend": "gram", "steps": 10, "learn_rate": 1e300},
}


@pytest.mark.parametrize(("name", "options"), REFUSED.items(), ids=REFUSED)
def test_what_needs_the_samples_is_refused_by_name(cloud, small_blocks, name, options, monkeypatch):
    monkeypatch.setattr("fastpoly._dask.samples.AT_ONCE", 10_000)
    x, y = (da.from_array(values, chunks=5_000) for values in cloud)
    with pytest.raises(ValueError, match=name if name != "single" else "backend='numba'"):
        fit(x, y, **options)


def test_odd_samples_are_refused(cloud, small_blocks):
    x, y = (da.from_array(values, chunks=5_000) for values in cloud)
    with pytest.raises(ValueError, match=r"y\[40000\] = nan"):
        fit(x, da.where(da.arange(50_000, chunks=5_000) == 40_000, np.nan, y))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        fit(x[x > 0], y)
    with pytest.raises(ValueError, match="49999"):
        fit(x, y[1:])
    with pytest.raises(ValueError, match="fit_many"):
        fit(x, da.stack([y, y], 1))
    with pytest.raises(TypeError, match="y: wants real numbers"):
        fit(x, y.astype(complex))


def test_a_run_that_diverges_and_held_out_samples(cloud, small_blocks, monkeypatch):
    monkeypatch.setattr("fastpoly._dask.samples.AT_ONCE", 10_000)
    x, y = cloud
    lazy = [da.from_array(values, chunks=9_000) for values in cloud]
    for steps, said in ((100, "the mse grew from"), (10_000, "diverged at step")):
        with pytest.warns(DivergenceWarning, match=said):
            got = fit(*lazy, backend="gram", steps=steps, learn_rate=3.0, trace_every=10)
        with pytest.warns(DivergenceWarning, match=said):
            want = fit(x, y, backend="gram", steps=steps, learn_rate=3.0, trace_every=10)
        assert np.array_equal(got.weights, want.weights)
        assert got.diverged_at == want.diverged_at
    got, want = (fit(*samples, 3, validation=samples, early_stopping=True) for samples in (tuple(lazy), cloud))
    assert np.array_equal(got.validation_mse, want.validation_mse)
    assert np.array_equal(got.weights, want.weights)
    monkeypatch.setattr("fastpoly._advice.TRIED", 2_000)
    with pytest.warns(ConvergenceWarning, match="ended far from the minimum"):
        fit(*lazy, 4, steps=3, learn_rate=0.01)
    with pytest.raises(ValueError, match="masked"):
        fit(da.ma.masked_greater(lazy[0], 1.0), lazy[1])


def test_terms_without_overlap_have_the_same_sum():
    draw = random.Random(0)
    for _ in range(50):
        terms = [math.ldexp(draw.uniform(-1, 1), draw.randrange(-300, 300)) for _ in range(40)]
        terms += [-term for term in terms[:30]]
        parts = moments.without_overlap(terms)
        assert sum(map(Fraction, parts)) == sum(map(Fraction, terms))
        assert len(parts) < 30
    left, right = moments._merged([np.array([terms])]), np.array([terms])
    assert math.fsum(left[0]) == math.fsum(right[0])


# -- many problems
# ----------------------------------------------------------------------------------------------------------------


def decay(t, a, b, c):
    return a * torch.exp(-b * t) + c


def loss(params, t, y):
    return ((decay(t, params["a"], params["b"], params["c"]) - y) ** 2).mean()


START = {name: torch.ones((), dtype=torch.float64) for name in "abc"}


MANY = {
    "auto": {},
    "trace": {"steps": 500, "learn_rate": 0.1, "trace_every": 50},
    "gram": {"backend": "gram", "steps": 500, "learn_rate": 0.1},
    "own x": {"own": True, "degree": 2},
    "own x, steps": {"own": True, "degree": 2, "steps": 100, "initial_weights": np.ones((300, 3))},
    "rates": {"learn_rate": np.linspace(0.01, 0.2, 300), "steps": 100},
}


@pytest.mark.filterwarnings("ignore::fastpoly.ConvergenceWarning")
@pytest.mark.parametrize("options", MANY.values(), ids=MANY)
def test_many_fits(curves, monkeypatch, options):
    monkeypatch.setattr("fastpoly._dask.batches.VALUES", 20 * 130)  # whole portions of 130 problems, ...
    monkeypatch.setattr("fastpoly._backends.spectral_many.VALUES", 20 * 130)
    monkeypatch.setattr("fastpoly._backends.gram_many.CHUNK", 20 * 130)
    monkeypatch.setattr("fastpoly._minima.VALUES", 20 * 130)
    options = dict(options)
    t, y = curves
    x = np.sort(np.random.default_rng(0).random(y.shape), 1) if options.pop("own", False) else t
    want = fit_many(x, y, **options)
    got = fit_many(x, da.from_array(y, chunks=(70, 8)), **options)  # ... in chunks of 70
    assert got.weights.chunks == ((70, 70, 70, 70, 20), (want.degree + 1,))
    assert got.mse.shape == want.mse.shape
    assert (got.steps, got.weights.dtype, got.diverged_at.dtype) == (want.steps, want.weights.dtype, np.int64)
    (found,) = dask.compute(got)
    for name in ("weights", "mse", "learn_rate", "domain"):
        assert np.array_equal(getattr(found, name), getattr(want, name)), name
    assert (found.diverged_at == -1).all()
    assert found.final_mse == pytest.approx(want.final_mse, rel=1e-9)
    assert found.least_squares_mse == pytest.approx(want.least_squares_mse, rel=1e-9)
    assert np.array_equal(found.converged, want.converged)
    assert np.array_equal(got.predict([1.0, 2.0])[:3].compute(), [one.predict([1.0, 2.0]) for one in want[:3]])
    assert np.array_equal(pickle.loads(pickle.dumps(found)).weights, want.weights)


def test_many_descents(curves, nobody_computes):
    t, y = (torch.from_numpy(values) for values in curves)
    for options in (
        {"optimizer": "adam", "learn_rate": 0.05},
        {"learn_rate": np.linspace(0.01, 0.1, 300), "trace_every": 7, "until": lambda _, value: value < 0.003},
    ):
        with nobody_computes():
            lazy = da.from_array(curves[1], chunks=(70, 8))
            got = descend_many(loss, START, (t, lazy), in_dims=(None, None, 0), steps=50, **options)
        want = descend_many(loss, START, (t, y), in_dims=(None, None, 0), steps=50, **options)
        assert got.params["a"].chunks == ((70, 70, 70, 70, 20),)
        assert "lazy" in repr(got)
        assert len(got) == 300
        (found,) = dask.compute(cloudpickle.loads(cloudpickle.dumps(got)))
        for name in "abc":
            assert np.array_equal(found.params[name], want.params[name])
        assert np.array_equal(found.steps, want.steps)
        assert np.array_equal(found.is_ended, want.is_ended)
        assert all(np.array_equal(*pair) for pair in zip(found.state, want.state, strict=True))
        assert want.loss is None or np.array_equal(found.loss, want.loss, equal_nan=True)
    with pytest.raises(ValueError, match="in_dims"):
        descend_many(loss, START, (t, lazy), in_dims=(None, None, None), steps=50, learn_rate=0.1)
    with pytest.raises(ValueError, match="optimizer"):
        descend_many(loss, START, (t, lazy), in_dims=(None, None, 0), steps=50, learn_rate=0.1, optimizer="none")


def test_starts_of_descents(curves):
    t = torch.from_numpy(curves[0])
    starts = {name: torch.rand(300, dtype=torch.float64) for name in "abc"}
    lazy = {name: da.from_array(value.numpy(), chunks=100) for name, value in starts.items()}
    columns = da.from_array(curves[1].T, chunks=(20, 150))
    options = {"in_dims": (0, None, 1), "steps": 20, "learn_rate": 0.1}
    want = descend_many(loss, starts, (t, torch.from_numpy(curves[1].T.copy())), **options)
    (got,) = dask.compute(descend_many(loss, lazy, (t, columns), **options))
    assert np.array_equal(got.params["b"], want.params["b"])


CURVES = {
    "plain": {},
    "starts": {"p0": 1 + 0.1 * np.random.default_rng(0).random((300, 3)), "bounds": (np.zeros((300, 3)), 5.0)},
    "all of it": {"full_output": True, "sigma": np.full((300, 20), 0.05), "absolute_sigma": True, "fixed": "c"},
}


@pytest.mark.parametrize("options", CURVES.values(), ids=CURVES)
def test_curves(curves, nobody_computes, options):
    t, y = curves
    with nobody_computes():
        got = curve_fit(decay, t, da.from_array(y, chunks=(70, 8)), **options)
    assert got[0].chunks == ((70, 70, 70, 70, 20), (3,))
    assert got[1].chunks == ((70, 70, 70, 70, 20), (3,), (3,))
    assert got[1].dtype == np.float64
    assert isinstance(got[1]._meta, np.ndarray)
    want = curve_fit(decay, t, y, **options)
    for one, other in zip(dask.compute(*got), want, strict=True):
        if isinstance(one, dict):
            assert np.array_equal(one["nfev"], other["nfev"])  # residuals are torch's own, rounded as it likes
            np.testing.assert_allclose(one["fvec"], other["fvec"], rtol=0, atol=1e-12)
        else:
            assert np.array_equal(one, other)


def test_a_chunk_of_as_many_curves_as_predictors():
    """One x for all, (k, n), is not taken for rows of a chunk with k curves."""
    draws = np.random.default_rng(0)
    x = draws.random((2, 20))
    y = 1 + 2 * x[0] + 3 * x[1] + 0.01 * draws.standard_normal((5, 20))

    def plane(x, a, b, c):
        return a + b * x[0] + c * x[1]

    got = curve_fit(plane, x, da.from_array(y, chunks=(2, 20)))
    assert np.array_equal(got[0].compute(), curve_fit(plane, x, y)[0])


def test_what_is_wrong_in_a_chunk_says_where(curves):
    t, y = curves
    lazy = da.from_array(np.where(np.arange(300)[:, None] == 205, -1.0, y), chunks=(100, 20))
    with pytest.raises(ValueError, match=r"problems 200 to 299.*ydata: counts"):
        dask.compute(curve_fit(decay, t, lazy, noise="poisson"))
    with pytest.raises(ValueError, match="p0: wants a row for each of 300"):
        curve_fit(decay, t, lazy, p0=np.ones((3, 3)))
    with pytest.raises(ValueError, match="learn_rate: 'auto'"):
        fit_many(t, lazy, steps=10)
    with pytest.raises(ValueError, match="ydata"):
        curve_fit(decay, t, lazy[0])


# -- processes
# ----------------------------------------------------------------------------------------------------------------


def at_odd_addresses(array):
    """As what another process sends may lie: where numpy computes in other ways, and cannot be written to."""
    raw = np.empty(array.nbytes + 1, np.uint8)[1:]
    moved = raw.view(array.dtype).reshape(array.shape)
    moved[...] = array
    moved.flags.writeable = False
    return moved


def sent(graph, keys, **options):
    """A scheduler whose results come from elsewhere."""

    def each(result):
        return [each(one) for one in result] if isinstance(result, list) else at_odd_addresses(np.asarray(result))

    return each(dask.get(graph, keys, **options))


@pytest.mark.filterwarnings("error", "ignore::fastpoly.ConvergenceWarning")
def test_where_arrays_lie_changes_nothing(curves):
    draws = np.random.default_rng(0)
    x = draws.random(2**21) * 10
    y = np.sin(x) + 0.1 * draws.standard_normal(x.size)
    lazy = [da.from_array(values, chunks=2**20).map_blocks(at_odd_addresses, dtype=float) for values in (x, y)]
    with dask.config.set(scheduler=sent):
        for options in ({}, {"backend": "gram", "steps": 1_000, "learn_rate": 0.1}):
            assert np.array_equal(fit(*lazy, 5, **options).weights, fit(x, y, 5, **options).weights)
    t, rows = curves
    popt, _ = curve_fit(decay, t, da.from_array(rows, chunks=(100, 20)).map_blocks(at_odd_addresses, dtype=float))
    assert np.array_equal(popt.compute(scheduler="sync"), curve_fit(decay, t, rows)[0])


def killed_once(block, marker):
    """The block; the first process that comes to its last rows ends at once."""
    if block[-1, 0] == 299 and not Path(marker).exists():
        Path(marker).touch()
        os._exit(9)
    return block[:, 1:]


INTERRUPTED = """
import os, signal, threading, time
import dask.array as da
from fastpoly import fit

def slow(block):
    time.sleep(0.5)
    return block

x = da.ones(40 * 2**20, chunks=2**20).map_blocks(slow, dtype=float)
threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.perf_counter()
try:
    fit(x, x, domain=(0, 1), backend="gram", steps=10, learn_rate=0.1)
except KeyboardInterrupt:
    print(time.perf_counter() - began < 6)
os._exit(0)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_for_dask():
    told = subprocess.run([sys.executable, "-u", "-c", INTERRUPTED], capture_output=True, text=True, check=True)
    assert told.stdout == "True\n", told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a worker that is gone
def test_a_worker_that_dies_loses_nothing(curves, tmp_path):
    distributed = pytest.importorskip("distributed")
    t, y = curves
    numbered = np.concatenate([np.arange(300.0)[:, None], y], axis=1)
    marker = str(tmp_path / "died")
    want = curve_fit(decay, t, y)
    local = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with local as cluster, cluster.get_client():
        lazy = da.from_array(numbered, chunks=(50, 21)).map_blocks(
            killed_once, marker, dtype=float, chunks=((50,) * 6, (20,))
        )
        got = dask.compute(*curve_fit(decay, t, lazy))
    assert Path(marker).exists()
    assert all(np.array_equal(one, other) for one, other in zip(got, want, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_processes_have_the_bits_and_kernels_are_compiled_once(curves, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    t, y = curves
    draws = np.random.default_rng(0)
    x = draws.random(3 * 2**20) * 10
    z = np.sin(x) + 0.1 * draws.standard_normal(x.size)
    fitted = fit(x, z, backend="gram", steps=1_000, learn_rate=0.1), fit(x, z)
    want = curve_fit(decay, t, y)
    monkeypatch.setenv("FASTPOLY_CACHE_DIR", str(tmp_path))  # from here on, so that no kernel is there yet
    chunks = [da.from_array(values, chunks=700_001) for values in (x, z)]

    def all_of_it():
        runs = fit(*chunks, backend="gram", steps=1_000, learn_rate=0.1), fit(*chunks)
        for run, other in zip(runs, fitted, strict=True):
            assert np.array_equal(run.weights, other.weights)
        got = dask.compute(*curve_fit(decay, t, da.from_array(y, chunks=(30, 20))))
        assert all(np.array_equal(one, other) for one, other in zip(got, want, strict=True))

    local = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with local as cluster, cluster.get_client() as client:
        client.run(count_kernels)
        all_of_it()
        assert sum(client.run(kernels_counted).values()) > 0
        client.restart()  # other processes
        client.run(count_kernels)
        all_of_it()
        assert sum(client.run(kernels_counted).values()) == 0


def count_kernels():
    from fastpoly_kernels import store

    saved, save = [], store.save
    store.save = lambda *of: saved.append(of) or save(*of)
    store.counted = saved


def kernels_counted():
    from fastpoly_kernels import store

    return sum(name.endswith(".kernel") for name, _ in store.counted)


def test_a_lazy_fit_warns_where_it_runs(curves):
    t, y = curves
    lazy = fit_many(t, da.from_array(y, chunks=(300, 20)), 4, 3, 0.01)
    with pytest.warns(ConvergenceWarning, match="300 of 300"):
        lazy.weights.compute(scheduler="sync")
    assert not lazy.converged.compute(scheduler="sync").any()
