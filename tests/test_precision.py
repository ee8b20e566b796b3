"""Three precisions, three trajectories that really differ."""

import numpy as np
import pytest
from conftest import EXACT, POST
from raw_runs import fit

from fastpoly._post import REFERENCES, samples

EXACT_WEIGHTS = np.array(EXACT["post"]["weights"], float)


@pytest.fixture(scope="module")
def runs():
    x, y = samples()
    return {precision: fit(x, y, backend="numba", precision=precision) for precision in REFERENCES}


@pytest.mark.parametrize("precision", list(REFERENCES))
def test_each_precision_ends_where_it_must(runs, precision):
    reference = REFERENCES[precision]
    assert runs[precision].weights == pytest.approx(reference.weights, abs=reference.tolerance, rel=0)


def test_the_demo_carries_the_reference_numbers():
    assert REFERENCES["double"].weights == pytest.approx(EXACT_WEIGHTS, abs=1e-16)
    assert list(REFERENCES["mixed"].weights) == POST["train_numpy_float32_weights"]["w"]


def test_float32_storage_moves_the_fit(runs):
    """The finding of docs/precision.md: storing weights as float32, not computing in float32, moves w[2] by 1.5e-4."""
    assert runs["double"].weights[2] == pytest.approx(0.26366, abs=5e-6)
    assert runs["mixed"].weights[2] == pytest.approx(0.26351, abs=5e-6)
    assert runs["single"].weights[2] == pytest.approx(0.26351, abs=5e-6)


def test_because_each_step_rounds_its_update_the_same_way():
    """A stored weight lies on the float32 grid, so an update of 1.74 units becomes 2, step after step: a bias, not
    noise.

    (No update is lost whole: none is below half a unit.)
    """
    x, y = samples()
    w = fit(x, y, steps=199_000, precision="mixed").weights
    powers = x ** np.arange(5)
    wanted, taken = [], []
    for _ in range(1000):
        update = 1e-5 * 2 / 100 * powers.T @ (y.ravel() - powers @ w.astype(float))
        new = (w + update).astype(np.float32)
        unit = np.spacing(np.abs(w)).astype(float)
        wanted.append(update / unit)
        taken.append((new.astype(float) - w) / unit)
        w = new
    assert np.abs(wanted).min() > 0.5
    wanted, bias = np.mean(wanted, axis=0), np.mean(np.subtract(taken, wanted), axis=0)
    assert 1.5 < wanted[0] < 2
    assert np.mean(taken, axis=0)[0] == pytest.approx(2, abs=0.01)
    # rounding errors that were independent from step to step would average to 0.29 / sqrt(1000) = 0.01 units
    assert np.abs(bias).max() > 0.2


def test_mixed_rounds_after_every_step_and_only_then(small):
    x, y = small
    w, rate, n = np.zeros(4, np.float32), 0.1, len(x)
    powers = x[:, None] ** np.arange(4)
    for _ in range(100):
        r = y - powers @ w.astype(float)
        w = (w.astype(float) + rate * 2 / n * (powers.T @ r)).astype(np.float32)
    result = fit(x, y, 3, 100, rate, precision="mixed")
    # float64 sums differ in their last bits with the order, which moves a float32 rounding only on its edge
    assert np.abs(result.weights - w).max() <= np.spacing(np.float32(2.0))


def test_single_differs_from_mixed(runs):
    assert not np.array_equal(runs["single"].weights, runs["mixed"].weights)
    assert runs["single"].weights == pytest.approx(runs["mixed"].weights, abs=5e-6)
