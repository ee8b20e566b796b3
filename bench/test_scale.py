"""How does time grow with samples, degree, problems and steps, and where does a faster method overtake?

The exponents and the crossings are computed from the rows, by bench/report/curves.py.
"""

import numpy as np
import pytest
from growing import PRECISION, samples
from raw_runs import fit, fit_many

from fastpoly import stability_limit
from fastpoly._memory import available_bytes
from fastpoly._post import LEARN_RATE, STEPS

pytestmark = pytest.mark.benchmark(group="scale")

SIZES = {
    "n": {
        "gram": (2, 8),
        "spectral": (2, 7),
        "numba": (2, 8),
        "fused-autograd": (2, 7),
        "JAX": (2, 5),
        "numpy": (2, 6),
        "torch-autograd": (2, 6),
    },
    "batch": {
        "spectral, one x": (0, 5),
        "spectral": (0, 5),
        "gram": (0, 3),
        "numba": (0, 3),
        "fit in a loop": (0, 3),
    },
    "steps": {
        "gram": (3, 9),
        "spectral": (3, 9),
        "numba": (3, 7),
        "fused-autograd": (3, 7),
        "JAX": (3, 6),
        "numpy": (3, 4),
        "torch-autograd": (3, 4),
    },
}
"""The powers of ten from which to which each is measured. A loop ends where it would run for seconds."""

DEGREES = (1, 2, 4, 8, 16)
OF_DEGREE = ("gram", "spectral", "numba", "fused-autograd", "numpy", "torch-autograd")


def pytest_generate_tests(metafunc):
    """Every size of an axis, its data made once; quick runs take two of them and no JAX, the answers the smallest."""
    options = metafunc.config.option
    axis = metafunc.function.__name__.removeprefix("test_")
    if axis == "degree":
        sizes = DEGREES[:2] if options.benchmark_disable else DEGREES[:3:2] if options.quick else DEGREES
        cases = [(size, backend) for size in sizes for backend in OF_DEGREE]
    else:
        powers = range(min(first for first, _ in SIZES[axis].values()), 10)
        first = powers[: 1 if axis == "steps" else 2]
        powers = first if options.benchmark_disable else powers[:4:3] if options.quick else powers
        cases = [(10**p, name) for p in powers for name, (first, last) in SIZES[axis].items() if first <= p <= last]
        cases = [case for case in cases if not options.quick or case[1] != "JAX"]  # which compiles for each
    metafunc.parametrize(("size", "backend"), cases, ids=[f"{size:.0e}-{name}" for size, name in cases])


def by_jax(jax_zoo, steps, n):
    return np.ravel(jax_zoo.descent("polynomial", "double", steps, 1, n)()[0])


@pytest.mark.what("{backend}, {size:,} samples")
def test_n(grown, not_measured, request, size, backend):
    free = available_bytes()
    if free is not None and 3 * 16 * size > free:  # x, y, and room to check them
        not_measured(f"{backend}, {size:,} samples", "not enough memory here")
    x, y = samples(size)

    def run(steps):
        return fit(x, y, steps=steps, backend=backend, precision=PRECISION.get(backend, "double")).weights

    if backend == "JAX":
        jax_zoo = request.getfixturevalue("jax_zoo")

        def run(steps):
            return by_jax(jax_zoo, steps, size)

    grown(run, _expected(x, y, backend), "n", backend, steps=STEPS, n=size)


def _expected(x, y, backend, **options):
    """The same by another method: from the moments, or where those are measured, from singular values."""
    precision = PRECISION.get(backend, "double")
    other = "spectral" if backend == "gram" else "gram"

    def weights(steps):
        return fit(x, y, steps=steps, backend=other, precision=precision, trace_every=None, **options).weights

    return weights


def test_degree(grown, size, backend):
    x = np.linspace(-1, 1, 100)  # where a high degree needs no small learn rate
    y, rate = np.sin(3 * x), 0.5 * stability_limit(x, size)
    options = {"degree": size, "learn_rate": rate}

    def run(steps):
        precision = PRECISION.get(backend, "double")
        return fit(x, y, steps=steps, backend=backend, precision=precision, **options).weights

    grown(run, _expected(x, y, backend, **options), "degree", backend, steps=STEPS, degree=size)


def test_batch(grown, size, backend):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 5, 100)
    y = np.sin(x) + 0.1 * rng.normal(size=(size, 100))
    own = "one x" not in backend
    xs = x * (1 - 1e-3 * rng.random((size, 1))) if own else x
    method = backend.partition(",")[0]
    few = range(0, size, -(-size // 10))

    def run(steps):
        if backend == "fit in a loop":
            rows = zip(xs, y, strict=True)
            return np.array([fit(*row, steps=steps, trace_every=None).weights for row in rows])[list(few)]
        return fit_many(xs, y, 4, steps, LEARN_RATE, backend=method).weights[list(few)]

    def expected(steps):
        other = "spectral" if method == "gram" else "gram"
        alone = (fit(xs[i] if own else x, y[i], steps=steps, backend=other, trace_every=None) for i in few)
        return np.array([result.weights for result in alone])

    grown(run, expected, "batch", backend, steps=STEPS, batch=size, method=method)


@pytest.mark.what("{backend}, {size:,} steps")
def test_steps(grown, request, size, backend):
    x, y = samples(100)
    every = max(1, size // 1000)

    def run(steps):
        precision = PRECISION.get(backend, "double")
        return fit(x, y, steps=steps, backend=backend, precision=precision, trace_every=every).weights

    if backend == "JAX":
        jax_zoo = request.getfixturevalue("jax_zoo")

        def run(steps):
            return by_jax(jax_zoo, steps, 100)

    grown(run, _expected(x, y, backend), "steps", backend, steps=size, exactly=True)
