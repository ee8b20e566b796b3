"""The post's comparison, now: every backend on its problem, beside the seconds that it published."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from raw_runs import fit

import fastpoly
from fastpoly._post import REFERENCES, STEPS

POST = json.loads((Path(__file__).parents[1] / "tests/data/post.json").read_text())
PUBLISHED = POST["published_seconds"]["final_table"]
BACKENDS = fastpoly.backends()
RUNS = [
    (backend, precision)
    for backend in BACKENDS
    for precision in backend.precisions
    if not backend.name.endswith("-gpu") and backend.name not in ("cudagraph", "triton")  # make gpu
    if backend.name not in PUBLISHED or precision == ("mixed" if backend.name == "numpy" else "single")  # as posted
]
STEP_SECONDS = {"numpy": 5e-5, "torch": 1e-4, "torch-autograd": 2e-4}
"""About; it only sets how many steps a slow loop runs."""


@pytest.mark.benchmark(group="post")
@pytest.mark.parametrize(("backend", "precision"), RUNS, ids=[f"{b.name}-{precision}" for b, precision in RUNS])
def test_backend(benchmark, timing, not_measured, post, quick, backend, precision):
    if not backend.available:
        not_measured(f"{backend.name} {precision}", backend.unavailable)
    if backend.name == "compile" and quick:
        not_measured(f"compile {precision}", "a quick run: it compiles for ten seconds")
    if backend.name == "compile" and not benchmark.enabled:
        pytest.skip("it compiles for ten seconds; tests/ show that it is right")
    steps = _steps(backend.name, benchmark, quick)

    def run(steps=steps):
        return fit(*post, steps=steps, backend=backend.name, precision=precision)

    result = run()
    started = time.perf_counter()
    if steps < STEPS and benchmark.enabled:
        run(1)  # what does not grow with the steps: torch.compile's cache is looked through anew in every call
    fixed = time.perf_counter() - started
    off, tolerance = deviation(result, post, precision)
    assert off <= tolerance
    timing(
        run,
        name=backend.name,
        backend=backend.name,
        precision=precision,
        steps_run=steps,
        fixed=fixed,
        deviation=off,
        deviation_of="weights",
        published=PUBLISHED.get(backend.name),
    )


def _steps(name, benchmark, quick):
    """All of them; for a slow loop as many as take half a second, a tenth in a quick run."""
    if not benchmark.enabled:
        return 200 if name in STEP_SECONDS else STEPS
    if name == "compile":
        return STEPS // 10
    seconds = STEP_SECONDS.get(name)
    return STEPS if seconds is None else int((0.1 if quick else 1) / seconds)


def deviation(result, post, precision):
    """How far the weights are from where a run of so many steps must end, and how far is still right."""
    expected = REFERENCES[precision]
    if result.steps == STEPS:
        weights = np.array(expected.weights)
    else:
        weights = fit(*post, steps=result.steps, backend="numba", precision=precision, trace_every=None).weights
    return float(np.abs(result.weights - weights).max()), expected.tolerance
