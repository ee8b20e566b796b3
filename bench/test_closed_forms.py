"""The same run without its loop: how much faster than the loop, and how close to the speed of memory?"""

import subprocess
import sys

import numpy as np
import pytest
from raw_runs import fit, fit_many

from fastpoly._post import LEARN_RATE, REFERENCES, STEPS

EXACT = REFERENCES["double"]


def run(x, y, backend):
    return lambda: fit(x, y, backend=backend)


@pytest.mark.benchmark(group="bars")
@pytest.mark.parametrize(("backend", "bar"), [("gram", 8), ("spectral", 50)])
def test_against_the_loop(versus, post, backend, bar):
    loop, closed = (fit(*post, backend=name) for name in ("numba", backend))
    assert closed.weights == pytest.approx(EXACT.weights, abs=1e-10)
    np.testing.assert_allclose(closed.mse, loop.mse, rtol=0, atol=1e-11)
    versus(
        ("numba double", run(*post, "numba")),
        (f"{backend} double", run(*post, backend)),
        rounds=21,
        inner=(1, 20),
        at_least=bar,
    )


@pytest.mark.benchmark(group="bars")
def test_spectral_against_filling_its_trace(versus, post):
    assert fit(*post, backend="spectral").weights == pytest.approx(EXACT.weights, abs=1e-10)
    versus(
        ("spectral", run(*post, "spectral")),
        ("np.full of the trace", lambda: np.full(STEPS, 1.0)),
        rounds=15,
        inner=(20, 20),
        at_most=5,
        source="docs/bars.md: promises",
    )


@pytest.mark.benchmark(group="bars")
def test_ten_million_samples_against_summing_them(versus):
    x = np.random.default_rng(0).uniform(0, 5, 10_000_000)
    y = np.sin(x)
    result = fit(x, y, backend="gram")
    assert result.mse.shape == (STEPS,)
    # the same from a tenth of the samples is the same to the noise of sampling
    assert result.weights == pytest.approx(fit(x[::10], y[::10], backend="gram").weights, abs=1e-3)
    assert result.mse[0] == pytest.approx(np.mean(y**2), rel=1e-12)
    assert result.mse[-1] == pytest.approx(np.mean((y - result.predict(x)) ** 2), abs=1e-6)
    versus(
        ("gram, 10^7 samples", run(x, y, "gram")),
        ("x.sum() + y.sum()", lambda: x.sum() + y.sum()),
        at_most=2,
        source="docs/bars.md: features",
    )


MEMORY = """
import sys, numpy as np
from fastpoly import fit
n, file = int(sys.argv[1]), sys.argv[2]
posts = dict(steps=200_000, learn_rate=1e-5, domain=None, backend="gram")
fit(np.linspace(0, 5, 100), np.linspace(0, 5, 100), **posts)  # numba and its kernels
if file:
    x, y = (np.memmap(file, np.float64, "r", offset, (n,)) for offset in (0, 8 * n))
else:
    x = np.linspace(0, 5, n); y = np.sin(x)
def own():  # resident and not shared with the page cache, in bytes
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024
import threading, time
before, peak, done = own(), 0, threading.Event()
def watch():
    global peak
    while not done.is_set():
        peak = max(peak, own()); time.sleep(0.001)
thread = threading.Thread(target=watch); thread.start()
result = fit(x, y, **posts)
done.set(); thread.join()
print(max(peak, own()) - before - result.mse.nbytes, *result.weights)
"""


def extra_memory(n, file=""):
    printed = subprocess.run(
        [sys.executable, "-c", MEMORY, str(n), str(file)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert [float(w) for w in printed[1:]] == pytest.approx(EXACT.weights, abs=2e-2)  # more samples of the same curve
    return int(printed[0])


@pytest.mark.benchmark(group="bars")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_beyond_data_and_trace(benchmark, limits):
    limits(
        "gram, 10^7 samples: extra memory", extra_memory(10_000_000) / 2**20, 64, "MiB", source="docs/bars.md: features"
    )
    benchmark.pedantic(lambda: None)


@pytest.mark.benchmark(group="bars")
@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_for_two_gigabytes_in_a_file(benchmark, limits, tmp_path):
    n = 125_000_000 // (1 if benchmark.enabled else 100)
    file = tmp_path / "samples"
    with file.open("wb") as stream:
        for values in (lambda x: x, np.sin):
            for part in np.array_split(np.arange(n), 64):
                values(part * (5 / (n - 1))).tofile(stream)
    limits(
        "gram, 2 GB memmap: extra memory", extra_memory(n, file) / 2**20, 200, "MiB", source="docs/bars.md: features"
    )
    file.unlink()
    benchmark.pedantic(lambda: None)


@pytest.mark.benchmark(group="bars")
@pytest.mark.parametrize(("shared", "bar"), [(True, 100), (False, 3)], ids=["shared-x", "own-x"])
def test_many_against_a_loop_of_polyfit(benchmark, versus, quick, shared, bar):
    batch, alone = (1000, 10) if benchmark.disabled else (10_000, 500) if quick else (100_000, 1000)
    rng = np.random.default_rng(0)
    x = np.linspace(0, 5, 100)
    x = x if shared else np.sort(rng.uniform(0, 5, (batch, 100)), axis=1)
    y = np.sin(x) + 0.1 * rng.normal(size=(batch, 100))
    few = range(0, batch, batch // alone)

    def polyfit():
        for i in few:
            np.polynomial.polynomial.polyfit(x if shared else x[i], y[i], 4)

    many = fit_many(x, y, 4, STEPS, LEARN_RATE)
    for i in few:
        single = fit(x if shared else x[i], y[i], 4, STEPS, LEARN_RATE, trace_every=None)
        assert many.weights[i] == pytest.approx(single.weights, abs=1e-9)
    versus(
        (f"polyfit, {batch:,} problems (from {alone:,})", polyfit),
        (f"fit_many, {'shared' if shared else 'own'} x", lambda: fit_many(x, y, 4, STEPS, LEARN_RATE)),
        rounds=5,
        at_least=bar,
        times=(batch / alone, 1),
        source="docs/bars.md: features",
    )
