"""A plug-in of pytest: each test's end as a row, and no test that an earlier run has ended.

`pytest -p gpu.ends_of_tests --gpu-rows FILE --gpu-done FILE`.
"""

from pathlib import Path

from .book import RIGHT
from .rows import Writer


def pytest_addoption(parser):
    group = parser.getgroup("make gpu")
    group.addoption("--gpu-rows", help="where rows go")
    group.addoption("--gpu-done", help="a file of the tests to leave out")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # of several processes the one that hears of every test
        config.pluginmanager.register(_Ends(Writer(Path(config.option.gpu_rows))))


def pytest_collection_modifyitems(config, items):
    done = set(Path(config.option.gpu_done).read_text().splitlines())
    left_out = [item for item in items if item.nodeid in done]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.nodeid not in done]


class _Ends:
    """Writes the end of each test: that of its call, or of what failed or was skipped around it."""

    def __init__(self, write):
        self._write = write

    def pytest_collectreport(self, report):
        if report.failed:  # a file that cannot be imported: something is not installed
            self._write({"unit": report.nodeid, "ended": "failed", "error": _last_line(report)})

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self._write({"unit": report.nodeid, "ended": "failed", "error": _last_line(report)})
        elif report.skipped:
            self._write({"unit": report.nodeid, "ended": "not measured", "reason": str(report.longrepr)[-200:]})
        elif report.when == "call":
            self._write({"unit": report.nodeid, "ended": RIGHT, "took": round(report.duration, 3)})


def _last_line(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).strip()[:300]
