"""How long from nothing to weights? Fresh processes, caches warm and empty, beside numpy's loop and JAX."""

import itertools
import time
from importlib.util import find_spec

import processes
import pytest
from raw_runs import fit

from fastpoly._post import REFERENCES, STEPS

SAMPLES = "import numpy as np; x = np.linspace(0, 5, 100); y = np.sin(x); "
COLUMNS = SAMPLES + "x, y = x.reshape(-1, 1), y.reshape(-1, 1); "
FIT = (
    SAMPLES + "from fastpoly import fit; "
    "print(fit(x, y, 4, {steps}, 1e-5, domain=None, backend={backend!r}, precision={precision!r}).weights[2])"
)
TRAIN = COLUMNS + "from fastpoly import train; print(train(x, y)['w'][2, 0])"
LOOP = COLUMNS + "from fastpoly.reference import train; print(train(x, y, nSteps={steps})['w'][2, 0])"
JAX = """
import numpy as np, jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", {x64})
jax.config.update("jax_default_matmul_precision", "highest")
x = np.linspace(0, 5, 100, dtype={dtype!r})
y, powers = np.sin(x), x[:, None] ** np.arange(5, dtype=x.dtype)
def step(w, _):
    mse, gradient = jax.value_and_grad(lambda w: ((y - powers @ w) ** 2).mean())(w)
    return w - 1e-5 * gradient, mse
w, trace = jax.jit(lambda w: jax.lax.scan(step, w, None, length={steps}))(jnp.zeros(5, x.dtype))
trace.block_until_ready()
print(float(w[2]))
"""
DTYPES = {"double": "float64", "single": "float32"}
CACHES = ("NUMBA_CACHE_DIR", "FASTPOLY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
NO_JAX = "JAX is not installed; pip install 'fastpoly[bench]'"


@pytest.fixture
def process(tmp_path):
    """process(code, cache): a function that runs it in a fresh interpreter and returns what it prints.

    `cache` is "warm", this machine's own caches, or "empty", new folders every time.
    """
    folders = (tmp_path / str(i) for i in itertools.count())

    def of(code, cache="warm"):
        def run():
            caches = {name: str(next(folders)) for name in CACHES} if cache == "empty" else {}
            return processes.output_of(code, **caches)

        return run

    return of


# -- to the first result
# ----------------------------------------------------------------------------------------


def seconds(run):
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.benchmark(group="cold")
@pytest.mark.parametrize(
    ("name", "code", "precision", "cache"),
    [
        ("train()", TRAIN, "mixed", "warm"),
        slow("train()", TRAIN, "mixed", "empty"),
        ("spectral", FIT, "double", "warm"),
        slow("gram", FIT, "double", "warm"),
        slow("gram", FIT, "double", "empty"),
        slow("numba", FIT, "single", "warm"),
        slow("numba", FIT, "single", "empty"),
        slow("fused-autograd", FIT, "single", "warm"),
        slow("fused-autograd", FIT, "single", "empty"),
        slow("compile", FIT, "single", "warm"),
        slow("compile", FIT, "single", "empty"),
        slow("JAX", JAX, "single", "warm"),
        slow("JAX", JAX, "double", "warm"),
        ("numpy", LOOP, "mixed", "warm"),
    ],
)
def test_process(benchmark, timing, not_measured, process, post, name, code, precision, cache):
    """JAX keeps nothing on disk unless it is told to, and numpy's loop has nothing to keep: one row each."""
    if name == "JAX" and find_spec("jax") is None:
        not_measured(f"JAX {precision}: fresh process", NO_JAX)
    if not benchmark.enabled and (cache == "empty" or name not in ("train()", "spectral", "numpy")):
        pytest.skip("takes seconds, and others run this code in a fresh process")
    # numpy's loop, for which 200,000 steps are 10 s
    steps = STEPS // 40 if name == "numpy" else STEPS
    blanks = {"backend": name, "precision": precision, "dtype": DTYPES.get(precision), "x64": precision == "double"}
    run = process(code.format(steps=steps, **blanks), cache)
    expected = REFERENCES[precision].weights[2]
    if steps < STEPS:
        expected = fit(*post, steps=steps, precision=precision).weights[2]
    off = []

    def checked():  # each process is as fresh as the first: none runs for its answer alone
        off.append(float(abs(float(run()) - expected)))
        assert off[-1] <= REFERENCES[precision].tolerance

    if cache == "warm" and benchmark.enabled:
        checked()  # it fills them
    imports = process(code.format(steps=1, **blanks))
    timing(
        checked,
        name=f"{name}, {cache} caches" if name not in ("JAX", "numpy") else name,
        backend=name,
        precision=precision,
        steps_run=steps,
        fixed=seconds(imports) if steps < STEPS and benchmark.enabled else 0.0,
        rounds=1 if name == "compile" else 5,
        budget=2,
        cache=cache,
        deviation=lambda: max(off),
        deviation_of="weights",
    )


# -- bars
# ----------------------------------------------------------------------------------------


@pytest.mark.benchmark(group="bars")
def test_train_against_importing_numba(versus, not_measured, process):
    if find_spec("numba") is None:
        not_measured(
            "process: train() / process: import numba", "numba is not installed; pip install 'fastpoly[bench]'"
        )
    assert float(process(TRAIN)()) == pytest.approx(0.26351294, abs=2e-7)
    versus(("process: train()", process(TRAIN)), ("process: import numba", process("import numba")), at_most=1)


@pytest.mark.benchmark(group="bars")
def test_train_against_jax(versus, not_measured, process):
    name = "process: JAX, the post's problem"
    if find_spec("jax") is None:
        not_measured(f"process: train() / {name}", NO_JAX)
    jax = process(JAX.format(steps=STEPS, dtype="float32", x64=False))
    assert float(jax()) == pytest.approx(REFERENCES["single"].weights[2], abs=REFERENCES["single"].tolerance)
    versus(("process: train()", process(TRAIN)), (name, jax), rounds=5, at_most=1)


@pytest.mark.benchmark(group="bars")
def test_import_against_importing_numpy(versus, process):
    versus(
        ("process: import fastpoly", process("import fastpoly")),
        ("process: import numpy", process("import numpy")),
        rounds=21,
        at_most=1.2,
    )
