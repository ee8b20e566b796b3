"""What dask is asked to do for fits: few tasks, which keep no samples, on all workers."""

import sys

import numpy as np
import pytest

from fastpoly import ConvergenceWarning, curve_fit, fit
from fastpoly import _samples as samples_module
from fastpoly._backends import moments, spectral

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
torch = pytest.importorskip("torch")
Callback = pytest.importorskip("dask.callbacks").Callback
Chunked = pytest.importorskip("fastpoly._dask.samples").Chunked


@pytest.fixture
def cloud(monkeypatch):
    """Samples that are cut into blocks of 2**10, as more are into blocks of 2**20."""
    for module in (moments, spectral):
        monkeypatch.setattr(module, "CHUNK", 2**10)
    monkeypatch.setattr(samples_module, "MANY", 2**10)
    draws = np.random.default_rng(0)
    x = draws.random(50_000) * 10 - 3
    return x, np.sin(x) + 0.1 * draws.standard_normal(x.size)


def read_in_chunks(values, size, told=lambda: None):
    """A dask array of tasks that make a chunk each, and tell that they do."""

    def read(block_info=None):
        told()
        return values[slice(*block_info[None]["array-location"][0])]

    chunks = tuple(len(values[first : first + size]) for first in range(0, len(values), size))
    return da.map_blocks(read, chunks=(chunks,), dtype=float, meta=np.empty(0))


@pytest.mark.parametrize("options", [{}, {"backend": "gram", "steps": 10**6, "learn_rate": 0.1}], ids=["auto", "gram"])
def test_one_task_reads_x_beside_y_and_all_that_is_kept_are_results(cloud, options):
    """Of parts of several blocks here, as large as the chunks."""
    x, y = (read_in_chunks(values[:49_152], 4 * 2**10) for values in cloud)
    tasks = []
    with dask.config.set(scheduler="sync"), Callback(pretask=lambda key, *_: tasks.append(key)):
        fit(x, y, **options, domain=(-3, 7))
        assert len(tasks) == 12 + 1
        tasks.clear()
        fit(x, y, **options)
        assert len(tasks) == 2 * (12 + 1)


def test_a_warning_takes_some_chunks_and_not_a_pass(cloud, monkeypatch):
    monkeypatch.setattr("fastpoly._dask.samples.STRETCHES", 3)
    monkeypatch.setattr("fastpoly._advice.TRIED", 300)
    read = []
    x, y = (read_in_chunks(values, 2**10, lambda: read.append(1)) for values in cloud)
    options = {"backend": "gram", "steps": 3, "learn_rate": 0.01}
    with dask.config.set(scheduler="sync"):
        with pytest.warns(ConvergenceWarning, match="leave out domain, steps and learn_rate"):
            fit(x, y, 5, domain=(-20, 20), **options)
        assert len(read) <= 2 * 49 + 2 * 3 * 2  # a stretch may lie in two chunks
        read.clear()
        with pytest.warns(ConvergenceWarning, match="steps get there"):
            fit(x, y, 5, **options)
        assert len(read) == 3 * 49  # x for its ends, then both


def test_ends_of_odd_chunks():
    for values in ([3, 1, 2], [True, False, True], [1.5, np.nan, 2.0], np.float32([7, -3, 7])):
        array = np.array(values)
        lazy = da.concatenate([da.from_array(array[:2]), da.from_array(array[:0]), da.from_array(array[2:])])
        ends = Chunked(lazy, "x").ends()
        assert [end.dtype for end in ends] == [array.dtype] * 2
        assert np.array_equal(ends, (array.min(), array.max()), equal_nan=array.dtype == float)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_workers_fit_and_import_no_more_than_they_need():
    distributed = pytest.importorskip("distributed")
    local = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with local as cluster, cluster.get_client() as client:
        assert len(client.scheduler_info()["workers"]) == 2
        x = da.random.default_rng(0).uniform(-3, 7, 8 * 2**20, chunks=2**20)
        with distributed.get_task_stream() as stream:
            fit(x, da.sin(x), 5, domain=(-3, 7), backend="gram", steps=1_000, learn_rate=0.1)
        assert len({task["worker"] for task in stream.data}) == 2
        for module in ("torch", "numba", "sklearn"):
            assert not any(client.run(lambda name=module: name in sys.modules).values()), module
        t = np.linspace(0, 4, 20)
        y = np.exp(-np.linspace(0.5, 1.5, 300)[:, None] * t)
        with distributed.get_task_stream() as stream:
            dask.compute(*curve_fit(lambda t, a, b: a * torch.exp(-b * t), t, da.from_array(y, chunks=(30, 20))))
        assert len({task["worker"] for task in stream.data}) == 2
