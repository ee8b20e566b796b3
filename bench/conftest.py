"""How fastpoly is measured: the answer is asserted first, then time is taken, and every figure is a row of a table.

`timing` measures one thing. `versus` is the only way to a ratio: it alternates both sides, so that whatever else the
machine does falls on both, and holds the ratio of their medians against a bar. `limits` is for what is not a time of
one run. A bar that is missed is shown, not failed: this is a measurement. What cannot be measured here (no JAX, no
compiler) is skipped by `not_measured` and listed with its reason.

The test has called what it measures before, for the answer: it is warm. With `--benchmark-disable` each function runs
once, for a few steps. `--quick` makes fewer rounds and leaves out what is marked slow. `--results` writes the file that
bench/results_file.py describes. What needs a GPU is measured by `make gpu`, which is no test: see bench/gpu/.
"""

import importlib.util
import statistics
import time
from dataclasses import dataclass

import pytest
import results_file
import tables
from growing import grown  # noqa: F401  (a fixture)

from fastpoly._post import STEPS, samples

ROWS = pytest.StashKey[list]()
NOT_MEASURED = pytest.StashKey[list]()


def pytest_addoption(parser):
    group = parser.getgroup("fastpoly")
    group.addoption("--quick", action="store_true", help="fewer rounds, and nothing that is marked slow")
    group.addoption("--results", action="store_true", help="write bench/results/<machine>.json, or quick.json")


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark reads its options
def pytest_configure(config):
    config.stash[ROWS], config.stash[NOT_MEASURED] = [], []
    if not config.option.benchmark_verbose and not config.option.benchmark_compare:
        config.option.benchmark_quiet = True  # our tables instead of its own
    if config.option.results:
        results_file.FOLDER.mkdir(exist_ok=True)
        path = results_file.path(results_file.processor(), config.option.quick)
        config.option.benchmark_json = results_file.Destination(path)


def pytest_collection_modifyitems(config, items):
    if config.option.quick:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def _group(item):
    marker = item.get_closest_marker("benchmark")
    return marker.kwargs.get("group") if marker else None


def _readable(item):
    marker = item.get_closest_marker("what")
    if marker:
        return marker.args[0].format(**(item.callspec.params if hasattr(item, "callspec") else {}))
    return item.name.removeprefix("test_").replace("_", " ")


def _list_not_measured(item, name, reason):
    item.config.stash[NOT_MEASURED].append({"name": name, "group": _group(item), "reason": reason})


@pytest.fixture
def not_measured(request):
    """not_measured(name, reason): list it as such, and end the test."""

    def skip(name, reason):
        _list_not_measured(request.node, name, reason)
        pytest.skip(reason)

    return skip


@pytest.fixture(scope="session")
def quick(request):
    """Is this a run of two minutes?"""
    return request.config.option.quick


@pytest.fixture(scope="session")
def post():
    """The post's problem as vectors."""
    x, y = samples()
    return x.ravel(), y.ravel()


@pytest.fixture
def jax_zoo(request, not_measured):
    """bench/jax_zoo.py, or the test is listed as not measured."""
    if importlib.util.find_spec("jax") is None:
        not_measured(_readable(request.node), "JAX is not installed; pip install 'fastpoly[bench]'")
    import jax_zoo

    return jax_zoo


@pytest.fixture
def record(request, benchmark):
    """record(**what): put it into the result file's `extra_info`, and into the tables."""

    def note(**what):
        what["device"] = results_file.processor()
        benchmark.extra_info.update(what)
        if benchmark.enabled:
            request.config.stash[ROWS].append(what | {"group": _group(request.node)})

    return note


@pytest.fixture
def timing(request, benchmark, record):
    """timing(function, name=, backend=, ...): the median seconds of a function that was called before.

    Args:
        function: of no arguments.
        name, backend: for the reader, and which one it is.
        precision, model, n, degree, batch, steps: the work that it does.
        steps_run: how many steps it truly takes, if fewer; the seconds are scaled.
        fixed: seconds of it that do not grow with the steps.
        rounds: at most; fewer, but at least three, if together they would take longer than `budget` seconds, a quarter
            of that in a quick run; one if one alone takes longer.
        more: whatever else the row tells: deviation, deviation_of, published, memory_mib, axis, different_method; a
            function for what is known afterwards.
    """

    def run(
        function,
        *,
        name,
        backend,
        precision="double",
        model="post",
        n=100,
        degree=4,
        batch=1,
        steps=STEPS,
        steps_run=None,
        fixed=0.0,
        rounds=15,
        budget=2.0,
        **more,
    ):
        steps_run = steps if steps_run is None else steps_run
        if benchmark.enabled and rounds > 1:
            started = time.perf_counter()
            function()
            once = time.perf_counter() - started
            few = budget / 4 if request.config.option.quick else budget
            rounds = int(min(rounds, max(few / once, 3 if once < few else 1)))
        benchmark.pedantic(function, rounds=rounds)
        if not benchmark.enabled:
            return
        median = benchmark.stats.stats.median
        seconds = median if steps == steps_run else fixed + max(median - fixed, 0.0) * steps / steps_run
        if steps != steps_run:
            name = f"{name} (from {steps_run:,} steps)"
        record(
            kind="timing",
            name=name,
            backend=backend,
            precision=precision,
            model=model,
            n=n,
            degree=degree,
            batch=batch,
            steps=steps,
            steps_run=steps_run,
            seconds=seconds,
            ns_per_step=1e9 * seconds / steps if steps else None,
            **{key: value() if callable(value) else value for key, value in more.items()},
        )

    return run


@dataclass(frozen=True)
class Ratio:
    """of / to; it holds when it is at least, or at most, the bar."""

    of: str
    to: str
    ratio: float
    bar: float
    at_most: bool
    seconds_of: float
    seconds_to: float

    @property
    def holds(self):
        return self.ratio <= self.bar if self.at_most else self.ratio >= self.bar


@pytest.fixture
def versus(request, benchmark, record):
    """versus(of, to, rounds=, inner=, times=, at_least= or at_most=, source=): time two (name, function) in turn.

    Each round calls each side `inner` times; its seconds are multiplied by `times` (for what is extrapolated). `source`
    says who set the bar. pytest-benchmark keeps one call a round of the side that is ours.
    """

    def run(
        of, to, *, rounds=9, inner=(1, 1), times=(1, 1), at_least=None, at_most=None, source="docs/bars.md: promises"
    ):
        bar, most = (at_most, True) if at_least is None else (at_least, False)
        functions = of[1], to[1]
        ours = 0 if most else 1
        seconds = ([], [])

        def take(side):
            started = time.perf_counter()
            functions[side]()
            seconds[side].append(time.perf_counter() - started)

        def before():
            for side in (0, 1):
                for _ in range(inner[side] - (side == ours) if benchmark.enabled else side != ours):
                    take(side)

        if benchmark.enabled and request.config.option.quick:
            rounds = min(rounds, 3)
        benchmark.pedantic(lambda: take(ours), setup=before, rounds=rounds)
        medians = [statistics.median(s) * factor for s, factor in zip(seconds, times, strict=True)]
        row = Ratio(of[0], to[0], medians[0] / medians[1], bar, most, *medians)
        record(
            kind="ratio",
            of=row.of,
            to=row.to,
            ratio=row.ratio,
            bar=bar,
            at_most=most,
            holds=row.holds,
            seconds_of=row.seconds_of,
            seconds_to=row.seconds_to,
            source=source,
        )
        return row

    return run


@pytest.fixture
def limits(record):
    """limits(name, value, limit, unit, source=): a row of the table for what is not a time of one run.

    The test measures it, and calls `benchmark.pedantic`, or else pytest-benchmark does not keep the row.
    """

    def run(name, value, limit, unit, source="docs/bars.md: promises"):
        name = name.rstrip(":")
        record(
            kind="limit",
            name=name,
            value=value,
            limit=limit,
            unit=unit,
            at_most=True,
            holds=value <= limit,
            source=source,
        )

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config, output_json):
    results_file.complete(output_json, results_file.processor(), config.option.quick, config.stash[NOT_MEASURED])


def pytest_terminal_summary(terminalreporter, config):
    for title, lines in tables.all_of(config.stash[ROWS], config.stash[NOT_MEASURED]):
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
