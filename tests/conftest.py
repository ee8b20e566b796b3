"""What the tests share: the post's problem, the reference facts, and the marker for a GPU."""

import importlib.util
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import plans
import pytest
from machine_code_gpu import interpret

DATA = Path(__file__).parent / "data"
POST = json.loads((DATA / "post.json").read_text())
EXACT = json.loads((DATA / "exact.json").read_text())
FIDELITY = []
"""What test_fidelity measured: backend, precision, problem, deviation and bound of the weights, and of the mse."""


def pytest_ignore_collect(collection_path, config):
    """`-m gpu` imports only the files that have such tests: others need packages that a machine with a GPU may lack."""
    if config.option.markexpr == "gpu" and collection_path.suffix == ".py":
        return True if "pytest.mark.gpu" not in collection_path.read_text() else None
    return None


def pytest_addoption(parser):
    parser.addoption("--fidelity", type=Path, metavar="FILE", help="write what test_fidelity measured, for the report")


def pytest_collection_modifyitems(items):
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


def pytest_sessionfinish(session):
    file = session.config.option.fidelity
    if hasattr(session.config, "workeroutput"):  # one of several processes (pytest -n)
        session.config.workeroutput["fidelity"] = FIDELITY
    elif file and FIDELITY and session.testsfailed == 0:
        file.write_text(json.dumps({"fidelity": largest_deviations()}, indent=1) + "\n")


def largest_deviations():
    """A row for each backend and precision that test_fidelity looked at."""
    rows = []
    for backend, precision in dict.fromkeys(row[:2] for row in FIDELITY):
        _, _, problems, weights, weights_bounds, mse, mse_bounds = zip(
            *(row for row in FIDELITY if row[:2] == (backend, precision)), strict=True
        )
        rows.append(
            {
                "backend": backend,
                "precision": precision,
                "problems": len(set(problems)),
                "weights": max(weights),
                "weights_bound": weights_bounds[0],
                "mse": max(mse),
                "mse_bound": mse_bounds[0],
            }
        )
    return rows


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    FIDELITY.extend(getattr(node, "workeroutput", {}).get("fidelity", []))


def pytest_terminal_summary(terminalreporter):
    if not FIDELITY:
        return
    terminalreporter.section("largest deviation from the truth (bound), over all problems")
    for row in largest_deviations():
        weights = "weights {weights:.0e} ({weights_bound:.0e})".format(**row)
        mse = "mse {mse:.0e} ({mse_bound:.0e})".format(**row)
        terminalreporter.write_line(f"{row['backend']:14} {row['precision']:7} {weights}  {mse}")


@pytest.fixture(scope="session", autouse=True)
def kernels_of_the_tests(request, tmp_path_factory):
    """Kernels are kept in a folder beside pytest's own cache, for all its processes and the next session; Triton's in
    one of this session. The user's caches are neither read nor written."""
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("fastpoly-kernels") if cache is not None else tmp_path_factory.mktemp("kernels")
    folder.chmod(0o700)
    for found in (*folder.glob("*.choice"), *folder.glob("*.machine")):  # what `auto` takes is the session's own affair
        found.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTPOLY_CACHE_DIR", str(folder))
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.fixture(scope="session", autouse=True)
def every_plan_is_in_order():
    """Of whatever is fused in this process: see `plans`; and of whatever is printed for a compiler: see `verify`."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        plans.watch(patch)
        verify_kernels(patch)
        yield


def verify_kernels(patch):
    from fastpoly._fuse import machine, traced
    from fastpoly._fuse.verify import verify

    def verified(printed):
        def of(kernel, *rest):
            verify(kernel)
            return printed(kernel, *rest)

        return of

    patch.setattr(machine, "Text", verified(machine.Text))
    patch.setattr(traced, "to_triton", verified(traced.to_triton))


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """Whoever runs the tests may have one, whose width is in the environment; the command line would wrap its lines."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def every_warning_is_new():
    """Those that come once in a process come once in a test."""
    if "fastpoly._warn" in sys.modules:
        sys.modules["fastpoly._warn"].forget()


@pytest.fixture(scope="session")
def interpreted():
    """interpreted(function, *arguments): what function(*arguments) returns or raises in a process where Triton
    interprets its kernels: they run on tensors of the CPU. One process for the session; what goes in and comes out is
    pickled, so the function stands at the top of a module. See `machine_code_gpu`."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, interpret) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


@pytest.fixture(scope="session")
def post():
    """The post's problem: x and y = sin(x) as (100, 1) columns."""
    x = np.linspace(0, 5, 100).reshape(-1, 1)
    return x, np.sin(x)


@pytest.fixture
def small():
    """25 samples and a cubic that fits them: quick in every backend, and no multiple of any vector's lanes."""
    x = np.linspace(-1, 1, 25)
    return x, 1 - 2 * x + 0.5 * x**3


def exact_descent(x, y, degree, steps, learn_rate):
    """Weights and every mse by the post's recurrence in rational arithmetic, without any rounding. Slow."""
    x, y, rate = [Fraction(float(v)) for v in x], [Fraction(float(v)) for v in y], Fraction(float(learn_rate))
    w = [Fraction(0)] * (degree + 1)
    mse = []
    for _ in range(steps):
        r = [yi - sum(wk * xi**k for k, wk in enumerate(w)) for xi, yi in zip(x, y, strict=True)]
        mse.append(float(sum(ri * ri for ri in r) / len(x)))
        w = [wk + rate * 2 / len(x) * sum(ri * xi**k for xi, ri in zip(x, r, strict=True)) for k, wk in enumerate(w)]
    return [float(v) for v in w], mse


@pytest.fixture
def made(tmp_path, monkeypatch):
    """made(lines or bytes, name): a file in a new folder, and we are in it."""
    monkeypatch.chdir(tmp_path)

    def make(content, name="made.csv", encoding="utf-8"):
        if isinstance(content, list):
            content = "\n".join(content) + "\n"
        file = Path(name)
        file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return file

    return make
