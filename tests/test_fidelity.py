"""How far each backend is from the truth, and the bound that it promises. The table is printed at the end of the run.

The truth is exact.json, and for random problems the same recurrence in 60 digits: its t-th step as a matrix power for
`double`; step by step, with the weights rounded to float32 after each, for `mixed`.
"""

import mpmath
import numpy as np
import pytest
from conftest import EXACT, FIDELITY
from raw_runs import fit

from fastpoly import stability_limit

BOUNDS = {
    # backend, precision: weights relative to max(1, largest), mse relative to max(1, value)
    ("numba", "double"): (1e-9, 1e-11),
    ("gram", "double"): (1e-10, 1e-11),
    ("spectral", "double"): (1e-10, 1e-11),
    ("fused-autograd", "double"): (1e-9, 1e-11),
    ("numba", "mixed"): (2e-7, 2e-7),
    ("gram", "mixed"): (2e-7, 2e-7),
}
CASES = [pytest.param(*case, id="-".join(case)) for case in BOUNDS]
DOUBLE = [pytest.param(b, id=b) for b, precision in BOUNDS if precision == "double"]
SEEDS = range(6)


def note(backend, precision, problem, weights, mse):
    """Hold a deviation against the promised bound, and put it into the table."""
    bounds = BOUNDS[backend, precision]
    FIDELITY.append((backend, precision, problem, weights, bounds[0], mse, bounds[1]))
    assert weights <= bounds[0]
    assert mse <= bounds[1]


def deviation(values, truth):
    truth = np.asarray(truth, float)
    return float((np.abs(values - truth) / np.maximum(1, np.abs(truth))).max())


@pytest.mark.parametrize("backend", DOUBLE)
@pytest.mark.parametrize("name", list(EXACT))
def test_exact_json(name, backend):
    problem = EXACT[name]
    x, y, weights = (np.array(problem[key], float) for key in ("x", "y", "weights"))
    result = fit(x, y, problem["degree"], problem["steps"], problem["learn_rate"], backend=backend)
    steps = [int(step) for step in problem["mse"]]
    mse = deviation(result.mse[steps], [float(value) for value in problem["mse"].values()])
    note(backend, "double", name, float(np.abs(result.weights - weights).max()), mse)


def random_problem(seed):
    """Samples of one to three times as many as weights or more, some of them at the same place; up to degree 7."""
    rng = np.random.default_rng(seed)
    degree = int(rng.integers(0, 8))
    n = int(rng.integers(1, 60))
    x = np.round(rng.uniform(-1.5, 1.5, n), 1 if seed % 2 else 8)
    y = rng.normal(size=n) * 10.0 ** rng.integers(-2, 3)
    return x, y, degree, 0.9 * stability_limit(x, degree), rng.normal(size=degree + 1).astype(np.float32)


def exact_moments(x, y, degree):
    """H, h and y.y in 60 digits."""
    x, y = [mpmath.mpf(float(v)) for v in x], [mpmath.mpf(float(v)) for v in y]
    powers = mpmath.matrix([[v**k for k in range(degree + 1)] for v in x])
    return powers.T * powers, powers.T * mpmath.matrix(y), sum(v * v for v in y)


def exact_mse(w, moments, n):
    matrix, vector, square = moments
    return (square + (w.T * (matrix * w - 2 * vector))[0]) / n


@pytest.mark.parametrize("backend", DOUBLE)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_problems_in_double(seed, backend):
    with mpmath.workdps(60):
        x, y, degree, rate, start = random_problem(seed)
        moments = exact_moments(x, y, degree)
        step = mpmath.mpf(rate) * 2 / len(x)
        # (w, 1) is multiplied by one matrix a step
        affine = mpmath.eye(degree + 2)
        for i in range(degree + 1):
            affine[i, degree + 1] = step * moments[1][i]
            for j in range(degree + 1):
                affine[i, j] -= step * moments[0][i, j]
        steps = 100_000
        kept = [0, 1, 17, 1000, 54_321, steps - 1]
        first = mpmath.matrix([*map(float, start), 1])
        after = {t: (affine**t * first)[: degree + 1] for t in [*kept, steps]}
        truth = [float(exact_mse(mpmath.matrix(after[t]), moments, len(x))) for t in kept]
        weights = np.array([float(v) for v in after[steps]])
    result = fit(x, y, degree, steps, rate, backend=backend, initial_weights=start)
    off = float(np.abs(result.weights - weights).max()) / max(1.0, float(np.abs(weights).max()))
    note(backend, "double", f"random {seed}", off, deviation(result.mse[kept], truth))


@pytest.mark.parametrize("backend", ["numba", "gram"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_problems_in_mixed(seed, backend):
    steps = 400
    with mpmath.workdps(60):
        x, y, degree, rate, start = random_problem(seed)
        moments = exact_moments(x, y, degree)
        step = mpmath.mpf(rate) * 2 / len(x)
        w = mpmath.matrix([float(v) for v in start])
        truth = []
        for _ in range(steps):
            truth.append(float(exact_mse(w, moments, len(x))))
            w = w - step * (moments[0] * w - moments[1])
            w = mpmath.matrix([float(np.float32(float(v))) for v in w])
        weights = np.array([float(v) for v in w])
    result = fit(x, y, degree, steps, rate, backend=backend, precision="mixed", initial_weights=start)
    off = float(np.abs(result.weights - weights).max()) / max(1.0, float(np.abs(weights).max()))
    note(backend, "mixed", f"random {seed}", off, deviation(result.mse, truth))


@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_tall_data(backend):
    """Many blocks, chunks and rows: the sums must not lose with n what they keep for 100 samples."""
    x = np.linspace(0, 5, 100)
    y = np.sin(x)
    times = 20_001  # two million samples, and the weights of a hundred
    result = fit(np.tile(x, times), np.tile(y, times), trace_every=1000, backend=backend)
    truth = np.array(EXACT["post"]["weights"], float)
    mse = deviation(
        result.mse[[0, 1, 10, 100]], [float(EXACT["post"]["mse"][k]) for k in ("0", "1000", "10000", "100000")]
    )
    note(backend, "double", "post, 2,000,100 samples", float(np.abs(result.weights - truth).max()), mse)


@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_a_million_million_steps(backend):
    """At the end of all steps stands least squares, and no rounding error has grown on the way there."""
    x = np.linspace(-1, 1, 40)
    y = np.cos(3 * x)
    result = fit(x, y, 5, 10**12, 0.5, backend=backend, trace_every=10**11)
    assert result.weights == pytest.approx(np.polynomial.polynomial.polyfit(x, y, 5), abs=1e-11)
    assert result.mse.shape == (10,)
    assert result.mse[1:] == pytest.approx(np.mean((y - result.predict(x)) ** 2), rel=1e-10)
